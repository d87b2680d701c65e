"""One epoch's examples in batches: shuffled, but never so far that windows share no reads."""

from collections.abc import Iterator

import numpy as np

from upnext.examples.history import Indices

EXAMPLES_PER_RUN = 32
"""Consecutive examples of one user that stay together in a batch, so that they share reads."""


def epoch_batches(
    user_rows: Indices,
    *,
    batch_size: int,
    examples_per_user: int,
    generator: np.random.Generator,
) -> Iterator[Indices]:
    """The examples of one epoch in batches of about `batch_size`, each in the order of the log.

    Runs of a user's consecutive examples stay together and are shuffled among each other.

    Args:
        user_rows: [n] whose each example is; does not fall.
        examples_per_user: how many each user gives at most, chosen at random; 0 takes all.
    """
    chosen = np.arange(len(user_rows))
    if examples_per_user > 0:
        shuffled = np.lexsort((generator.random(len(user_rows)), user_rows))
        chosen = np.sort(shuffled[_place_in_group(user_rows[shuffled]) < examples_per_user])
    run_in_user = _place_in_group(user_rows[chosen]) // EXAMPLES_PER_RUN
    begins = np.ones(len(chosen), bool)
    begins[1:] = np.diff(user_rows[chosen]) != 0
    begins[1:] |= np.diff(run_in_user) != 0
    run = np.cumsum(begins) - 1
    run_lengths = np.bincount(run)
    shuffled_runs = generator.permutation(len(run_lengths))
    ends = np.cumsum(run_lengths[shuffled_runs])
    batch_of_run = np.empty(len(run_lengths), np.int64)
    batch_of_run[shuffled_runs] = (ends - 1) // batch_size
    batch = batch_of_run[run]
    by_batch = chosen[np.argsort(batch, kind="stable")]
    for part in np.split(by_batch, np.cumsum(np.bincount(batch))[:-1]):
        if len(part):
            yield part


def _place_in_group(groups: Indices) -> Indices:
    """0, 1, 2, … within each stretch of equal values."""
    places = np.arange(len(groups))
    begins = np.ones(len(groups), bool)
    begins[1:] = groups[1:] != groups[:-1]
    return places - np.maximum.accumulate(np.where(begins, places, 0))
