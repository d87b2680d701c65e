"""The items of the vocabulary and what is known of each, as arrays by item row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.examples.vocabulary import Vocabulary
from upnext.schema import NUM_RESERVED_ROWS, PAD_ROW, Floats, Logs, Rows, TimesMs


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
        start, end = self.title_starts[row], self.title_starts[row + 1]
        return bytes(self.title_bytes[start:end]).decode() or None

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a release."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, value in vars(self).items():
            if isinstance(value, Vocabulary):
                arrays |= {f"{name}.ids": value.ids, f"{name}.order": value.order}
            else:
                arrays[name] = value
        return arrays

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
    known = pl.DataFrame({"item_id": items.series()}).join(
        logs.items.frame, on="item_id", how="left", maintain_order="left"
    )
    channels = Vocabulary.by_frequency(known["channel_id"])
    tags = Vocabulary.by_frequency(known["tags"].explode().drop_nulls())
    titles = [text.encode() for text in known["title"].fill_null("").to_list()]
    reserved = [0] * NUM_RESERVED_ROWS
    return Catalogue(
        items=items,
        channels=channels,
        tags=tags,
        channel_rows=_by_row(
            np.where(known["channel_id"].is_null(), PAD_ROW, channels.rows(known["channel_id"])),
            np.int32,
        ),
        tag_rows=_tag_rows(known["tags"], tags, max_tags),
        duration_s=_by_row(known["duration_s"].fill_null(0.0), np.float32),
        published_at_ms=_by_row(_published_at_ms(known, logs), np.int64),
        num_watches=_by_row(
            _num_watches(items, logs.watches.frame["item_id"])[NUM_RESERVED_ROWS:], np.int64
        ),
        title_starts=np.cumsum([0, *reserved, *map(len, titles)], dtype=np.int64),
        title_bytes=np.frombuffer(b"".join(titles), np.uint8),
    )


def _by_row(values: Any, dtype: Any) -> NDArray[Any]:
    array = np.zeros(len(values) + NUM_RESERVED_ROWS, dtype)
    array[NUM_RESERVED_ROWS:] = np.asarray(values)
    return array


def _num_watches(items: Vocabulary, item_ids: pl.Series) -> NDArray[np.int64]:
    return np.bincount(items.rows(item_ids), minlength=items.num_rows)


def _tag_rows(item_tags: pl.Series, tags: Vocabulary, max_tags: int) -> Rows:
    tag_rows = np.zeros((len(item_tags) + NUM_RESERVED_ROWS, max_tags), np.int32)
    exploded = (
        pl.DataFrame({"place": np.arange(len(item_tags)), "tag": item_tags})
        .explode("tag")
        .drop_nulls("tag")
        .with_columns(slot=pl.int_range(pl.len()).over("place"))
        .filter(pl.col("slot") < max_tags)
    )
    places = exploded["place"].to_numpy() + NUM_RESERVED_ROWS
    tag_rows[places, exploded["slot"].to_numpy()] = tags.rows(exploded["tag"])
    return tag_rows


def _published_at_ms(known: pl.DataFrame, logs: Logs) -> pl.Series:
    """Where unknown, the first event stands in: no example of the item can be earlier."""
    events = [logs.watches.frame.select("item_id", at_ms="started_at_ms")]
    if logs.impressions is not None:
        events.append(logs.impressions.frame.select("item_id", at_ms="shown_at_ms"))
    first_seen = pl.concat(events).group_by("item_id").agg(first_ms=pl.col("at_ms").min())
    joined = known.join(first_seen, on="item_id", how="left", maintain_order="left")
    return joined.select(pl.coalesce("published_at_ms", "first_ms")).to_series()
