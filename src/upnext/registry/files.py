"""What may lie in a release: plain files of known kinds, hashed, forced to disk, read-only."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.errors import ReleaseError

ALLOWED_SUFFIXES = frozenset(
    {".npy", ".onnx", ".json", ".parquet", ".faiss", ".txt", ".png", ".toml", ".html"}
)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What the manifest says of one file; `sha256` is in hexadecimal."""

    size_bytes: int
    sha256: str


def list_files(directory: Path) -> dict[str, Path]:
    """The regular files below a directory by relative name (`ranking/model.onnx`), sorted.

    Raises:
        ReleaseError: something else lies there, such as a symlink or a socket: a release holds
            its own bytes, and points nowhere.
    """
    found = {}
    for path in _walk(directory):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ReleaseError(
                str(path),
                expected="a plain file or folder",
                got="a symlink" if path.is_symlink() else "a special file",
                hint="copy the file itself into the release.",
            )
        if path.is_file():
            found[name] = path
    return dict(sorted(found.items()))


def describe_file(path: Path) -> FileEntry:
    """Size and hash of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileEntry(size_bytes=file.tell(), sha256=digest.hexdigest())


def check_kind(path: Path) -> None:
    """Refuses a file that could hold code: an unknown kind, or an array of Python objects.

    Raises:
        ReleaseError: the ending is not one of `ALLOWED_SUFFIXES`, or the array needs a pickle.
    """
    if path.suffix not in ALLOWED_SUFFIXES:
        raise ReleaseError(
            str(path),
            expected=f"a file ending in {', '.join(sorted(ALLOWED_SUFFIXES))}",
            got=path.suffix or "no ending",
            hint="releases hold plain formats only; save arrays with numpy.save.",
        )
    if path.suffix == ".npy":
        map_array(path)


def map_array(path: Path) -> NDArray[Any]:
    """An array of plain numbers or text, memory-mapped: two releases share what they share.

    Raises:
        ReleaseError: the file is no such array; nothing in it is ever unpickled.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # a damaged header is parsed as Python text, and fails as such
        raise _no_plain_array(path, str(error)) from None
    if not isinstance(array, np.ndarray):
        raise _no_plain_array(path, type(array).__name__)
    # The mapping stays alive below a plain view, and a view's slices cost a tenth of a memmap's.
    return array.view(np.ndarray)


def is_safe_name(name: str) -> bool:
    r"""Whether a relative name stays inside its directory and is spelt in the one plain way.

    >>> [is_safe_name(name) for name in ("index/items.faiss", "../x.json", "/x.json", "a//b.txt")]
    [True, False, False, False]
    """
    path = PurePosixPath(name)
    plain = str(path) == name and "\\" not in name and "\0" not in name
    return plain and not path.is_absolute() and ".." not in path.parts and name != "."


def force_to_disk(path: Path) -> None:
    """Returns once the bytes of a file, or the names in a directory, would outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def force_tree_to_disk(directory: Path) -> None:
    """`force_to_disk` for a directory and all below it."""
    for path in _walk(directory):
        force_to_disk(path)
    force_to_disk(directory)


def make_read_only(directory: Path) -> None:
    """Takes away the permission to write from a directory and all below it."""
    for path in [*_walk(directory), directory]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def _walk(directory: Path) -> Iterator[Path]:
    for folder, folder_names, file_names in os.walk(directory, followlinks=False):
        for name in [*folder_names, *file_names]:
            yield Path(folder, name)


def _no_plain_array(path: Path, got: str) -> ReleaseError:
    return ReleaseError(
        str(path),
        expected="an array of plain numbers or text",
        got=got.rstrip("."),
        hint="arrays of Python objects are pickles, and a pickle can run code.",
    )
