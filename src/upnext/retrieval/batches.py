"""One epoch's examples in batches: shuffled, but never so far that windows share no reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from upnext.examples.history import Indices, ranges


@dataclass(frozen=True)
class EpochBatches(Sequence[Indices]):
    """Batches of examples, each worked out when it is asked for.

    Run r holds the examples lo[r] to hi[r] - 1 of one user; batch b has the runs from starts[b] to
    starts[b + 1] - 1, in the order of the log.
    """

    lo: Indices
    hi: Indices
    starts: Indices

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, place: int) -> Indices: ...
    @overload
    def __getitem__(self, place: slice) -> list[Indices]: ...
    def __getitem__(self, place: int | slice) -> Indices | list[Indices]:
        """The examples of one batch, or of some."""
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        if not 0 <= place < len(self):
            raise IndexError(f"batch {place} of {len(self)}")
        runs = slice(self.starts[place], self.starts[place + 1])
        return ranges(self.lo[runs], self.hi[runs])


@dataclass(frozen=True)
class ThinnedBatches(Sequence[Indices]):
    """The same batches without some of their examples, each of which stays by its own chance.

    `chances`: of examples [n] → [n]. A batch is thinned alike whenever it is asked for; it may end
    empty.
    """

    batches: EpochBatches
    chances: Callable[[Indices], NDArray[np.float64]]
    seed: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.batches)

    @overload
    def __getitem__(self, place: int) -> Indices: ...
    @overload
    def __getitem__(self, place: slice) -> list[Indices]: ...
    def __getitem__(self, place: int | slice) -> Indices | list[Indices]:
        """The examples of one batch that stay, or of some."""
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        chosen = self.batches[place]
        draws = np.random.default_rng((*self.seed, place)).random(len(chosen))
        return chosen[draws < self.chances(chosen)]


def epoch_batches(
    user_starts: Indices,
    *,
    batch_size: int,
    examples_per_user: int,
    run_length: int,
    generator: np.random.Generator,
) -> EpochBatches:
    """The examples of one epoch in batches of `batch_size`, but for the last.

    Up to `run_length` consecutive examples of a user stay together, so that they share reads, and
    these runs are shuffled among each other. Where a long history is cut is drawn anew each time. A
    run that does not fit into a batch goes on in the next: matrix products of ever new shapes would
    each have to be prepared, which takes longer than they do.

    Args:
        user_starts: [U + 1] user u's examples are those from user_starts[u] to
            user_starts[u + 1] - 1.
        examples_per_user: how many each user gives at most, in runs chosen at random, so that heavy
            users do not dominate; 0 takes all.
    """
    user, lo, hi = _runs(user_starts, run_length, generator)
    if examples_per_user > 0:
        lo, hi = _some_of_each(user, lo, hi, examples_per_user, generator)
    shuffled = generator.permutation(len(lo))
    lo, hi = _cut(lo[shuffled], hi[shuffled], batch_size)
    batch = (np.cumsum(hi - lo) - 1) // batch_size
    order = np.lexsort((lo, batch))
    num_runs = np.bincount(batch) if len(batch) else np.zeros(0, np.int64)
    return EpochBatches(lo[order], hi[order], np.concatenate([[0], np.cumsum(num_runs)]))


def _cut(lo: Indices, hi: Indices, batch_size: int) -> tuple[Indices, Indices]:
    """The same runs one after the other, cut wherever a batch is full."""
    ends = np.cumsum(hi - lo)
    full = np.arange(batch_size, ends[-1] if len(ends) else 0, batch_size)
    places = np.union1d(ends, full)
    run = np.searchsorted(ends, places)
    cut_hi = hi[run] - (ends[run] - places)
    return cut_hi - np.diff(places, prepend=0), cut_hi


def _runs(
    user_starts: Indices, run_length: int, generator: np.random.Generator
) -> tuple[Indices, Indices, Indices]:
    """User, first and end of each run; a user of more than one run begins with one cut short."""
    counts = np.diff(user_starts)
    is_long = counts > run_length
    first = np.where(is_long, generator.integers(1, run_length + 1, len(counts)), counts)
    num_runs = (counts > 0) + -(-(counts - first) // run_length)
    user = np.repeat(np.arange(len(counts)), num_runs)
    place = np.arange(len(user)) - np.repeat(np.cumsum(num_runs) - num_runs, num_runs)
    hi = user_starts[user] + np.minimum(first[user] + place * run_length, counts[user])
    lo = user_starts[user] + np.maximum(first[user] + (place - 1) * run_length, 0)
    lo = np.where(place == 0, user_starts[user], lo)
    return user, lo, hi


def _some_of_each(
    user: Indices, lo: Indices, hi: Indices, limit: int, generator: np.random.Generator
) -> tuple[Indices, Indices]:
    """Runs of each user drawn until `limit` examples are reached, the last one cut to fit."""
    drawn = np.lexsort((generator.random(len(user)), user))
    sizes = (hi - lo)[drawn]
    before = np.cumsum(sizes) - sizes
    begins = np.ones(len(drawn), bool)
    begins[1:] = np.diff(user[drawn]) != 0
    before -= np.maximum.accumulate(np.where(begins, before, 0))
    kept = np.clip(limit - before, 0, sizes)
    from_lo = lo[drawn] + (generator.random(len(drawn)) * (sizes - kept + 1)).astype(np.int64)
    order = np.argsort(from_lo[kept > 0])
    chosen_lo, num_chosen = from_lo[kept > 0][order], kept[kept > 0][order]
    return chosen_lo, chosen_lo + num_chosen
