"""Which server processes live, what each has loaded, and what they are asked to load.

REGISTRY/servers/<id>.json     what one server says of itself; replaced whole at each change
REGISTRY/servers/<id>.lock     held by that server for as long as it lives
REGISTRY/servers/<id>.slow.json  its slowest requests of late; see `slow.py`
REGISTRY/servers/<version>.verified.json  when a release was hashed; see `verified.py`
REGISTRY/servers/wanted.json   versions to be loaded though no label points at them
REGISTRY/servers/lock          held while a label moves, a server joins, or wanted.json changes

The system lets go of a dead process's lock, so anybody can tell a living server from what a dead
one has left behind. All of it is about processes that run now: nothing here need outlive a power
cut, and the whole directory may be deleted while no server runs.
"""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Self

import msgspec

from upnext.errors import ReleaseError

WANTED = "wanted.json"
LOCK = "lock"

State = Literal["loading", "ready", "draining", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRelease:
    """How one release fares in one server.

    loading → ready → draining → gone, and then it is listed no more; or failed, for `cause`.
    `load_time_s`: how long it took to become ready, and `num_tried` requests that it answered
    meanwhile. `num_running`: answers that are under way, told of a draining one.
    """

    version: int
    state: State
    cause: str = ""
    load_time_s: float | None = None
    num_tried: int | None = None
    num_running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """What one server process says of itself.

    `labels`: by label, the version that answers. `followed`: by label, the line of the journal
    up to which this server has done what it could. `num_asks`: how many asks of `wanted.json` it
    has seen. `problems`: why something is not as the registry wants it, by label.
    """

    server: str
    pid: int
    started_at_ms: int
    releases: tuple[HeldRelease, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    followed: Mapping[str, int] = field(default_factory=dict)
    num_asks: int = 0
    problems: Mapping[str, str] = field(default_factory=dict)

    def release(self, version: int) -> HeldRelease | None:
        """How a release fares there; None where it is not held."""
        return next((held for held in self.releases if held.version == version), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Somebody asks the servers to hold a version, until a time in ms UTC; None: for good."""

    number: int
    version: int
    until_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """All asks that stand, and how many there have been."""

    num_asks: int = 0
    asks: tuple[Ask, ...] = ()

    def versions(self, at_ms: int) -> set[int]:
        """The versions that are asked for at a time."""
        return {ask.version for ask in self.asks if ask.until_ms is None or ask.until_ms > at_ms}


class Presence:
    """That this process serves a registry: a status that others can read while it lives.

    Made after a fork, never before: a child would keep its parent's lock. Use `join`.
    """

    def __init__(self, registry: Path, lock: BinaryIO, status: ServerStatus) -> None:
        self._path = servers_path(registry) / f"{status.server}.json"
        self._lock = lock
        self._status = status
        self.tell(status)

    @classmethod
    def join(cls, registry: Path) -> Self:
        """Becomes one of the living servers, between two moves of labels and not during one.

        Raises: ReleaseError: the registry cannot be written to.
        """
        directory = servers_path(registry)
        with moving(registry):
            while True:
                server = f"{os.getpid()}-{secrets.token_hex(4)}"
                lock = (directory / f"{server}.lock").open("xb")
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Whoever looked in between took us for dead and cleared our traces away.
                if (directory / f"{server}.lock").exists():
                    break
                lock.close()
            started_at_ms = time.time_ns() // 1_000_000
            status = ServerStatus(server=server, pid=os.getpid(), started_at_ms=started_at_ms)
            return cls(registry, lock, status)

    @property
    def status(self) -> ServerStatus:
        """What was told last."""
        return self._status

    def tell(self, status: ServerStatus) -> None:
        """Replaces what others read of this process."""
        self._status = status
        replace_whole(self._path, msgspec.json.encode(status))

    def leave(self) -> None:
        """Is no living server any longer."""
        _remove(self._path.with_suffix(".lock"))
        self._lock.close()


def servers_path(registry: Path) -> Path:
    """Where servers meet."""
    return registry / "servers"


def read_servers(registry: Path) -> list[ServerStatus]:
    """The living servers, oldest first; what dead ones left behind is cleared away."""
    living = []
    for path in servers_path(registry).glob("*-*.lock"):
        if _is_dead(path):
            continue
        with contextlib.suppress(FileNotFoundError):  # it has not told yet, or has just left
            content = path.with_suffix(".json").read_bytes()
            living.append(msgspec.json.decode(content, type=ServerStatus))
    return sorted(living, key=lambda status: (status.started_at_ms, status.server))


@contextlib.contextmanager
def moving(registry: Path) -> Iterator[None]:
    """Keeps others from moving a label, joining or asking meanwhile; only ever for moments.

    Raises: ReleaseError: the registry is missing or cannot be written to.
    """
    try:
        if registry.is_dir():
            servers_path(registry).mkdir(exist_ok=True)
        lock = (servers_path(registry) / LOCK).open("ab")
    except OSError as error:
        raise ReleaseError(
            str(registry), expected="a registry that can be written to", got=str(error)
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_wanted(registry: Path) -> Wanted:
    """What servers are asked to load beside what labels need.

    Raises: ReleaseError: the file is damaged.
    """
    path = servers_path(registry) / WANTED
    try:
        return msgspec.json.decode(path.read_bytes(), type=Wanted)
    except FileNotFoundError:
        return Wanted()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        hint = "delete it; at worst a version has to be loaded once more."
        raise ReleaseError(str(path), expected="asks", got=str(error), hint=hint) from None


def ask_for(registry: Path, version: int, *, until_ms: int | None = None) -> Ask:
    """Asks all servers to hold a version; one that failed to load it tries again."""
    with moving(registry):
        wanted = read_wanted(registry)
        ask = Ask(number=wanted.num_asks + 1, version=version, until_ms=until_ms)
        _write_wanted(registry, wanted, ask.number, (*wanted.asks, ask))
    return ask


def take_back(registry: Path, ask: Ask) -> None:
    """Ends an ask; who else asks for that version, or which label points at it, still counts."""
    with moving(registry):
        wanted = read_wanted(registry)
        rest = tuple(other for other in wanted.asks if other.number != ask.number)
        _write_wanted(registry, wanted, wanted.num_asks, rest)


def take_back_lasting(registry: Path, version: int) -> bool:
    """Ends all asks for a version that had no end; says whether there were any.

    To be called while `moving`.
    """
    wanted = read_wanted(registry)
    rest = tuple(ask for ask in wanted.asks if ask.version != version or ask.until_ms is not None)
    _write_wanted(registry, wanted, wanted.num_asks, rest)
    return len(rest) < len(wanted.asks)


def _write_wanted(registry: Path, before: Wanted, num_asks: int, asks: tuple[Ask, ...]) -> None:
    now_ms = time.time_ns() // 1_000_000
    standing = tuple(ask for ask in asks if ask.until_ms is None or ask.until_ms > now_ms)
    wanted = Wanted(num_asks=num_asks, asks=standing)
    if wanted != before:
        replace_whole(servers_path(registry) / WANTED, msgspec.json.encode(wanted))


def _is_dead(lock_path: Path) -> bool:
    """Whether nobody holds a server's lock; its leftovers are removed then."""
    try:
        lock = lock_path.open("rb")
    except FileNotFoundError:
        return True
    with lock:
        try:
            # Shared, so that two who look at once do not take each other for the server.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with contextlib.suppress(PermissionError):  # who may only read leaves it to others
            _remove(lock_path)
        return True


def _remove(lock_path: Path) -> None:
    """All that a server has told, its lock last."""
    for path in lock_path.parent.glob(f"{lock_path.stem}.*"):
        if path != lock_path:
            path.unlink(missing_ok=True)
    lock_path.unlink(missing_ok=True)


def replace_whole(path: Path, content: bytes) -> None:
    """Writes a file so that whoever reads it finds what it was or what it is, and no half."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)
