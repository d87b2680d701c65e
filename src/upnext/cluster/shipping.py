"""Large arrays travel as files that all nodes see, mapped by whoever reads them.

What a training learns from may be larger than any worker's memory. Pickled, it would be copied
into each; a mapped file is there once a node, and only as far as it is read.
"""

import hashlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import cloudpickle

LEAST_BYTES = 1 << 20
"""Smaller arrays go along with all the rest."""


def packed(value: object, directory: Path) -> bytes:
    """An object as bytes that `unpacked` takes, its large arrays as files in a directory.

    An array that is a mapped file already, as those of prepared logs are, stays where it is. Files
    are named by what is in them, so that to pack again costs no more than to look.
    """
    directory.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    _Packer(content, directory).dump(value)  # type: ignore[no-untyped-call]
    return content.getvalue()


def unpacked(content: bytes) -> Any:
    """What was packed; only ever by another process of the same run."""
    return pickle.loads(content)


class _Packer(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, directory: Path) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)  # type: ignore[no-untyped-call]
        self._directory = directory.resolve()

    def reducer_override(self, obj: Any) -> Any:
        """How an object is told; NotImplemented leaves it to pickle."""
        is_plain = type(obj) in (np.ndarray, np.memmap) and obj.dtype.kind in "biufcmMSU"
        if is_plain and obj.nbytes >= LEAST_BYTES:
            return _in_its_file(obj) or self._in_a_new_file(obj)
        return super().reducer_override(obj)  # type: ignore[no-untyped-call]

    def _in_a_new_file(self, array: NDArray[Any]) -> "Reduced":
        whole = np.ascontiguousarray(array)
        hasher = hashlib.blake2b(whole.view(np.uint8).reshape(-1).data, digest_size=16)
        hasher.update(f"{whole.dtype.str} {whole.shape}".encode())
        path = self._directory / f"{hasher.hexdigest()}.bin"
        if not path.exists():
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                whole.tofile(file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        return mapped, (path, whole.dtype.str, array.shape, 0)


Reduced = tuple[Callable[..., NDArray[Any]], tuple[Path, str, tuple[int, ...], int]]


def mapped(path: Path, dtype: str, shape: tuple[int, ...], offset: int) -> NDArray[Any]:
    """An array that lies in a file, read when it is touched and never written."""
    return np.asarray(np.memmap(path, np.dtype(dtype), "r", offset, shape))


def _in_its_file(array: NDArray[Any]) -> Reduced | None:
    """Where an array lies in a file that it was mapped from; None if it does not."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    while isinstance(owner, np.memmap) and isinstance(owner.base, np.memmap):
        owner = owner.base
    if not isinstance(owner, np.memmap) or not isinstance(owner.filename, str | Path):
        return None
    if owner.mode != "r" or not Path(owner.filename).exists() or not array.flags.c_contiguous:
        return None
    begins = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    path = Path(owner.filename).resolve()
    return mapped, (path, array.dtype.str, array.shape, owner.offset + begins)
