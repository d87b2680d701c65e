"""Checkpoints: plain arrays in one file, there whole or not at all, that know whose they are."""

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.errors import ConfigError, DataError
from upnext.training.group import ALONE, Group
from upnext.training.sharded import own_rows
from upnext.training.state import Arrays, array_json, json_array

FORMAT = 3
"""Goes up when older checkpoints can no longer be read."""
NUM_KEPT = 2
"""The newest, and the one before it in case a disk damages the newest."""
HEADER = "header"


@dataclass(frozen=True)
class Checkpoint:
    """`position` holds plain values, `arrays` all the rest."""

    path: Path
    position: Mapping[str, Any]
    arrays: Arrays


@dataclass(frozen=True, kw_only=True)
class CheckpointFolder:
    """The checkpoints of one run.

    `identity` says whose they are: plain values, with those of the config under `config`. Of a
    group of workers, each has such a folder over the same directory. Beside `checkpoint-STEP.npz`
    lies what each of them alone holds, `shard-STEP-RANK-of-SIZE.npz`, written before it.
    """

    directory: Path
    identity: Mapping[str, Any]
    group: Group = ALONE

    def save(
        self,
        step: int,
        position: Mapping[str, Any],
        arrays: Arrays,
        *,
        shard: Arrays | None = None,
    ) -> None:
        """Writes a checkpoint; whatever cuts this short, the one before stays as it was.

        The bytes are on disk before the name is, and the name before older files go. Where workers
        hold shards, all of them call this, and no name is there before all shards are.

        Args:
            shard: this worker's own rows of sharded arrays.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if shard:
            self._write(self._shard_name(step, self.group.rank, self.group.size), shard)
            self.group.wait()
        if not self.group.is_first:
            return
        header = {
            "format": FORMAT,
            "identity": self.identity,
            "position": position,
            "num_shards": self.group.size if shard else 0,
        }
        name = f"checkpoint-{step:012d}.npz"
        self._write(name, {HEADER: json_array(header), **arrays})
        for older in self._paths()[NUM_KEPT:]:
            older.unlink()
        self._remove_shards_before(self._paths()[-1])

    def newest(
        self,
        *,
        say: Callable[[str], None],
        is_sharded: Callable[[str], bool] = lambda _: False,
    ) -> Checkpoint | None:
        """The newest checkpoint that can be read, if there is any.

        Args:
            say: told of one that is damaged.
            is_sharded: whether of an array of such a name this worker wants its own rows only,
                however many workers had held them.

        Raises:
            ConfigError, DataError: it was left by a run with another config, or on other data.
        """
        for path in self._paths():
            try:
                arrays = _read(path)
                header = array_json(arrays.pop(HEADER))
                whole = [name for name in arrays if is_sharded(name)]
                arrays |= {name: own_rows([arrays[name]], self.group) for name in whole}
                arrays |= self._from_shards(path, header.get("num_shards", 0), is_sharded)
            except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
                say(f"{path} is damaged and left alone: {error}")
                continue
            theirs = {name: header.get(name) for name in ("format", "identity")}
            _check_identity(path, theirs, {"format": FORMAT, "identity": self.identity})
            return Checkpoint(path, header["position"], arrays)
        return None

    def _from_shards(
        self, path: Path, num_shards: int, is_sharded: Callable[[str], bool]
    ) -> dict[str, NDArray[Any]]:
        """What lies in the shards of a checkpoint, one array after the other."""
        if not num_shards:
            return {}
        step = int(path.stem.removeprefix("checkpoint-"))
        names = [self._shard_name(step, rank, num_shards) for rank in range(num_shards)]
        with ExitStack() as opened:
            shards = [
                opened.enter_context(np.load(self.directory / name, allow_pickle=False))
                for name in names
            ]
            return {
                name: own_rows(
                    [shard[name] for shard in shards], self.group if is_sharded(name) else ALONE
                )
                for name in shards[0]
            }

    def _write(self, name: str, arrays: Arrays) -> None:
        kind = name.partition("-")[0]
        # A worker that was taken for lost may still be writing.
        partial = self.directory / f"{kind}-{self.group.rank}-{os.getpid()}.partial"
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.directory / name)
        _force_names_to_disk(self.directory)

    def _remove_shards_before(self, oldest: Path) -> None:
        first = oldest.name.replace("checkpoint-", "shard-").removesuffix(".npz")
        for shard in self.directory.glob("shard-*.npz"):
            if shard.name < first:
                shard.unlink()

    def _paths(self) -> list[Path]:
        """Newest first."""
        return sorted(self.directory.glob("checkpoint-*.npz"), reverse=True)

    @staticmethod
    def _shard_name(step: int, rank: int, size: int) -> str:
        return f"shard-{step:012d}-{rank}-of-{size}.npz"


def remove_checkpoints(directory: Path) -> None:
    """Removes all checkpoints below a directory; curves stay."""
    for kind in ("checkpoint", "shard"):
        for path in [*directory.rglob(f"{kind}-*.npz"), *directory.rglob(f"{kind}-*.partial")]:
            path.unlink()


def digest(*values: object) -> str:
    """A hash of everything in some objects, that tells whether two runs learn from the same data.

    Goes into dataclasses, mappings, lists and tuples, down to arrays and plain values.

    Raises: TypeError: something else lies in them.

    >>> digest(np.arange(3)) == digest(np.arange(3)) != digest(np.arange(3.0))
    True
    """
    hasher = hashlib.blake2b(digest_size=16)
    for value in values:
        for part in _bytes_of(value):
            hasher.update(part)
    return hasher.hexdigest()


def _bytes_of(value: object) -> Iterator[bytes | memoryview]:
    match value:
        case np.ndarray():
            yield f"array {value.dtype.str} {value.shape}".encode()
            yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        case Mapping():
            yield f"mapping {len(value)}".encode()
            for key, inner in value.items():
                yield from _bytes_of(key)
                yield from _bytes_of(inner)
        case tuple() | list():
            yield f"list {len(value)}".encode()
            for inner in value:
                yield from _bytes_of(inner)
        case None | bool() | int() | float() | str():
            yield f"{value!r};".encode()
        case _ if is_dataclass(value) and not isinstance(value, type):
            yield type(value).__name__.encode()
            yield from _bytes_of(
                {field.name: getattr(value, field.name) for field in fields(value)}
            )
        case _:
            raise TypeError(f"{type(value).__name__} has no digest")


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Every array, so that nothing is used before all of it has passed its checksum."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _check_identity(path: Path, found: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    theirs, ours = dict(_leaves(found)), dict(_leaves(array_json(json_array(mine))))
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) == ours.get(name):
            continue
        error = ConfigError if name.startswith("identity.config.") else DataError
        raise error(
            f"{path}, {name.removeprefix('identity.')}",
            expected=f"that of this run, {ours.get(name)!r}",
            got=repr(theirs.get(name)),
            hint="another run left this checkpoint; train into another folder, or remove it.",
        )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Plain values by the path that leads to them; a list counts as one value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}".lstrip("."))
    else:
        yield name, value


def _force_names_to_disk(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
