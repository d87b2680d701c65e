"""Where does the target stand among *all* items? Scores come in batches, never all at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows

ROW_BITS = 32
MASKED = np.int64(np.iinfo(np.int64).min)
FIRST_FINITE = np.int64(-0x7F800000 << ROW_BITS)
"""Keys below this one belong to a score of -inf, or are masked."""
KEYS_AT_ONCE = 8_000_000

Keys = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SeenRows:
    """What each event's user had watched before: `rows[starts[i]:starts[i + 1]]` is event i's.

    `starts` [B + 1] int64, `rows` [starts[-1]] int32.
    """

    starts: NDArray[np.int64]
    rows: Rows


@dataclass(frozen=True, slots=True)
class RankedTargets:
    """`ranks` [B] int64, from 1; `top_rows` [B, top_k] int32, best first, -1 in empty slots."""

    ranks: NDArray[np.int64]
    top_rows: Rows


def rank_targets(
    score_batch: Callable[[slice], Floats],
    target_rows: Rows,
    *,
    num_rows: int,
    seen: SeenRows | None = None,
    top_k: int = 50,
    batch_size: int = 1024,
    progress: Callable[[int], None] | None = None,
) -> RankedTargets:
    """Ranks each event's target among all N − 2 items, and keeps the best `top_k`.

        rank = 1 + #(s_j > s_target) + #(s_j = s_target and j < target)

    Rows follow falling training frequency, so ties go to the more watched item.

    Args:
        score_batch: the scores of a slice of events, [b, N] float32; -inf for what must never be
            among the best.
        target_rows: [B] the item that was watched. Row 0 or 1 is an item that the vocabulary does
            not know: its rank is N + 1, a miss at every k.
        num_rows: N, with the two reserved rows; those are never ranked.
        seen: rows that are left out, the target itself excepted. None leaves nothing out.
        top_k: how many rows of each event are kept.
        batch_size: events scored at a time; their scores take 4 · batch_size · N bytes.
        progress: called with the number of events done after each batch.

    Raises: ValueError: scores of another shape, or nan among them.

    >>> scores = np.array([[9, 9, 0.5, 0.7, 0.5], [9, 9, 0.5, 0.7, 0.5]], np.float32)
    >>> ranked = rank_targets(lambda s: scores[s], np.array([4, 1]), num_rows=5, top_k=2)
    >>> ranked.ranks.tolist(), ranked.top_rows.tolist()
    ([3, 6], [[3, 2], [3, 2]])
    """
    num_events = len(target_rows)
    ranks = np.full(num_events, num_rows + 1, np.int64)
    top_rows = np.full((num_events, top_k), -1, np.int32)
    for start in range(0, num_events, batch_size):
        batch = slice(start, min(start + batch_size, num_events))
        scores = score_batch(batch)
        if scores.shape != (batch.stop - start, num_rows):
            expected = (batch.stop - start, num_rows)
            raise ValueError(f"score_batch: expected shape {expected}, got {scores.shape}")
        step = max(1, KEYS_AT_ONCE // num_rows)
        for first in range(start, batch.stop, step):
            part = slice(first, min(first + step, batch.stop))
            keys = _sort_keys(scores[first - start : part.stop - start])
            _rank_part(keys, part, target_rows[part], seen, ranks[part], top_rows[part])
        if progress is not None:
            progress(batch.stop)
    return RankedTargets(ranks, top_rows)


def _sort_keys(scores: Floats) -> Keys:
    """One integer a score, [b, N], greater for the better: the score's order above, the row below.

    No two keys of an event are equal, so that one comparison settles score and tie at once. The
    bits of a float32, read as an integer, are in the order of its values once the negative ones
    are turned round; adding 0.0 makes -0.0 the same zero.
    """
    if np.isnan(scores).any():
        raise ValueError("score_batch: expected numbers, got nan")
    bits = (scores.astype(np.float32, copy=False) + np.float32(0.0)).view(np.int32)
    keys = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64) << ROW_BITS
    keys |= np.arange(scores.shape[1])[::-1]
    return keys


def _rank_part(
    keys: Keys,
    part: slice,
    target_rows: Rows,
    seen: SeenRows | None,
    ranks: NDArray[np.int64],
    top_rows: Rows,
) -> None:
    """Fills `ranks` [b] and `top_rows` [b, top_k] of the events `part` from their keys [b, N]."""
    num_rows = keys.shape[1]
    is_known = np.flatnonzero(target_rows >= NUM_RESERVED_ROWS)
    target_keys = keys[is_known, target_rows[is_known]]
    keys[:, :NUM_RESERVED_ROWS] = MASKED
    if seen is not None:
        starts = seen.starts[part.start : part.stop + 1]
        events = np.repeat(np.arange(len(keys)), np.diff(starts))
        keys[events, seen.rows[starts[0] : starts[-1]]] = MASKED
        keys[is_known, target_rows[is_known]] = target_keys
    ranks[is_known] = 1 + (keys[is_known] > target_keys[:, None]).sum(axis=1)
    kept = min(top_rows.shape[1], num_rows)
    best = np.partition(keys, num_rows - kept, axis=1)[:, num_rows - kept :]
    best = np.sort(best, axis=1)[:, ::-1]
    rows = num_rows - 1 - (best & (2**ROW_BITS - 1))
    top_rows[:, :kept] = np.where(best < FIRST_FINITE, -1, rows)
