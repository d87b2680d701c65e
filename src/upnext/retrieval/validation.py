"""Where held-out watches rank among all items, the catalogue dealt out over the workers."""

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.evaluation.ranks import SeenRows, rank_targets
from upnext.examples.watches import WatchTargets
from upnext.retrieval.trained import ROWS_AT_ONCE, TrainedRetrieval
from upnext.schema import NUM_RESERVED_ROWS, Floats
from upnext.training.group import Group

TARGETS_AT_ONCE = 1_024


def ranks_of(
    trained: TrainedRetrieval, held_out: WatchTargets, *, mask_watched: bool, group: Group
) -> NDArray[np.int64]:
    """[B] the rank of each held-out watch, from 1, by the rules of `rank_targets`.

    Several workers score every user against the items of their own rows; a rank is the sum of what
    each found to be better. `mask_watched`: leaves out what the user had watched, bar the target.
    """
    queries = trained.query_encoder.queries(held_out.history, held_out.user_rows, held_out.at_ms)
    of_users = trained.user_vectors(held_out.history, queries)
    seen = SeenRows(*held_out.watched_before()) if mask_watched else None
    if group.size > 1:
        return _ranks_by_shards(trained, of_users, held_out, seen, group)
    of_items = trained.item_vectors()
    return rank_targets(
        lambda part: of_users[part] @ of_items.T,
        held_out.item_rows,
        num_rows=len(of_items),
        seen=seen,
        top_k=1,
    ).ranks


def _ranks_by_shards(
    trained: TrainedRetrieval,
    of_users: Floats,
    held_out: WatchTargets,
    seen: SeenRows | None,
    group: Group,
) -> NDArray[np.int64]:
    num_rows = trained.model.item_table.num_rows
    rows = np.arange(group.rank, num_rows, group.size)
    of_items = _own_item_vectors(trained, rows, num_rows, group)
    is_real = rows >= NUM_RESERVED_ROWS
    num_better = np.zeros(len(held_out), np.int64)
    for start in range(0, len(held_out), TARGETS_AT_ONCE):
        part = slice(start, min(start + TARGETS_AT_ONCE, len(held_out)))
        targets = held_out.item_rows[part].astype(np.int64)
        scores = of_users[part] @ of_items.T
        own = np.flatnonzero(targets % group.size == group.rank)
        of_target = np.zeros(len(targets), np.float32)
        of_target[own] = scores[own, targets[own] // group.size]
        group.add_up([torch.from_numpy(of_target)])
        if seen is not None:
            starts = seen.starts[part.start : part.stop + 1]
            events = np.repeat(np.arange(len(targets)), np.diff(starts))
            watched = seen.rows[starts[0] : starts[-1]].astype(np.int64)
            is_own = watched % group.size == group.rank
            scores[events[is_own], watched[is_own] // group.size] = -np.inf
        # The target itself is neither better than nor before itself, masked or not.
        is_tied_and_before = (scores == of_target[:, None]) & (rows < targets[:, None])
        better = (scores > of_target[:, None]) | is_tied_and_before
        num_better[part] = (better & is_real).sum(axis=1)
    ranks = 1 + group.gather(num_better).reshape(group.size, -1).sum(axis=0)
    is_known = held_out.item_rows >= NUM_RESERVED_ROWS
    return np.where(is_known, ranks, num_rows + 1)


def _own_item_vectors(
    trained: TrainedRetrieval, rows: NDArray[np.int64], num_rows: int, group: Group
) -> Floats:
    """[N / W, D] of this worker's rows, in as many reads as every other worker makes."""
    model = trained.model
    model.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, num_rows, ROWS_AT_ONCE * group.size):
            own = rows[(rows >= start) & (rows < start + ROWS_AT_ONCE * group.size)]
            read = model.item_vectors(torch.from_numpy(own).to(model.device))
            parts.append(read.float().cpu())
    vectors: Floats = torch.cat(parts).numpy()
    return vectors
