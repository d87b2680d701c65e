"""An index on disk: `index.json` says what it is, `index.faiss` holds what faiss built."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import faiss

from upnext.errors import ReleaseError
from upnext.schema import NUM_RESERVED_ROWS, Floats

IndexKind = Literal["exact", "approximate", "hashing"]
FACTS_NAME = "index.json"
FAISS_NAME = "index.faiss"


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexFacts:
    """`num_searched`: the cells probed, or the hashes compared exactly; 0 for an exact index."""

    kind: IndexKind
    num_searched: int = 0
    recall_at_100: float = 1.0


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


def write_faiss(directory: Path, index: Any) -> None:
    """Writes `index.faiss`."""
    faiss.write_index(index, str(directory / FAISS_NAME))


def read_faiss(directory: Path, item_vectors: Floats, *, num_dimensions: int) -> Any:
    """Maps `index.faiss` into memory, and requires that it was built on these vectors' shape.

    Raises: ReleaseError: missing, damaged, or built on other vectors.
    """
    path = directory / FAISS_NAME
    if not path.exists():
        raise ReleaseError(str(path), expected="an index", got="no such file")
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise ReleaseError(str(path), expected="an index of faiss", got=str(error)) from None
    expected = (len(item_vectors) - NUM_RESERVED_ROWS, num_dimensions)
    if (index.ntotal, index.d) != expected:
        raise ReleaseError(
            str(path),
            expected=f"{expected[0]} items of {expected[1]} numbers",
            got=f"{index.ntotal} of {index.d}",
            hint="the index belongs to other item vectors.",
        )
    return index
