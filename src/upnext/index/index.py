"""What every index can do, whatever is behind it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

from upnext.best import Found
from upnext.index import files
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
