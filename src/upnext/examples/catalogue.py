"""The items of the vocabulary and what is known of each, as arrays by item row."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.examples.item_features import category_rows, list_rows
from upnext.examples.vocabulary import Vocabulary
from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Floats, Items, Logs, Rows, TimesMs


@dataclass(frozen=True)
class Catalogue:
    """Everything the two stages know of an item, by its row; rows 0 and 1 hold zeros.

    channel_rows [N]; tag_rows [N, T], padded with 0; duration_s [N], 0 where unknown;
    published_at_ms [N], where unknown the first time the logs show the item; num_watches [N] in
    training. Titles are UTF-8 bytes, item r's in [title_starts[r], title_starts[r + 1]).
    """

    items: Vocabulary
    channels: Vocabulary
    tags: Vocabulary
    channel_rows: Rows
    tag_rows: Rows
    duration_s: Floats
    published_at_ms: TimesMs
    num_watches: NDArray[np.int64]
    title_starts: NDArray[np.int64]
    title_bytes: NDArray[np.uint8]

    @property
    def num_rows(self) -> int:
        """N: items and the two reserved rows."""
        return self.items.num_rows

    def title(self, row: int) -> str | None:
        """The item's title, or None where the owner gave none."""
        return self.titles(np.array([row]))[0]

    def titles(self, rows: Rows) -> list[str | None]:
        """The title of each item, as `title`."""
        spans = zip(
            self.title_starts[rows].tolist(), self.title_starts[rows + 1].tolist(), strict=True
        )
        return [self.title_bytes[start:end].tobytes().decode() or None for start, end in spans]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a release."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, value in vars(self).items():
            if isinstance(value, Vocabulary):
                arrays |= {f"{name}.ids": value.ids, f"{name}.order": value.order}
            else:
                arrays[name] = value
        return arrays

    def new_items(self, table: Items) -> pl.DataFrame:
        """The lines of a table whose items have no row here, in the order of their ids.

        Raises: DataError: the ids here are whole numbers, and some there are not.
        """
        dtype = pl.Int64 if self.items.ids_are_integers else pl.String
        given = table.frame["item_id"]
        ids = given.cast(dtype, strict=False)
        odd = given.filter(ids.cast(given.dtype).ne_missing(given))
        if not odd.is_empty():
            expected = "whole numbers, as in training"
            raise DataError("items.item_id", expected=expected, got=repr(odd[0]))
        is_new = self.items.rows(ids) == UNKNOWN_ROW
        return table.frame.with_columns(ids).filter(pl.Series(is_new)).sort("item_id")

    def with_items(self, lines: pl.DataFrame, *, first_seen_ms: int) -> "Catalogue":
        """The same rows, and after them one for each of these lines, as `new_items` gives them.

        A channel or tag that training had not seen stays unknown. Where the time of publication is
        unknown, `first_seen_ms` stands in.
        """
        added = Vocabulary.by_frequency(lines["item_id"])
        dated = lines.with_columns(pl.col("published_at_ms").fill_null(first_seen_ms))
        nobody = np.zeros(lines.height, np.int64)
        return _with_lines(self, _with_ids(self.items, added), dated, nobody)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Catalogue":
        """The inverse of `to_arrays`."""
        names = ("items", "channels", "tags")
        values: dict[str, Any] = {
            name: arrays[name] for name in cls.__annotations__ if name not in names
        }
        for name in names:
            values[name] = Vocabulary(arrays[f"{name}.ids"], arrays[f"{name}.order"])
        return cls(**values)


def build_catalogue(
    logs: Logs, *, max_items: int | None, min_watches: int, max_tags: int
) -> Catalogue:
    """Counts the training watches and keeps the items watched at least `min_watches` times."""
    items = Vocabulary.by_frequency(
        logs.watches.frame["item_id"], max_ids=max_items, min_count=min_watches
    )
    lines = described(items, logs.items)
    nothing = _nothing_but_reserved_rows(
        channels=Vocabulary.by_frequency(lines["channel_id"]),
        tags=Vocabulary.by_frequency(lines["tags"].explode().drop_nulls()),
        max_tags=max_tags,
    )
    num_watches = np.bincount(items.rows(logs.watches.frame["item_id"]), minlength=items.num_rows)
    return _with_lines(
        nothing,
        items,
        lines.with_columns(published_at_ms=_published_at_ms(lines, logs)),
        num_watches[NUM_RESERVED_ROWS:],
    )


def described(items: Vocabulary, table: Items) -> pl.DataFrame:
    """The line of each item in the order of rows, beginning with row 2; nulls where it has none."""
    return pl.DataFrame({"item_id": items.series()}).join(
        table.frame, on="item_id", how="left", maintain_order="left"
    )


def _nothing_but_reserved_rows(
    *, channels: Vocabulary, tags: Vocabulary, max_tags: int
) -> Catalogue:
    num_rows = NUM_RESERVED_ROWS
    return Catalogue(
        items=Vocabulary.by_frequency(pl.Series([], dtype=pl.Int64)),
        channels=channels,
        tags=tags,
        channel_rows=np.zeros(num_rows, np.int32),
        tag_rows=np.zeros((num_rows, max_tags), np.int32),
        duration_s=np.zeros(num_rows, np.float32),
        published_at_ms=np.zeros(num_rows, np.int64),
        num_watches=np.zeros(num_rows, np.int64),
        title_starts=np.zeros(num_rows + 1, np.int64),
        title_bytes=np.zeros(0, np.uint8),
    )


def _with_lines(
    catalogue: Catalogue, items: Vocabulary, lines: pl.DataFrame, num_watches: NDArray[np.int64]
) -> Catalogue:
    """One more row for each line, under a vocabulary that has these ids after the others."""
    titles = [text.encode() for text in lines["title"].fill_null("").to_list()]
    ends = np.cumsum([len(title) for title in titles], dtype=np.int64)
    more = {
        "channel_rows": category_rows(lines["channel_id"], catalogue.channels),
        "tag_rows": list_rows(lines["tags"], catalogue.tags, catalogue.tag_rows.shape[1]),
        "duration_s": lines["duration_s"].fill_null(0.0).to_numpy(),
        "published_at_ms": lines["published_at_ms"].to_numpy(),
        "num_watches": num_watches,
        "title_starts": catalogue.title_starts[-1] + ends,
        "title_bytes": np.frombuffer(b"".join(titles), np.uint8),
    }
    grown: dict[str, Any] = {
        name: np.concatenate([getattr(catalogue, name), array]) for name, array in more.items()
    }
    return replace(catalogue, items=items, **grown)


def _with_ids(known: Vocabulary, added: Vocabulary) -> Vocabulary:
    """The ids of both, each in its row."""
    ids = np.concatenate([known.ids, added.ids])
    return Vocabulary(ids, np.argsort(ids, kind="stable"))


def _published_at_ms(known: pl.DataFrame, logs: Logs) -> pl.Series:
    """Where unknown, the first event stands in: no example of the item can be earlier."""
    events = [logs.watches.frame.select("item_id", at_ms="started_at_ms")]
    if logs.impressions is not None:
        events.append(logs.impressions.frame.select("item_id", at_ms="shown_at_ms"))
    first_seen = pl.concat(events).group_by("item_id").agg(first_ms=pl.col("at_ms").min())
    joined = known.join(first_seen, on="item_id", how="left", maintain_order="left")
    return joined.select(pl.coalesce("published_at_ms", "first_ms")).to_series()
