"""A directory that is there whole or not at all."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from upnext.errors import DataError
from upnext.registry.files import force_tree_to_disk


@contextlib.contextmanager
def made_whole(directory: Path) -> Iterator[Path]:
    """A place to write into, which becomes `directory` in one rename when the block ends well.

    Where the block raises, nothing is left behind.

    Raises: DataError: something is there already, other than an empty directory.
    """
    if directory.is_symlink() or (directory.exists() and not _is_empty_directory(directory)):
        raise DataError(
            str(directory),
            expected="a new or empty directory",
            got="one with files in it" if directory.is_dir() else "a file",
            hint="old and new files would mix; choose another place.",
        )
    target = directory.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as nearby:
        # One level down, as the temporary directory itself is its owner's alone to read.
        unfinished = Path(nearby) / target.name
        unfinished.mkdir()
        yield unfinished
        force_tree_to_disk(unfinished)
        unfinished.replace(target)


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
