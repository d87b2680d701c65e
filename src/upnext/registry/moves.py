"""A label moves, top to bottom: load → ready everywhere → label → followed everywhere.

Whoever moves a label, by command line, HTTP or Python, does it here, with one or several server
processes or with none. What happens if somebody dies on the way:

- a server: it is waited for no longer, since the system has let go of its lock;
- the mover before the line is written: the label never moved, and what was asked for lapses;
- the mover afterwards: the label has moved, and servers follow without it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from upnext.errors import ReleaseError
from upnext.registry.journal import (
    LabelConflictError,
    LabelMove,
    Previous,
    check_expected,
    check_label,
    rollback_of,
)
from upnext.registry.labels import append_followed, append_move, append_rollback, read_standings
from upnext.registry.release import open_release
from upnext.registry.servers import (
    Ask,
    ServerStatus,
    ask_for,
    moving,
    read_servers,
    read_wanted,
    take_back,
    take_back_lasting,
)
from upnext.registry.verified import open_verified, verify_once

LOAD_TIMEOUT_S = 600.0
"""How long servers may take until a release is ready."""
FOLLOW_TIMEOUT_S = 10.0
"""How long servers may take to follow a label to a release that is ready."""

_LOOK_EVERY_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was done, and how many seconds after the beginning it was."""

    what: str
    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A move as the journal has it, and the steps that made it."""

    move: LabelMove
    steps: Sequence[Step]


class NotFollowedError(ReleaseError):
    """The label has moved in the journal, and not every server has followed."""


def move_label(
    registry: Path,
    label: str,
    version: int,
    *,
    expected_previous: Previous = "any",
    actor: str = "",
    reason: str = "",
    load_timeout_s: float = LOAD_TIMEOUT_S,
) -> Moved:
    """Points a label at a release: verified, ready in every living server, safe on disk.

    On return no server begins an answer from the release before any more.

    `expected_previous`: the move happens only if the label stands there now (None: only if it
    does not exist yet), so that two operators cannot undo each other unawares.

    Raises:
        LabelConflictError: the label stands elsewhere than expected.
        ReleaseError: the name is no label, the release is missing or damaged, or a server could
            not load it in time. In all these cases the label has stayed where it was.
        NotFollowedError: the label has moved, and the error names the servers that are behind.
    """
    check_label(label)
    steps = _Steps()
    _check_now(registry, label, expected_previous)
    open_verified(registry, version)
    steps.add(f"release {version}: every file is as it was published")

    def append() -> LabelMove:
        return append_move(
            registry,
            label,
            version,
            expected_previous=expected_previous,
            actor=actor,
            reason=reason,
        )

    return _move(registry, version, append, steps, load_timeout_s)


def rollback(
    registry: Path,
    label: str,
    *,
    expected_previous: Previous = "any",
    actor: str = "",
    reason: str = "",
    load_timeout_s: float = LOAD_TIMEOUT_S,
) -> Moved:
    """Points a label at the version it had before; a second rollback goes one further back.

    Servers keep that version ready, and verified it when they loaded it. So it takes a moment,
    and needs nothing but the registry's directory.

    Raises:
        LabelConflictError: the label has no earlier version, stands elsewhere than expected, or was
            moved by somebody else in between.
        ReleaseError: the earlier release is missing or damaged, or a server could not load it.
        NotFollowedError: as in `move_label`.
    """
    steps = _Steps()
    current, version = rollback_of(read_standings(registry), label)
    check_expected(label, expected_previous, current)
    release = open_release(registry, version, verify=False)
    if not read_servers(registry):  # which have it ready, or hash it as they load it
        verify_once(registry, release)

    def append() -> LabelMove:
        return append_rollback(
            registry, label, version, expected_previous=current, actor=actor, reason=reason
        )

    return _move(registry, version, append, steps, load_timeout_s)


def follow_moves(
    registry: Path, elsewhere: Sequence[LabelMove], *, load_timeout_s: float = LOAD_TIMEOUT_S
) -> Moved:
    """Takes a label where all the moves that it has made elsewhere have taken it.

    Those that are not lines here yet become so; servers load only the version that is the last.

    Raises: as in `move_label`.
    """
    label, version = elsewhere[-1].label, elsewhere[-1].to_version
    check_label(label)
    steps = _Steps()
    open_verified(registry, version)
    steps.add(f"release {version}: every file is as it was published")

    def append() -> LabelMove:
        return append_followed(registry, elsewhere)

    return _move(registry, version, append, steps, load_timeout_s)


def load_release(
    registry: Path, version: int, *, timeout_s: float = LOAD_TIMEOUT_S
) -> Sequence[Step]:
    """Makes a release ready in every server without a label, until it has had one or is unloaded.

    Servers that start later load it too.

    Raises: ReleaseError: it is missing or damaged, or a server could not load it in time; no
        server is asked for it any more then.
    """
    steps = _Steps()
    open_verified(registry, version)
    steps.add(f"release {version}: every file is as it was published")
    ask = ask_for(registry, version)
    try:
        _wait_until_ready(registry, ask, steps, timeout_s)
    except BaseException:
        take_back(registry, ask)
        raise
    return steps.done


def unload_release(registry: Path, version: int) -> Sequence[Step]:
    """Lets every server drop a release once the answers that began on it are done.

    Raises: LabelConflictError: a label points at it or would roll back to it, a server answers from
        it, or a move to it is under way.
    """
    steps = _Steps()
    with moving(registry):
        if users := _users_of(registry, version):
            raise LabelConflictError(
                f"release {version}", expected="that nothing needs it", got=", ".join(users)
            )
        take_back_lasting(registry, version)
    _wait(
        lambda: [
            f"server {server.pid} holds it still"
            for server in read_servers(registry)
            if _holds(server, version)
        ],
        FOLLOW_TIMEOUT_S,
        lambda left: ReleaseError(
            f"release {version}", expected="that all servers let it go", got="; ".join(left)
        ),
    )
    for server in read_servers(registry):
        held = server.release(version)
        running = f"draining, {held.num_running} answers under way" if held else "gone"
        steps.add(f"server {server.pid}: release {version} is {running}")
    return steps.done


class _Steps:
    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.done: list[Step] = []

    def add(self, what: str) -> None:
        self.done.append(Step(what=what, after_s=round(time.monotonic() - self.began_s, 4)))


def _check_now(registry: Path, label: str, expected_previous: Previous) -> None:
    """Refuses at once what the journal would refuse after minutes of loading."""
    standing = read_standings(registry).get(label)
    check_expected(label, expected_previous, standing.version if standing else None)


def _move(
    registry: Path,
    version: int,
    append: Callable[[], LabelMove],
    steps: _Steps,
    load_timeout_s: float,
) -> Moved:
    with _asking(registry, version, load_timeout_s + FOLLOW_TIMEOUT_S) as ask:
        servers: list[ServerStatus] | None = None
        while servers is None:
            _wait_until_ready(registry, ask, steps, load_timeout_s)
            with moving(registry):
                # No server can join now, so ready everywhere is still true when the line is read.
                if not _behind(read_servers(registry), ask):
                    servers = read_servers(registry)
                    move = append()
                    line = read_standings(registry)[move.label].num_lines
                    take_back_lasting(registry, version)
        before = "nothing" if move.from_version is None else str(move.from_version)
        steps.add(f"label {move.label}: {before} → {version} at {move.moved_at}")
        _wait_until_followed(registry, move, line, [one.server for one in servers], steps)
    return Moved(move=move, steps=steps.done)


@contextmanager
def _asking(registry: Path, version: int, timeout_s: float) -> Iterator[Ask]:
    """Servers hold the version meanwhile; should this process be killed, the ask lapses."""
    until_ms = time.time_ns() // 1_000_000 + int(timeout_s * 1000)
    ask = ask_for(registry, version, until_ms=until_ms)
    try:
        yield ask
    finally:
        take_back(registry, ask)


def _wait_until_ready(registry: Path, ask: Ask, steps: _Steps, timeout_s: float) -> None:
    told: set[str] = set()

    def behind() -> list[str]:
        servers = read_servers(registry)
        left = _behind(servers, ask)
        for server in servers:
            held = server.release(ask.version)
            if server.server not in told | left.keys() and held is not None:
                told.add(server.server)
                took = f"loaded in {held.load_time_s:.2f} s" if held.load_time_s else "loaded"
                steps.add(f"server {server.pid}: release {ask.version} {took}, ready")
        return list(left.values())

    _wait(
        behind,
        timeout_s,
        lambda left: ReleaseError(
            f"release {ask.version}",
            expected=f"that every server has it ready within {timeout_s:g} s",
            got="; ".join(left),
            hint="no label has moved.",
        ),
    )


def _behind(servers: Sequence[ServerStatus], ask: Ask) -> dict[str, str]:
    """By server, why the version asked for is not ready there yet.

    Raises: ReleaseError: it has failed there.
    """
    behind = {}
    for server in servers:
        held = server.release(ask.version)
        state = "not loaded" if held is None else held.state
        if server.num_asks < ask.number:
            behind[server.server] = f"server {server.pid} has not heard of it yet"
        elif held is not None and held.state == "failed":
            raise ReleaseError(
                f"server {server.pid}, release {ask.version}",
                expected="that it loads",
                got=held.cause,
                hint="no label has moved.",
            )
        elif state != "ready":
            behind[server.server] = f"server {server.pid}: {state}"
    return behind


def _wait_until_followed(
    registry: Path, move: LabelMove, line: int, servers: Sequence[str], steps: _Steps
) -> None:
    began_s = time.monotonic()

    def behind() -> list[str]:
        return [
            f"server {server.pid} answers from {server.labels.get(move.label, 'nothing')} "
            f"({server.problems.get(move.label, 'it has not looked')})"
            for server in read_servers(registry)
            if server.server in servers
            if server.followed.get(move.label, 0) < line or move.label in server.problems
        ]

    _wait(
        behind,
        FOLLOW_TIMEOUT_S,
        lambda left: NotFollowedError(
            f"label {move.label}",
            expected=f"that every server follows it to version {move.to_version}",
            got="; ".join(left),
            hint=f"the journal says {move.to_version}, and all other servers answer from it.",
        ),
    )
    if servers:
        took_s = time.monotonic() - began_s
        steps.add(f"followed by {len(servers)} server(s) in {took_s:.3f} s")


def _wait(
    behind: Callable[[], list[str]],
    timeout_s: float,
    error: Callable[[list[str]], ReleaseError],
) -> None:
    deadline_s = time.monotonic() + timeout_s
    while left := behind():
        if time.monotonic() > deadline_s:
            raise error(left)
        time.sleep(_LOOK_EVERY_S)


def _users_of(registry: Path, version: int) -> list[str]:
    users = []
    for label, standing in read_standings(registry).items():
        if standing.version == version:
            users.append(f"label {label}")
        elif standing.rollback_version == version:
            users.append(f"the rollback of label {label}")
    for server in read_servers(registry):
        users += [
            f"label {label} of server {server.pid}"
            for label, there in server.labels.items()
            if there == version and f"label {label}" not in users
        ]
    now_ms = time.time_ns() // 1_000_000
    asks = [ask for ask in read_wanted(registry).asks if ask.version == version]
    if any(ask.until_ms is not None and ask.until_ms > now_ms for ask in asks):
        users.append("a move that is under way")
    return users


def _holds(server: ServerStatus, version: int) -> bool:
    held = server.release(version)
    return held is not None and held.state in ("loading", "ready")
