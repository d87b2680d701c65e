"""Storage as releases need it: objects by name, read in blocks, some of them created only once.

Any `fsspec` URL will do that creates an object only if there is none: `s3://bucket/prefix`,
`file:///mnt/shared`, `memory://`. Errors of all of them are told in the same few words.
"""

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upnext.errors import ConfigError, ReleaseError
from upnext.registry.files import force_to_disk

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

BLOCK_BYTES = 8 << 20
"""What is read, or sent, at a time."""
MOST_PARTS = 10_000
"""Into so many parts S3 takes an object, at most."""
MARKER = "upnext.json"

_REFUSALS = ("PreconditionFailed", "ConditionalRequestConflict")
"""What S3 says where an object is there, or where two create it at the same moment."""
_NUM_TRIES = 20
_MEMORY = threading.Lock()


class StorageError(ReleaseError):
    """Storage that cannot be reached, or does not do what releases need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Where objects lie below a URL; names are like `releases/3/manifest.json`."""

    url: str
    fs: "AbstractFileSystem"
    root: str

    def where(self, name: str) -> str:
        """A name as people are told of it."""
        return f"{self.url}/{name}"

    def sizes_below(self, folder: str) -> dict[str, int]:
        """Size in bytes of every object below a folder, by its name there; empty if none is."""
        below = f"{self._path(folder)}/"
        with self._told(folder):
            found = self.fs.find(below.rstrip("/"), detail=True)
        return {path.removeprefix(below): int(one["size"]) for path, one in found.items()}

    def read(self, name: str) -> bytes:
        """A small object, whole. Raises StorageError: it is not there."""
        with self._told(name):
            return bytes(self.fs.cat_file(self._path(name)))

    def blocks(self, name: str, size_bytes: int, start: int = 0) -> Iterator[bytes]:
        """The bytes of an object from one of them on, `BLOCK_BYTES` at a time."""
        for begin in range(start, size_bytes, BLOCK_BYTES):
            with self._told(name):
                end = min(begin + BLOCK_BYTES, size_bytes)
                block = bytes(self.fs.cat_file(self._path(name), start=begin, end=end))
            yield block

    def create(self, name: str, content: bytes) -> bool:
        """Writes a small object unless there is one; whether it now says this.

        Who comes second and says the same has succeeded as well: it may be that the first was this
        very call, and the answer to it was lost.
        """
        for _ in range(_NUM_TRIES):
            with self._told(name):
                if _create(self.fs, self._path(name), content):
                    return True
                try:
                    return bool(self.fs.cat_file(self._path(name)) == content)
                except FileNotFoundError:
                    continue  # of two who came at once, S3 may refuse both
        raise StorageError(
            self.where(name), expected="that one of two who come at once wins", got="none"
        )

    def send(self, path: Path, name: str, sent: Callable[[int], None]) -> None:
        """Writes a file as an object, whole or not at all; `sent` hears of bytes as they go."""
        with self._told(name):
            _send(self.fs, path, self._path(name), sent)

    def refuse_overwriting(self) -> None:
        """Raises StorageError: here an object that is there can be created once more.

        What would be lost is a move of a label, or a release. Some that speak S3 do not know
        conditional writes, and say nothing.
        """
        content = b'{"format_version": 1}\n'
        with self._told(MARKER):
            _create(self.fs, self._path(MARKER), content)
            if not _create(self.fs, self._path(MARKER), content):
                return
        raise StorageError(
            self.url,
            expected="storage that creates an object only if there is none",
            got="one that writes over it",
            hint="Amazon S3 and shared directories can; other servers may need a later version.",
        )

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Whatever goes wrong in a library, as an error of ours."""
        try:
            yield
        except ReleaseError:
            raise
        except FileNotFoundError as error:
            if "bucket does not" not in str(error):
                raise StorageError(self.where(name), expected="an object", got="none") from None
            raise StorageError(
                self.where(name),
                expected="a bucket that is there",
                got="no such bucket",
                hint="create the bucket, or mend the URL.",
            ) from None
        except Exception as error:  # each storage has a library, and each library errors of its own
            denied = isinstance(error, PermissionError) or "Credentials" in type(error).__name__
            raise StorageError(
                self.where(name),
                expected="leave to read and write" if denied else "an answer",
                got=f"{type(error).__name__}, {_masked(' '.join(str(error).split())).rstrip('.')}",
                hint="credentials come from the environment, a profile or the machine's role."
                if denied
                else "what was sent or fetched is not copied again; try once more.",
            ) from None


def is_url(text: str) -> bool:
    """Whether this is the URL of storage, not a directory.

    >>> is_url("s3://bucket/prefix"), is_url("registry")
    (True, False)
    """
    return "://" in text


def open_storage(url: str) -> Storage:
    """Storage by its URL; nothing is asked of it yet.

    Raises:
        ConfigError: this is no URL, of no kind that is known, or it has credentials in it.
        StorageError: the library for it is missing.
    """
    if (masked := _masked(url)) != url:
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role."
        raise ConfigError(masked, expected="a URL without credentials", got="some", hint=hint)
    if not is_url(url) or "::" in url:
        raise ConfigError("URL", expected="one such as s3://bucket/prefix", got=repr(url))
    from fsspec.core import url_to_fs  # a quarter of a second that only storage is worth

    try:
        # Others change what lies there, so nothing that was listed is believed a second time.
        fs, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        kind = url.partition("://")[0]
        hint = "pip install 'upnext[s3]'" if kind in ("s3", "s3a") else str(error)
        raise StorageError(url, expected=f"the library for {kind}", got="none", hint=hint) from None
    except ValueError as error:
        raise ConfigError(url, expected="a URL of a known kind", got=str(error)) from None
    return Storage(url=url.rstrip("/"), fs=fs, root=root.rstrip("/"))


def _masked(text: str) -> str:
    """
    >>> _masked("s3://key:sec/ret@bucket/prefix"), _masked("s3://bucket/a:b@c")
    ('s3://***@bucket/prefix', 's3://bucket/a:b@c')
    """
    return re.sub(r"(?<=://)[^/\s]*:\S*@", "***@", text)


def _create(fs: "AbstractFileSystem", path: str, content: bytes) -> bool:
    """Writes an object in one step; False, and nothing has changed, where there is one."""
    from fsspec.implementations.local import LocalFileSystem
    from fsspec.implementations.memory import MemoryFileSystem

    if isinstance(fs, LocalFileSystem):
        with _beside(Path(path)) as new:
            new.write_bytes(content)
            force_to_disk(new)
            try:
                os.link(new, path)
            except FileExistsError:
                return False
        force_to_disk(Path(path).parent)
        return True
    if isinstance(fs, MemoryFileSystem):
        with _MEMORY:  # it looks first, then writes
            return _piped(fs, path, content)
    return _piped(fs, path, content)


def _piped(fs: "AbstractFileSystem", path: str, content: bytes) -> bool:
    try:
        fs.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        answer = getattr(error.__cause__, "response", {})
        if answer.get("Error", {}).get("Code") in _REFUSALS:
            return False
        raise
    return True


def _send(fs: "AbstractFileSystem", path: Path, target: str, sent: Callable[[int], None]) -> None:
    from fsspec.callbacks import Callback
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(fs, LocalFileSystem):
        with _beside(Path(target)) as new:
            shutil.copyfile(path, new)
            force_to_disk(new)
            new.replace(target)
        force_to_disk(Path(target).parent)
        sent(path.stat().st_size)
        return
    callback, told_bytes = Callback(), 0

    def tell(_: int | None, value: int, **__: object) -> None:
        nonlocal told_bytes
        told_bytes, new_bytes = value, value - told_bytes
        sent(new_bytes)

    callback.hooks["sent"] = tell
    parts: dict[str, int] = {}
    if "s3" in fs.protocol:
        block_bytes = max(BLOCK_BYTES, -(-path.stat().st_size // MOST_PARTS))
        parts = {"chunksize": block_bytes, "max_concurrency": 2}
    fs.put_file(str(path), target, callback=callback, **parts)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A new file in the directory where one is to be, gone afterwards unless it was renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    os.close(descriptor)
    try:
        os.chmod(name, 0o644)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
