"""Whether a release fits into memory beside what is there, told before it is opened.

Arrays are mapped: their pages come from the file as they are read, are shared by all processes,
and the system drops them when others need the room. Networks and the codes of an index are read
into the process. So a release whose networks do not fit would end the server and all its answers,
and is refused; one whose arrays do not fit would only be slow.
"""

from pathlib import Path

from upnext.errors import ReleaseError
from upnext.registry.release import Release

NETWORK_COPIES = 3
"""Of a network: its file, the weights read out of it, and those laid out for the processor."""
INDEX_COPIES = 1.5
"""Of an index. Measured with a million items: 33 MB in a process, of a file of 26."""
MAPPED_SHARE = 0.1
"""Of mapped files: pages that nearly every request reads; without room for them it is slow."""
REQUEST_BYTES = 16 * 1024 * 1024
"""Of each request that is answered together with others: what the networks compute on the way to an
answer, which their runtime keeps for the next. Measured with 300 candidates a request: 8 MB."""
FIXED_BYTES = 64 * 1024 * 1024
"""Whatever the release is: the manifest, small objects, what Python takes for them."""

_UNTOUCHED = frozenset({".html", ".png", ".parquet", ".toml", ".txt"})


def needed_bytes(release: Release, max_batch: int) -> int:
    """How much memory has to be free for a release to be loaded and to answer so many at once."""
    needed = float(FIXED_BYTES + max_batch * REQUEST_BYTES)
    for name, entry in release.files.items():
        suffix = Path(name).suffix
        if suffix == ".npy":
            needed += MAPPED_SHARE * entry.size_bytes
        elif suffix == ".faiss":
            needed += INDEX_COPIES * entry.size_bytes
        elif suffix not in _UNTOUCHED:
            needed += NETWORK_COPIES * entry.size_bytes
    return int(needed)


def available_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """How much memory this process may still take: of the machine, or of its container.

    Pages of files that can be dropped count as free. A machine that tells nothing has no limit.
    """
    return min([_free_of_machine(proc), *_free_of_groups(proc, cgroups)])


def require_memory(release: Release, *, max_batch: int = 1, available: int | None = None) -> None:
    """Refuses to load what would not fit.

    Args:
        max_batch: how many requests are answered at once.
        available: bytes, where not what the system tells.

    Raises: ReleaseError: it says what is needed and what there is.
    """
    needed = needed_bytes(release, max_batch)
    there = available_bytes() if available is None else available
    if needed > there:
        raise ReleaseError(
            f"release {release.version}",
            expected=f"{needed / 1e6:,.0f} MB of free memory to load it",
            got=f"{there / 1e6:,.0f} MB",
            hint="unload a release, raise the container's limit, or take a larger machine.",
        )


def _free_of_machine(proc: Path) -> int:
    for line in _text(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return 2**63 - 1


def _free_of_groups(proc: Path, cgroups: Path) -> list[int]:
    """Of every control group that this process is in; a group is also bound by those above it."""
    free = []
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, inside = line.split(":", 2)
        if controllers == "":
            top, names = cgroups, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top, names = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = top / inside.strip("/")
        for directory in (group, *group.parents):
            if directory.is_relative_to(top):
                free += _free_of(directory, *names)
    return free


def _free_of(group: Path, limit_name: str, usage_name: str) -> list[int]:
    limit, usage = _text(group / limit_name).strip(), _text(group / usage_name).strip()
    if not (limit.isdigit() and usage.isdigit()):
        return []
    counts = dict(line.split() for line in _text(group / "memory.stat").splitlines())
    dropped = sum(
        int(counts.get(f"total_{kind}", counts.get(kind, 0)))
        for kind in ("inactive_file", "active_file")
    )
    return [max(0, int(limit) - int(usage) + dropped)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
