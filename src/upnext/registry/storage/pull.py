"""Releases from storage into a registry: every byte is hashed on its way, then one rename."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from upnext.errors import ReleaseError
from upnext.registry.files import FileEntry, force_tree_to_disk
from upnext.registry.release import (
    MANIFEST,
    SEAL,
    UNFINISHED,
    compare_files,
    open_release,
    remove_abandoned,
    settle,
)
from upnext.registry.storage.copying import Copied, Progress, Tell, in_threads
from upnext.registry.storage.labels import read_stored_labels, resolve_stored
from upnext.registry.storage.objects import BLOCK_BYTES, Storage, open_storage
from upnext.registry.storage.stored import Stored, folder_of, read_stored

_MEND = "it is not what was published; remove the object, then push the release again."


def pull(
    url: str,
    registry: Path,
    releases: Sequence[str] = (),
    *,
    say: Tell = lambda _: None,
    on_progress: Tell = lambda _: None,
) -> list[Copied]:
    """Publishes releases on storage in a registry too, by version or label there.

    If none is named: those that labels there point at. What is here already is not fetched again.

    Raises:
        ReleaseError: a release is missing or damaged there, or another of its version is here.
        StorageError: the storage cannot be reached.
    """
    storage = open_storage(url)
    named = [resolve_stored(storage, name) for name in releases]
    versions = sorted(set(named or read_stored_labels(storage).values()))
    if not versions:
        hint = "name a version, or give it one: `upnext label URL stable VERSION`."
        raise ReleaseError(url, expected="a label", got="none", hint=hint)
    copied = []
    for version in versions:
        copied.append(pull_release(storage, registry, version, on_progress))
        say(copied[-1].to_text())
    return copied


def pull_release(
    storage: Storage, registry: Path, version: int, tell: Tell = lambda _: None
) -> Copied:
    """Fetches what of a release is not here yet, then publishes it in one rename.

    A pull that was cut short leaves a hidden directory, from which the next one goes on.

    Raises: ReleaseError: it is missing, or not what was published, or another one is here.
    """
    stored = read_stored(storage, version)
    with _alone(registry):
        missing = {}
        if _is_missing(registry, version, stored):
            missing = _fetch_all(storage, registry, version, stored, tell)
    sizes_bytes = [entry.size_bytes for entry in stored.manifest.files.values()]
    return Copied(
        version=version,
        num_files=len(sizes_bytes),
        size_bytes=sum(sizes_bytes),
        num_copied=len(missing),
        copied_bytes=sum(missing.values()),
    )


@contextmanager
def _alone(registry: Path) -> Iterator[None]:
    """One pull at a time into a registry; the system lets go when a process dies."""
    releases = registry / "releases"
    releases.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(releases, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_missing(registry: Path, version: int, stored: Stored) -> bool:
    """Raises ReleaseError: another release of this version is here."""
    path = registry / "releases" / str(version)
    if not path.is_dir():
        return True
    open_release(registry, version, verify=False)
    if (path / SEAL).read_bytes() != stored.seal:
        raise ReleaseError(
            str(path),
            expected=f"release {version} as it is on storage, or none",
            got="another one",
            hint="versions count up in each registry; pull into a registry that only pulls.",
        )
    return False


def _fetch_all(
    storage: Storage, registry: Path, version: int, stored: Stored, tell: Tell
) -> dict[str, int]:
    """Publishes a release; of each file that was not here whole, how many bytes were missing."""
    files, folder = stored.manifest.files, folder_of(version)
    _check_sizes(storage, folder, files)
    directory = _partial(registry, version, stored)
    left = {
        name: entry.size_bytes - min(entry.size_bytes, _size_bytes(directory / name))
        for name, entry in files.items()
    }
    progress = Progress(f"pulling release {version}", sum(left.values()), tell)

    def fetch(name: str) -> None:
        _fetch(storage, f"{folder}/{name}", directory / name, files[name], progress.add)

    in_threads(fetch, files, stop=progress.stop)
    compare_files(directory, files, verify=False)
    force_tree_to_disk(directory)
    if not settle(registry, directory, version):
        _is_missing(registry, version, stored)
    return {name: num_bytes for name, num_bytes in left.items() if num_bytes}


def _check_sizes(storage: Storage, folder: str, files: Mapping[str, FileEntry]) -> None:
    """Raises ReleaseError: an object is missing, or not as large as the manifest says."""
    there = storage.sizes_below(folder)
    for name, entry in files.items():
        size_bytes = there.get(name)
        if size_bytes != entry.size_bytes:
            raise ReleaseError(
                storage.where(f"{folder}/{name}"),
                expected=f"{entry.size_bytes:,} bytes",
                got="no such object" if size_bytes is None else f"{size_bytes:,}",
                hint=_MEND,
            )


def _partial(registry: Path, version: int, stored: Stored) -> Path:
    """The hidden directory in which a pull of this very release goes on, its manifest in it."""
    releases = registry / "releases"
    remove_abandoned(releases)
    directory = releases / f"{UNFINISHED}{version}-{stored.seal[:12].decode('ascii')}"
    directory.mkdir(exist_ok=True)
    os.utime(directory)  # nobody takes it for abandoned
    (directory / MANIFEST).write_bytes(stored.content)
    (directory / SEAL).write_bytes(stored.seal)
    return directory


def _fetch(
    storage: Storage,
    name: str,
    path: Path,
    entry: FileEntry,
    told: Callable[[int], None],
) -> None:
    """Makes a file that is what the manifest says, going on from what is there of it.

    Raises: ReleaseError: the object is something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        was_begun = file.tell() > 0
        got = _fill(file, storage, name, entry, told)
        if got != entry.sha256 and was_begun:  # a crash may have left anything
            file.truncate(0)
            got = _fill(file, storage, name, entry, told)
    if got != entry.sha256:
        path.unlink()
        raise ReleaseError(
            storage.where(name),
            expected=f"SHA-256 {entry.sha256}",
            got=got,
            hint=_MEND,
        )


def _fill(
    file: BinaryIO, storage: Storage, name: str, entry: FileEntry, told: Callable[[int], None]
) -> str:
    """Adds what is missing at the end of a file; the hash of all of it."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    for block in storage.blocks(name, entry.size_bytes, file.tell()):
        file.write(block)
        digest.update(block)
        told(len(block))
    return digest.hexdigest()


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
