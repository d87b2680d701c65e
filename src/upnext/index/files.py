"""An index on disk: `index.json` tells what it is, `index.faiss` holds what faiss built, the rest
are plain arrays. An index in shards has a directory of its own for each of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import faiss
import numpy as np
from numpy.typing import NDArray

from upnext.errors import ReleaseError
from upnext.index.filters import no_rows
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows

IndexKind = Literal["exact", "approximate", "hashing", "shards"]
FACTS_NAME = "index.json"
FAISS_NAME = "index.faiss"
REMOVED_NAME = "removed_rows.npy"
OTHER_VECTORS = "the index belongs to other item vectors."


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexFacts:
    """What was built, and what building it showed."""

    kind: IndexKind
    num_searched: int = 0
    """Cells that a search opens, or hashes whose items are scored; 0 for an exact index."""
    num_scored: int = 0
    """Items of open cells whose inner products are computed for the best 100; 0 of other kinds."""
    recall_at_100: float = 1.0
    """Share of the true best 100 that a search finds, measured on sample queries."""
    num_items: int = 0
    """Items that recall was measured on; those that came later do not count."""
    num_cells: int = 0
    """Cells that the items were sorted into; 0 where there are none."""
    size_bytes: int = 0
    """Beside the item vectors."""
    build_s: float = 0.0
    """Seconds from the item vectors to the measured index."""


def write_facts(directory: Path, facts: IndexFacts) -> None:
    """Writes `index.json`; the directory is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(facts), indent=2) + "\n"
    (directory / FACTS_NAME).write_text(text, encoding="utf-8")


def read_facts(directory: Path, *, kind: IndexKind | None = None) -> IndexFacts:
    """Reads `index.json`; with a `kind`, requires it.

    Raises: ReleaseError: missing, damaged, or an index of another kind.
    """
    path = directory / FACTS_NAME
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        facts = IndexFacts(**table)
    except FileNotFoundError:
        raise ReleaseError(str(path), expected="an index", got="no such file") from None
    except (ValueError, TypeError) as error:
        raise ReleaseError(str(path), expected="the facts of an index", got=str(error)) from None
    wanted = get_args(IndexKind) if kind is None else (kind,)
    if facts.kind not in wanted:
        raise ReleaseError(str(path), expected=f"kind {' or '.join(wanted)}", got=str(facts.kind))
    return facts


def write_removed(directory: Path, removed_rows: Rows) -> None:
    """Writes `removed_rows.npy`, if rows were removed."""
    if len(removed_rows):
        np.save(directory / REMOVED_NAME, removed_rows, allow_pickle=False)


def read_removed(directory: Path, item_vectors: Floats) -> Rows:
    """The removed rows, none if there is no such file.

    Raises: ReleaseError: damaged, or rows of other item vectors.
    """
    path = directory / REMOVED_NAME
    if not path.exists():
        return no_rows()
    rows: Rows = read_array(path, np.int32, shape=(-1,))
    if rows.size and not 0 <= rows.min() <= rows.max() < len(item_vectors):
        expected = f"rows below {len(item_vectors)}"
        raise ReleaseError(str(path), expected=expected, got=f"{rows.min()} to {rows.max()}")
    return rows


def read_array(path: Path, dtype: type[np.generic], *, shape: Sequence[int]) -> NDArray[Any]:
    """The array of a `.npy` file; -1 in the `shape` stands for any length.

    Raises: ReleaseError: missing, damaged, or of another kind or shape.
    """
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ReleaseError(str(path), expected="an array", got=str(error)) from None
    lengths = zip(array.shape, shape, strict=False)
    if (
        array.dtype != dtype
        or array.ndim != len(shape)
        or any(wanted not in (-1, length) for length, wanted in lengths)
    ):
        expected = f"{np.dtype(dtype)} of the shape {tuple(shape)}, -1 being any length"
        raise ReleaseError(
            str(path),
            expected=expected,
            got=f"{array.dtype} of the shape {array.shape}",
            hint=OTHER_VECTORS,
        )
    return array


def write_faiss(directory: Path, index: Any) -> None:
    """Writes `index.faiss`."""
    write = faiss.write_index_binary if is_binary(index) else faiss.write_index
    write(index, str(directory / FAISS_NAME))


def read_faiss(directory: Path, item_vectors: Floats, *, num_dimensions: int, kind: type) -> Any:
    """Maps of `index.faiss` what can be mapped, and requires this kind and these vectors' shape.

    Raises: ReleaseError: missing, damaged, of another kind, or built on other vectors.
    """
    path = directory / FAISS_NAME
    if not path.exists():
        raise ReleaseError(str(path), expected="an index", got="no such file")
    read = faiss.read_index_binary if issubclass(kind, faiss.IndexBinary) else faiss.read_index
    try:
        index = read(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise ReleaseError(str(path), expected="an index of faiss", got=str(error)) from None
    if not isinstance(index, kind):
        raise ReleaseError(
            str(path),
            expected=kind.__name__,
            got=type(index).__name__,
            hint="another version of upnext built the index: build it anew.",
        )
    expected = (len(item_vectors) - NUM_RESERVED_ROWS, num_dimensions)
    if (index.ntotal, index.d) != expected:
        raise ReleaseError(
            str(path),
            expected=f"{expected[0]} items of {expected[1]} numbers",
            got=f"{index.ntotal} of {index.d}",
            hint=OTHER_VECTORS,
        )
    return index


def copy_of(index: Any) -> Any:
    """A copy that may grow, also of an index that is mapped into memory."""
    if is_binary(index):
        return faiss.deserialize_index_binary(faiss.serialize_index_binary(index))
    return faiss.deserialize_index(faiss.serialize_index(index))


def size_bytes(index: Any) -> int:
    """Bytes of an index of faiss, in memory and on disk about the same."""
    serialize = faiss.serialize_index_binary if is_binary(index) else faiss.serialize_index
    return len(serialize(index))


def is_binary(index: Any) -> bool:
    """Whether an index of faiss holds bits instead of numbers."""
    return isinstance(index, faiss.IndexBinary)
