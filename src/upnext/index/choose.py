"""Which index? One config, one place that chooses, one that finds out what was saved."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, Self

from upnext.errors import ConfigError
from upnext.index import files
from upnext.index.approximate import ApproximateIndex
from upnext.index.exact import ExactIndex
from upnext.index.hashing import HashingIndex
from upnext.index.search import Found
from upnext.schema import Floats, Rows


class Index(Protocol):
    """The same few calls for every index. An index never changes; those that do give a new one."""

    @property
    def facts(self) -> files.IndexFacts:
        """What was built, how good it is, and what building it took."""
        ...

    @property
    def recall_at_100(self) -> float:
        """Share of the true best 100 that a search finds, as measured at build."""
        ...

    @property
    def removed_rows(self) -> Rows:
        """Rows that are never returned."""
        ...

    def search(
        self,
        user_vectors: Floats,
        k: int,
        *,
        excluded_rows: Sequence[Rows] | None = None,
        allowed_rows: Rows | None = None,
    ) -> Found:
        """The k items with the greatest inner product; see `ExactIndex.search`."""
        ...

    def with_items(self, item_vectors: Floats) -> Self:
        """An index of more items [N2, D], of which the first N are these, unchanged."""
        ...

    def without_rows(self, rows: Rows) -> Self:
        """An index that never returns these rows."""
        ...

    def save(self, directory: Path) -> None:
        """Writes all but the item vectors."""
        ...


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """How candidates are found for a user vector."""

    kind: Literal["auto", "exact", "approximate", "hashing"] = "auto"
    """auto: exact while that is fast enough, approximate above."""
    max_exact_items: int = 100_000
    """With auto, the largest catalogue that is searched exactly (some 1 ms a request)."""
    min_recall: float = 0.95
    """Share of the true best 100 that the approximate index must find; it opens cells until so."""
    num_bits: int = 256
    """Hashing: random projections a vector."""
    num_compared: int = 2000
    """Hashing: items with the nearest hashes whose inner products are computed."""

    def __post_init__(self) -> None:
        if not 0 < self.min_recall <= 1:
            got = str(self.min_recall)
            raise ConfigError("index min_recall", expected="a share above 0, at most 1", got=got)
        for name in ("num_bits", "num_compared"):
            if getattr(self, name) < 1:
                got = str(getattr(self, name))
                raise ConfigError(f"index {name}", expected="at least 1", got=got)


def build_index(
    item_vectors: Floats, config: IndexConfig, *, user_vectors: Floats | None = None
) -> Index:
    """Builds the index that the config asks for.

    Args:
        item_vectors: [N, D] float32, rows 0 and 1 reserved.
        config: which kind, and its settings.
        user_vectors: [B, D] typical queries; recall is measured with them, and an approximate
            index is made for them.

    Raises: DataError: the vectors cannot be searched.
    """
    began = time.perf_counter()
    index = _new_index(item_vectors, config, user_vectors)
    build_s = round(time.perf_counter() - began, 3)
    return replace(index, facts=replace(index.facts, build_s=build_s))


def load_index(directory: Path, item_vectors: Floats) -> Index:
    """Loads whichever kind of index was saved in the directory.

    Raises: ReleaseError: nothing there, damaged, or built on other vectors.
    """
    match files.read_facts(directory).kind:
        case "exact":
            return ExactIndex.load(directory, item_vectors)
        case "approximate":
            return ApproximateIndex.load(directory, item_vectors)
        case "hashing":
            return HashingIndex.load(directory, item_vectors)


def _new_index(
    item_vectors: Floats, config: IndexConfig, user_vectors: Floats | None
) -> ExactIndex | ApproximateIndex | HashingIndex:
    kind = config.kind
    if kind == "auto":
        kind = "exact" if len(item_vectors) <= config.max_exact_items else "approximate"
    match kind:
        case "exact":
            return ExactIndex.build(item_vectors)
        case "approximate":
            return ApproximateIndex.build(
                item_vectors, min_recall=config.min_recall, user_vectors=user_vectors
            )
        case "hashing":
            return HashingIndex.build(
                item_vectors,
                num_bits=config.num_bits,
                num_compared=config.num_compared,
                user_vectors=user_vectors,
            )
