import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.examples.history import Indices
from upnext.retrieval.batches import EpochBatches, epoch_batches

RUN_LENGTH = 32


def users_of(counts: list[int]) -> Indices:
    return np.repeat(np.arange(len(counts)), counts)


def batches_of(
    counts: list[int], *, batch_size: int, examples_per_user: int, seed: int
) -> EpochBatches:
    return epoch_batches(
        np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        batch_size=batch_size,
        examples_per_user=examples_per_user,
        run_length=RUN_LENGTH,
        generator=np.random.default_rng(seed),
    )


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(0, 150), max_size=12),
    examples_per_user=st.integers(0, 90),
    batch_size=st.integers(1, 200),
    seed=st.integers(0, 3),
)
def test_an_epoch_takes_from_each_user_what_it_may(
    counts: list[int], examples_per_user: int, batch_size: int, seed: int
) -> None:
    batches = batches_of(
        counts, batch_size=batch_size, examples_per_user=examples_per_user, seed=seed
    )
    taken = np.concatenate([np.zeros(0, np.int64), *batches])
    assert len(np.unique(taken)) == len(taken)
    most = examples_per_user or max(counts, default=0)
    of_each = np.bincount(users_of(counts)[taken], minlength=len(counts))
    assert of_each.tolist() == [min(count, most) for count in counts]
    for batch in batches:
        assert (np.diff(batch) > 0).all()
        assert 0 < len(batch) <= batch_size
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_epochs_differ_and_come_again_with_their_seed() -> None:
    def epoch(seed: int) -> list[list[int]]:
        batches = batches_of([300, 20, 80], batch_size=40, examples_per_user=50, seed=seed)
        return [batch.tolist() for batch in batches]

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)


def test_every_example_of_a_heavy_user_has_its_turn() -> None:
    turns = np.zeros(100, np.int64)
    for seed in range(200):
        batches = batches_of([100], batch_size=2_048, examples_per_user=25, seed=seed)
        turns[np.concatenate(batches)] += 1
    # Each example is drawn with probability 1/4: 50 turns, give or take 6.
    assert turns.sum() == 200 * 25
    assert abs(turns - 50).max() < 5 * 6.2


def test_examples_of_a_user_stay_together() -> None:
    """960 examples of three users in runs of 32: one more for each user's first, which is short.

    A border between batches cuts one run at most, and is no break within a batch.
    """
    batches = batches_of([320, 320, 320], batch_size=64, examples_per_user=0, seed=0)
    breaks = sum(np.count_nonzero(np.diff(batch) > 1) for batch in batches)
    assert breaks < 3 * (320 // RUN_LENGTH + 1)


def test_where_a_long_history_is_cut_changes_from_epoch_to_epoch() -> None:
    cuts = {
        tuple(batches_of([100], batch_size=1, examples_per_user=0, seed=seed).lo.tolist())
        for seed in range(20)
    }
    assert len(cuts) > 10
