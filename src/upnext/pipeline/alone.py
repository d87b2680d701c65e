"""One process at a time in a directory, so that two never remove each other's files."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upnext.errors import DataError


@contextmanager
def alone_in(directory: Path, *, doing: str) -> Iterator[None]:
    """Keeps other processes out of a directory that is there; a killed one keeps nobody out.

    Raises: DataError: another process is in it, `doing` the same.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            got = f"another process that is {doing}"
            raise DataError(str(directory), expected="nobody at work in it", got=got) from None
        yield
    finally:
        os.close(descriptor)
