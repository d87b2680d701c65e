"""Releases on disk: written once, in one step, under the next free version, and never changed.

REGISTRY/releases/3/manifest.json      what the release says of itself and of each file
REGISTRY/releases/3/manifest.sha256    the manifest's own hash; `sha256sum -c` reads it
REGISTRY/releases/3/...                the files, in folders of the writer's choice
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from upnext.errors import ReleaseError
from upnext.registry.files import (
    FileEntry,
    check_kind,
    describe_file,
    force_to_disk,
    force_tree_to_disk,
    is_safe_name,
    list_files,
    make_read_only,
    map_array,
)
from upnext.registry.mapped import let_go

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"

UNFINISHED = ".unfinished-"
"""What the names of directories begin with that are no releases yet."""
_ABANDONED_AFTER_S = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a release says of itself; `created_at` is ISO 8601 in UTC."""

    format_version: int
    version: int
    created_at: str
    metadata: dict[str, Any]
    files: dict[str, FileEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One immutable directory of files, opened for reading; names are like `ranking/model.onnx`."""

    path: Path
    version: int
    created_at: str
    metadata: Mapping[str, Any]
    files: Mapping[str, FileEntry]
    _mapped: dict[str, NDArray[Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def size_bytes(self) -> int:
        """Of all its files together, the manifest left out."""
        return sum(entry.size_bytes for entry in self.files.values())

    def file(self, name: str) -> Path:
        """Where a file lies. Raises ReleaseError where the release has no such file."""
        if name not in self.files:
            raise ReleaseError(
                f"release {self.version}, {name}",
                expected=f"one of {', '.join(self.files) or 'no files at all'}",
                got="no such file",
            )
        return self.path / name

    def array(self, name: str) -> NDArray[Any]:
        """A memory-mapped, read-only array, mapped once however often it is asked for.

        Raises: ReleaseError: it is not a plain array.
        """
        if name not in self._mapped:
            self._mapped[name] = map_array(self.file(name))
        return self._mapped[name]

    def let_go(self, *, rest: float) -> None:
        """Takes what its arrays hold of this process's memory away from it, as `mapped.let_go`."""
        for array in list(self._mapped.values()):  # one may still be mapped meanwhile
            let_go(array, rest=rest)

    def json(self, name: str) -> Any:
        """The plain values in a JSON file. Raises ReleaseError where it is not JSON."""
        try:
            return json.loads(self.file(name).read_bytes())
        except ValueError as error:
            where = f"release {self.version}, {name}"
            raise ReleaseError(where, expected="JSON", got=str(error)) from None


def refuse_unwritable(registry: Path) -> None:
    """Says beforehand that nothing can be published here, not after hours of training.

    Raises: ReleaseError: the registry, or the directory that it would be made in, is a file or may
    not be written.
    """
    there = next(path for path in (registry, *registry.absolute().parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    got = "one that may not be written" if there.is_dir() else "a file"
    expected = "a directory that can be written" if there == registry else f"{there} to be one"
    raise ReleaseError(str(registry), expected=expected, got=got)


def publish(
    registry: Path,
    write_files: Callable[[Path], Mapping[str, Any]],
    *,
    created_at: datetime | None = None,
) -> Release:
    """Makes a release of the files that `write_files` puts into an empty directory.

    `write_files` returns the metadata: plain values that JSON can hold, such as the config, the
    watermark of the data and the metrics. Every file is hashed and forced to disk, the manifest
    last; then the directory takes the next free version in one rename. A crash before it leaves
    a hidden directory that a later publish clears away; two publishers get two versions.

    Raises:
        ReleaseError: a file is of a kind that could hold code (see `check_kind`), is a symlink,
            or takes the manifest's name; the metadata are not plain values; nothing was written.
    """
    releases = registry / "releases"
    releases.mkdir(parents=True, exist_ok=True)
    remove_abandoned(releases)
    directory = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=releases))
    try:
        metadata = dict(write_files(directory))
        files = _describe(directory)
        force_tree_to_disk(directory)
        created = _utc_text(created_at or datetime.now(UTC))
        version = _take_next_version(registry, directory, created, metadata, files)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return open_release(registry, version, verify=False)


def open_release(registry: Path, version: int, *, verify: bool = True) -> Release:
    """Opens a release after comparing it with its manifest.

    The manifest is checked against its hash, and the directory must hold exactly its files in
    their sizes. `verify` also hashes every file (about a second for each gigabyte).

    Raises:
        ReleaseError: there is no such release, or it is not what was published; the error names
            the file.
    """
    path = registry / "releases" / str(version)
    if path.is_symlink() or not path.is_dir():
        there = ", ".join(map(str, list_releases(registry))) or "nothing yet"
        raise ReleaseError(
            str(path),
            expected="a release",
            got="no such directory",
            hint=f"published: {there}.",
        )
    manifest = _read_manifest(path)
    if manifest.version != version:
        where = str(path / MANIFEST)
        raise _damaged(where, expected=f"version {version}", got=str(manifest.version))
    compare_files(path, manifest.files, verify=verify)
    return Release(
        path=path,
        version=version,
        created_at=manifest.created_at,
        metadata=manifest.metadata,
        files=manifest.files,
    )


def list_releases(registry: Path) -> list[int]:
    """The versions of all published releases, oldest first; whether they are whole is not asked."""
    releases = registry / "releases"
    names = [path.name for path in releases.iterdir()] if releases.is_dir() else []
    return sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]*", name))


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of manifest.json: indented JSON, keys in the order of the fields, files sorted.

    Raises:
        ReleaseError: the metadata hold something that JSON cannot, such as NaN or an array.
    """
    try:
        text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False, allow_nan=False)
        return f"{text}\n".encode()
    except (TypeError, ValueError) as error:
        raise ReleaseError(
            "the metadata of a release",
            expected="plain values: text, finite numbers, true, false, null, lists and mappings",
            got=str(error),
        ) from None


def seal_of(manifest: bytes) -> bytes:
    """The bytes of manifest.sha256, of those of manifest.json."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def decode_manifest(content: bytes, seal: bytes, where: str) -> Manifest:
    """A manifest from its bytes, compared with its hash; `where` tells of whose.

    Raises:
        ReleaseError: it is not what was published, of a later format, or names a file outside
            the release.
    """
    if seal != seal_of(content):
        raise _damaged(where, expected=f"the hash in {SEAL}", got="another")
    try:
        # Read alone and first: a later format may have other fields.
        format_version = msgspec.json.decode(content, type=dict[str, Any]).get("format_version")
        if format_version != FORMAT_VERSION:
            raise ReleaseError(
                where,
                expected=f"format version {FORMAT_VERSION}",
                got=repr(format_version),
                hint="a newer upnext reads newer releases.",
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(where, expected="a manifest", got=str(error)) from None
    for name in manifest.files:
        if not is_safe_name(name) or name in (MANIFEST, SEAL):
            raise _damaged(where, expected="names inside the release", got=repr(name))
    return manifest


def compare_files(path: Path, entries: Mapping[str, FileEntry], *, verify: bool) -> None:
    """Compares a directory with what its manifest says; `verify` hashes every file too.

    Raises: ReleaseError: a file is missing, another, one too many, or could hold code.
    """
    paths = list_files(path)
    if extra := sorted(set(paths) - set(entries) - {MANIFEST, SEAL}):
        also = f"also {', '.join(extra)}"
        raise _damaged(str(path), expected="only the manifest's files", got=also)
    for name, entry in entries.items():
        where = str(path / name)
        if name not in paths:
            raise _damaged(where, expected="a file", got="none")
        size_bytes = paths[name].stat().st_size
        if size_bytes != entry.size_bytes:
            raise _damaged(where, expected=f"{entry.size_bytes:,} bytes", got=f"{size_bytes:,}")
        if verify and (got := describe_file(paths[name]).sha256) != entry.sha256:
            raise _damaged(where, expected=f"SHA-256 {entry.sha256}", got=got)
        check_kind(paths[name])


def settle(registry: Path, directory: Path, version: int) -> bool:
    """Publishes a finished directory in one rename, read-only and safe on disk on return.

    False, and nothing has changed, where the version is taken.
    """
    releases = registry / "releases"
    try:
        # A rename replaces no directory that holds files, and every release holds some.
        directory.rename(releases / str(version))
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    make_read_only(releases / str(version))
    force_to_disk(releases)
    force_to_disk(registry)
    return True


def _describe(directory: Path) -> dict[str, FileEntry]:
    paths = list_files(directory)
    if not paths:
        raise ReleaseError("a new release", expected="at least one file", got="none")
    for name, path in paths.items():
        if name in (MANIFEST, SEAL):
            raise ReleaseError(str(path), expected="another name", got="the manifest's own")
        check_kind(path)
    return {name: describe_file(path) for name, path in paths.items()}


def _take_next_version(
    registry: Path,
    directory: Path,
    created_at: str,
    metadata: dict[str, Any],
    files: dict[str, FileEntry],
) -> int:
    while True:
        version = max(list_releases(registry), default=0) + 1
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            version=version,
            created_at=created_at,
            metadata=metadata,
            files=files,
        )
        _write_manifest(directory, manifest)
        if settle(registry, directory, version):
            return version


def _write_manifest(directory: Path, manifest: Manifest) -> None:
    content = encode_manifest(manifest)
    for name, data in ((MANIFEST, content), (SEAL, seal_of(content))):
        (directory / name).write_bytes(data)
        force_to_disk(directory / name)
    force_to_disk(directory)


def _read_manifest(path: Path) -> Manifest:
    try:
        content, seal = (path / MANIFEST).read_bytes(), (path / SEAL).read_bytes()
    except OSError as error:
        wanted = f"{MANIFEST} and {SEAL}"
        raise _damaged(str(path), expected=wanted, got=str(error)) from None
    return decode_manifest(content, seal, str(path / MANIFEST))


def _damaged(where: str, *, expected: str, got: str) -> ReleaseError:
    hint = "the release changed after it was published; publish anew, or use another version."
    return ReleaseError(where, expected=expected, got=got, hint=hint)


def remove_abandoned(releases: Path) -> None:
    """Clears away what was begun long ago and never became a release."""
    for path in releases.glob(f"{UNFINISHED}*"):
        try:
            age_s = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue  # its publisher finished just now
        if age_s > _ABANDONED_AFTER_S:
            shutil.rmtree(path, ignore_errors=True)


def _utc_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
