"""What was read of a registry before and has not changed since is not read again.

Releases never change, and reports, curves and manifests seldom do. What they were read as is kept
beside what the system tells of the files (who, how large, when changed), and holds as long as that
does: so whoever asks again and again pays for a look, and still hears of damage.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from upnext.errors import ReleaseError
from upnext.registry.release import Release, open_release

Seen = tuple[int, int, int, int]
"""Of one file: its number on the disk, its size, and when its content and its state changed."""


def remembered_release(registry: Path, version: int) -> Release:
    """As `open_release` without hashing every file; the release is the caller's to read only.

    Raises: ReleaseError: there is no such release, or it is not what was published.
    """
    path = registry / "releases" / str(version)
    if path.is_symlink() or not path.is_dir():
        return open_release(registry, version, verify=False)  # which says what is wrong
    return _release(registry, version, tuple(_seen_below(path)))


def remembered_json(path: Path) -> Any:
    """The plain values in a JSON file, the caller's to read only; None if there is no such file.

    Raises: ReleaseError: it is not JSON.
    """
    seen = seen_of(path)
    return None if seen is None else _json(path, seen)


def seen_of(path: Path) -> Seen | None:
    """What tells a change of a file; None if there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _seen_below(directory: Path) -> Iterator[tuple[str, Seen | None]]:
    """Every file and folder below a directory, in the order in which the system tells them."""
    waiting = [str(directory)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # removed just now
                    yield entry.path, None
                    continue
                seen = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                yield entry.path, seen
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


@lru_cache(maxsize=1024)
def _release(registry: Path, version: int, _seen: tuple[tuple[str, Seen | None], ...]) -> Release:
    return open_release(registry, version, verify=False)


@lru_cache(maxsize=1024)
def _json(path: Path, _seen: Seen) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise ReleaseError(str(path), expected="JSON", got=str(error)) from None
