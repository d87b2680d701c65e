"""The vectors of all users and items of a release, in files that other tools read."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.examples.history import EventLog, History, Indices
from upnext.export.directory import made_whole
from upnext.export.formats import write_ids, write_npy, write_parquet, write_word2vec
from upnext.recommender import Recommender
from upnext.schema import NUM_RESERVED_ROWS, Floats, TimesMs

USERS_AT_ONCE = 2_048
"""Whose histories are gathered at a time: with 50 watches of 256 numbers each, 100 MB."""

NEVER_MS = np.iinfo(np.int64).min


def export_vectors(
    recommender: Recommender,
    directory: Path,
    *,
    at_ms: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Writes user and item vectors whose inner products are the scores of retrieval.

    A bonus of what was watched before, which pages add where it may come again, is not in them.

    For users, and likewise for items:

        user_vectors.parquet   user_id in the owner's type; vector, D float32 numbers
        user_vectors.npy       [U, D] float32, to be mapped into memory
        user_ids.npy           [U] the ids of its lines: int64, or text
        users.w2v.txt          word2vec text; gensim's KeyedVectors.load_word2vec_format reads it

    and export.json, which names the release, `at_ms` and the counts. Words cannot hold white space:
    in the text files it stands as in a URL ("a b" → "a%20b"), and "%" as "%25". Tools that compare
    by angle, as gensim's `most_similar` does, order items otherwise than retrieval: the lengths of
    item vectors count here.

    Memory does not grow with the number of users but for their ids and histories.

    Args:
        directory: a new or empty one; it appears when all is written.
        at_ms: user vectors as of this time, from events strictly before it; otherwise as of just
            after each user's last event (for users without any, after everyone's last).
        progress: called with the users done and the users in all.

    Raises: DataError: `directory` holds files, or an id cannot be written in one of the formats.
    """
    users, item_vectors = recommender.users, recommender.retriever.item_vectors[NUM_RESERVED_ROWS:]
    rows = np.arange(NUM_RESERVED_ROWS, users.num_rows)
    times = moments_ms(recommender.history, at_ms)[rows]
    shape = (len(rows), item_vectors.shape[1])
    about = {
        "release": recommender.version,
        "at_ms": at_ms,
        "num_users": len(rows),
        "num_items": len(item_vectors),
        "vector_size": shape[1],
    }
    with made_whole(directory) as place:
        blocks = _user_vector_blocks(recommender, rows, times, progress)
        write_npy(place / "user_vectors.npy", blocks, shape=shape, dtype=np.float32)
        user_vectors = np.load(place / "user_vectors.npy", mmap_mode="r", allow_pickle=False)
        _write_named(place, "user", users.series(), user_vectors)
        items = recommender.encoder.catalogue.items.series()
        write_npy(
            place / "item_vectors.npy", [item_vectors], shape=item_vectors.shape, dtype=np.float32
        )
        _write_named(place, "item", items, item_vectors)
        (place / "export.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def user_vectors_at(recommender: Recommender, user_rows: Indices, at_ms: TimesMs) -> Floats:
    """[B, D]: the vectors of users of the release at one moment each, user_rows [B], at_ms [B]."""
    history = recommender.history
    return recommender.retriever.user_vectors(history, user_rows, at_ms)


def moments_ms(history: History, at_ms: int | None) -> TimesMs:
    """[U] this time for every user; where it is None, just after each one's last event.

    Users without any event stand at everyone's last.
    """
    num_users = history.watches.num_users
    if at_ms is not None:
        return np.full(num_users, at_ms, np.int64)
    logs = (history.watches, history.searches, history.shown)
    last_ms: NDArray[np.int64] = np.maximum.reduce([_last_event_ms(log) for log in logs])
    return np.where(last_ms == NEVER_MS, last_ms.max(), last_ms) + 1


def _last_event_ms(log: EventLog) -> TimesMs:
    last_ms = np.full(log.num_users, NEVER_MS)
    has_events = log.starts[1:] > log.starts[:-1]
    last_ms[has_events] = log.at_ms[log.starts[1:][has_events] - 1]
    return last_ms


def _user_vector_blocks(
    recommender: Recommender,
    user_rows: Indices,
    at_ms: TimesMs,
    progress: Callable[[int, int], None],
) -> Iterator[Floats]:
    for start in range(0, len(user_rows), USERS_AT_ONCE):
        part = slice(start, start + USERS_AT_ONCE)
        yield user_vectors_at(recommender, user_rows[part], at_ms[part])
        progress(len(user_rows[: part.stop]), len(user_rows))


def _write_named(place: Path, kind: str, ids: pl.Series, vectors: Floats) -> None:
    named = ids.rename(f"{kind}_id")
    write_ids(place / f"{kind}_ids.npy", named)
    write_parquet(place / f"{kind}_vectors.parquet", named, vectors)
    write_word2vec(place / f"{kind}s.w2v.txt", named, vectors)
