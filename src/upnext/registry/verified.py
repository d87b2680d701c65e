"""A release is hashed once on a machine, not once in each of its server processes.

    REGISTRY/servers/3.verified.json    what release 3 was when its hashes were found right
    REGISTRY/servers/verified.lock      held while one is hashed; others wait, and need not hash

A note tells of each file the hash that the manifest wants, and inode, size and times of the file
that had it. It is believed for an hour, on the machine that wrote it and until that starts anew,
and only while every file is the very same: whatever is written to a file moves its time of change,
which no ordinary user can set.

What a note cannot tell: bytes that change on the disk below the file system. They are found by the
next hashing, an hour later at most where releases are loaded. A note protects from nobody who may
write into the registry; neither do the hashes, which lie beside the files.
"""

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from upnext.registry.release import Release, compare_files, open_release
from upnext.registry.servers import replace_whole, servers_path
from upnext.registry.turns import alone

BELIEVED_FOR_S = 3600.0
UNSURE_S = 2.0
"""A file that changed so lately might change again without its times telling it."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFile:
    """A file as it was when it had this hash."""

    sha256: str
    inode: int
    size_bytes: int
    modified_at_ns: int
    changed_at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """`since_start`: what names this machine's time since it was started."""

    since_start: str
    hashed_at_s: float
    files: Mapping[str, SeenFile]


def open_verified(registry: Path, version: int) -> Release:
    """As `open_release`, each file's hash checked as `verify_once` does.

    Raises: ReleaseError: there is no such release, or it is not what was published.
    """
    release = open_release(registry, version, verify=False)
    verify_once(registry, release)
    return release


def verify_once(registry: Path, release: Release) -> None:
    """Hashes a release, unless a process of this machine did so a moment ago.

    Raises: ReleaseError: a file is not what was published.
    """
    with alone(registry, "verified"):
        seen, now_s = _seen(release), time.time()
        if _is_believed(_note(registry, release.version), seen, now_s):
            return
        _giving_way(release)
        newest_s = max(one.changed_at_ns for one in seen.values()) / 1e9
        since_start = _since_start()
        if since_start and newest_s < now_s - UNSURE_S and _seen(release) == seen:
            note = Note(since_start=since_start, hashed_at_s=now_s, files=seen)
            with contextlib.suppress(OSError):  # the next process hashes as well
                replace_whole(_note_path(registry, release.version), msgspec.json.encode(note))


def _giving_way(release: Release) -> None:
    """Hashes in a thread of the least priority, which lasts no longer than that.

    A thread that also computes in Python must not have it: it would be left waiting while it holds
    the interpreter's lock, and all who answer would wait for it.
    """
    with ThreadPoolExecutor(max_workers=1, initializer=_give_way) as alone:
        alone.submit(compare_files, release.path, release.files, verify=True).result()


def _give_way() -> None:
    """Lets all other threads go before this one, where threads have priorities (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def _seen(release: Release) -> dict[str, SeenFile]:
    seen = {}
    for name, entry in release.files.items():
        status = (release.path / name).stat()
        seen[name] = SeenFile(
            sha256=entry.sha256,
            inode=status.st_ino,
            size_bytes=status.st_size,
            modified_at_ns=status.st_mtime_ns,
            changed_at_ns=status.st_ctime_ns,
        )
    return seen


def _is_believed(note: Note | None, seen: Mapping[str, SeenFile], now_s: float) -> bool:
    if note is None or not 0 <= now_s - note.hashed_at_s < BELIEVED_FOR_S:
        return False
    return note.since_start == _since_start() and note.files == seen


def _note(registry: Path, version: int) -> Note | None:
    try:
        return msgspec.json.decode(_note_path(registry, version).read_bytes(), type=Note)
    except (OSError, msgspec.MsgspecError):
        return None


def _note_path(registry: Path, version: int) -> Path:
    return servers_path(registry) / f"{version}.verified.json"


def _since_start() -> str:
    """Empty where the system does not tell: then no note is written, and none believed."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
