"""The slowest requests of late, of all server processes of a registry.

Each process keeps its own, and writes them beside its status, `REGISTRY/servers/<id>.slow.json`;
whoever asks merges those of the living. Who asked for what is not in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from upnext.errors import ReleaseError
from upnext.registry.servers import read_servers, replace_whole, servers_path

WINDOW_S = 600.0
"""What is older is forgotten."""
PART_MS = 30_000
"""Requests are counted, and forgotten, half a minute at a time."""
NUM_SLOWEST = 50
"""Requests that are told, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowRequest:
    """One request and where its time went.

    `took_ms`: from when the server had read it to its answer, waiting for its turn included.
    `timings_ms`: by stage; of requests that were answered together each has those of all.
    `process`: the id that the system gives the server process.
    """

    request_id: str
    at_ms: int
    release: str
    label: str | None
    took_ms: float
    timings_ms: Mapping[str, float]
    degraded: Sequence[str]
    k: int
    num_candidates: int
    process: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowOfProcess:
    """What one process tells. `num_seen`: requests by when their part of `PART_MS` began, UTC."""

    num_seen: Mapping[int, int]
    slow: Sequence[SlowRequest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowest:
    """The slowest of `num_seen` requests of the last `window_s`, the slowest first."""

    window_s: float
    num_seen: int
    slow: Sequence[SlowRequest]


def write_slow(registry: Path, server: str, told: SlowOfProcess) -> None:
    """Replaces what a living server has told; it goes when the server does."""
    replace_whole(_path(registry, server), msgspec.json.encode(told))


def read_slow(registry: Path, *, at_ms: int) -> Slowest:
    """Of all living servers of a registry, in the window that ends at a time.

    Raises: ReleaseError: another version of upnext has told it.
    """
    since_ms = at_ms - round(WINDOW_S * 1e3)
    servers = [_read(_path(registry, one.server)) for one in read_servers(registry)]
    told = [one for one in servers if one is not None]
    parts = [part for one in told for part in one.num_seen.items()]
    slow = [request for one in told for request in one.slow if request.at_ms >= since_ms]
    return Slowest(
        window_s=WINDOW_S,
        num_seen=sum(count for began_ms, count in parts if began_ms + PART_MS > since_ms),
        slow=sorted(slow, key=lambda one: -one.took_ms)[:NUM_SLOWEST],
    )


def _path(registry: Path, server: str) -> Path:
    return servers_path(registry) / f"{server}.slow.json"


def _read(path: Path) -> SlowOfProcess | None:
    """None where a server has told nothing yet, or has just left."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=SlowOfProcess)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReleaseError(str(path), expected="slow requests", got=str(error)) from None
