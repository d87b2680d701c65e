from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.retrieval.sampling import (
    Negatives,
    Sampler,
    SamplerName,
    keep_probability,
    negative_sampler,
)

SAMPLERS = get_args(SamplerName)
STEADY = ("uniform", "log_uniform", "unigram")
NUM_WATCHES = np.array([0, 9, 40, 25, 25, 9, 4, 1, 0, 0])
"""Rows 0 and 1 are reserved; the last two items were never watched."""
ITEM_ROWS = torch.arange(2, len(NUM_WATCHES))
SHARES = np.maximum(NUM_WATCHES[2:], 1) / np.maximum(NUM_WATCHES[2:], 1).sum()
OWN_ROW = 3
"""The positive of the example through whose eyes draws are seen."""
SCORES = torch.linspace(1.5, -1.0, len(ITEM_ROWS)).double()
NUM_DRAWS = 1_000
FEW = 5
"""Tries for unique rows, of which more would be sure to bring each item."""
TEMPERATURE = 0.5


def make(name: SamplerName, num_negatives: int = 12, **options: Any) -> Sampler:
    usual: dict[str, Any] = {"num_watches": NUM_WATCHES, "power": 0.5}
    return negative_sampler(name, num_negatives=num_negatives, **(usual | options))


def expected_draws(sampler: Sampler) -> NDArray[np.float64]:
    """E of every item [n]."""
    return sampler.log_expected(ITEM_ROWS).double().exp().numpy()


def probabilities(name: SamplerName, **options: Any) -> NDArray[np.float64]:
    """q of every item [n]: the expected draws of one try."""
    return expected_draws(make(name, num_negatives=1, **options))


def batch(generator: torch.Generator, size: int = 7) -> torch.Tensor:
    """Positives [size]: OWN_ROW and others that fall by the items' shares."""
    others = torch.multinomial(torch.from_numpy(SHARES), size - 1, True, generator=generator) + 2
    return torch.cat([torch.tensor([OWN_ROW]), others])


@cache
def draws_seen(name: SamplerName, unique: bool) -> list[Negatives]:
    """Independent draws while training goes on, without the example's accidental hits."""
    sampler, generator = make(name, FEW if unique else 12, unique=unique), torch.Generator()
    generator.manual_seed(1)
    draws = []
    for _ in range(NUM_DRAWS):
        positives = batch(generator)
        rows, log_expected = sampler.draw(positives, generator)
        sampler.observe(positives[1:])
        others = rows != OWN_ROW
        draws.append(Negatives(rows[others], log_expected[others].double()))
    return draws


def standard_errors(values: torch.Tensor, expected: torch.Tensor | float) -> float:
    """How many of its standard errors a mean lies off; what does not vary must not lie off."""
    off = (values.mean() - expected).abs()
    return 0.0 if off < 1e-6 else float(off / (values.std() / len(values) ** 0.5))


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_items_are_drawn_as_often_as_told(name: SamplerName, unique: bool) -> None:
    """LAW: E(draws of j / E_j) = 1 for each item j."""
    sums = torch.zeros(NUM_DRAWS, len(NUM_WATCHES), dtype=torch.float64)
    for place, (rows, log_expected) in enumerate(draws_seen(name, unique)):
        sums[place].index_add_(0, rows, (-log_expected).exp())
    assert not sums[:, [0, 1, OWN_ROW]].any()
    for row in {*ITEM_ROWS.tolist()} - {OWN_ROW}:
        assert standard_errors(sums[:, row], 1.0) < 4.5


def partition_sums(draws: list[Negatives], scores: torch.Tensor) -> torch.Tensor:
    """Σ_j exp(s_j) / E_j of each draw."""
    return torch.stack(
        [(scores[rows - 2] - log_expected).exp().sum() for rows, log_expected in draws]
    )


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_corrected_draws_add_up_to_the_catalogue(name: SamplerName, unique: bool) -> None:
    """LAW: E Σ_j exp(s_j) / E_j over a draw = Σ_j exp(s_j) over all items but the positive."""
    sums = partition_sums(draws_seen(name, unique), SCORES)
    expected = SCORES.exp().sum() - SCORES[OWN_ROW - 2].exp()
    assert sums.std() / len(sums) ** 0.5 < 0.02 * expected
    assert standard_errors(sums, expected) < 4.5


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    ("times", "plus"), [(-1.0, 0.0), (0.0, 0.0), (1 / TEMPERATURE, 0.0), (1.0, -np.log(12))]
)
def test_the_law_sees_a_wrong_correction(name: SamplerName, times: float, plus: float) -> None:
    """Of the wrong sign; none; divided by the temperature as scores are; of one try, not all."""
    draws = [Negatives(rows, times * right + plus) for rows, right in draws_seen(name, False)]
    scores = SCORES / TEMPERATURE
    expected = scores.exp().sum() - scores[OWN_ROW - 2].exp()
    assert standard_errors(partition_sums(draws, scores), expected) > 6


def test_uniform_gives_every_item_the_same() -> None:
    np.testing.assert_allclose(probabilities("uniform"), 1 / 8, rtol=1e-6)


def test_unigram_follows_the_power_of_the_watches_and_counts_none_as_one() -> None:
    weights = np.array([40, 25, 25, 9, 4, 1, 1, 1]) ** 0.5
    np.testing.assert_allclose(probabilities("unigram"), weights / weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(probabilities("unigram", power=0.0), 1 / 8, rtol=1e-6)


def test_log_uniform_is_uniform_in_the_log_of_the_place() -> None:
    """The share of the first r of n items is log(r + 1) / log(n + 1)."""
    shares = np.cumsum(probabilities("log_uniform"))
    np.testing.assert_allclose(shares, np.log(np.arange(2, 10)) / np.log(9), rtol=1e-6)


@pytest.mark.parametrize("name", ["uniform", "unigram"])
def test_strata_bring_the_sum_nearer_than_independent_tries(name: SamplerName) -> None:
    """Σ_j exp(s_j) / E_j over S independent tries varies by Var(exp(s) / q) / S."""
    sampler, generator = make(name), torch.Generator().manual_seed(9)
    draws = [sampler.draw(torch.tensor([2]), generator) for _ in range(NUM_DRAWS)]
    q = torch.from_numpy(probabilities(name))
    of_one_try = (SCORES.exp() ** 2 / q).sum() - SCORES.exp().sum() ** 2
    assert partition_sums(draws, SCORES).var() < 0.3 * of_one_try / 12


def chances_in_strata(widths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of items side by side: to be hit by one point or more, of which each unit has one."""
    ends = np.cumsum(widths)
    strata = np.arange(np.ceil(ends[-1] - 1e-9))[:, None]
    overlaps = np.minimum(ends, strata + 1) - np.maximum(ends - widths, strata)
    chances: NDArray[np.float64] = 1 - np.prod(1 - np.clip(overlaps, 0, 1), axis=0)
    return chances


def capped(q: NDArray[np.float64], num_draws: int) -> NDArray[np.float64]:
    """min(1, c · q) with the sum `num_draws`; c by bisection."""
    low, high = 0.0, num_draws / q.min()
    for _ in range(200):
        middle = (low + high) / 2
        is_short = np.minimum(1, middle * q).sum() < num_draws
        low, high = (middle, high) if is_short else (low, middle)
    widths: NDArray[np.float64] = np.minimum(1, high * q)
    return widths


@pytest.mark.parametrize("name", STEADY)
def test_expected_draws_follow_from_the_chance_of_one_try(name: SamplerName) -> None:
    q = probabilities(name)
    np.testing.assert_allclose(q.sum(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(expected_draws(make(name)), 12 * q, rtol=1e-5)
    for num_tries in range(1, 8):
        once = expected_draws(make(name, num_tries, unique=True))
        np.testing.assert_allclose(once, chances_in_strata(capped(q, num_tries)), rtol=1e-5)
    for num_tries in (8, 9, 100):
        assert (expected_draws(make(name, num_tries, unique=True)) == 1).all()


@pytest.mark.parametrize("name", STEADY)
def test_no_try_is_spent_on_what_is_sure_to_come_up(name: SamplerName) -> None:
    """Rows that come up twice where strata meet are few: of 500 tries most bring a row of their
    own, although with independent tries the most frequent would come up many times."""
    num_watches = np.concatenate([[0, 0], 100_000 // np.arange(1, 1_001)])
    sampler = make(name, 500, num_watches=num_watches, unique=True)
    rows, _ = sampler.draw(torch.tensor([2]), torch.Generator().manual_seed(10))
    assert 400 < len(rows) <= 500
    assert (rows.diff() > 0).all()


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize(("name", "num_even"), [("in_batch", 0), ("mixed", 3)])
def test_a_batch_adds_the_tries_of_its_other_examples(
    name: SamplerName, num_even: int, unique: bool
) -> None:
    sampler = make(name, num_even, unique=unique)
    generator = torch.Generator().manual_seed(2)
    for size in (2, 7, 30):  # the number of tries is that of the draw last made
        sampler.draw(batch(generator, size), generator)
        expected = (size - 1) * SHARES + num_even / 8
        if unique:
            even = chances_in_strata(np.full(8, num_even / 8)) if num_even else 0
            expected = 1 - (1 - SHARES) ** (size - 1) * (1 - even)
        np.testing.assert_allclose(expected_draws(sampler), expected, rtol=1e-5)


def test_rows_of_a_batch_come_first_and_are_its_positives() -> None:
    generator = torch.Generator().manual_seed(3)
    positives = batch(generator)
    assert make("in_batch").draw(positives, generator).rows.equal(positives)
    mixed = make("mixed").draw(positives, generator).rows
    assert mixed[:7].equal(positives)
    assert len(mixed) == 7 + 12


@pytest.mark.parametrize("name", SAMPLERS)
def test_unique_rows_come_once_and_with_their_own_expectation(name: SamplerName) -> None:
    sampler, generator = make(name, unique=True), torch.Generator().manual_seed(4)
    rows, log_expected = sampler.draw(batch(generator), generator)
    assert len({*rows.tolist()}) == len(rows)
    assert rows.min() >= 2
    assert log_expected.equal(sampler.log_expected(rows))
    assert log_expected.dtype == torch.float32
    assert (log_expected <= 0).all()  # a chance is no more than 1


@pytest.mark.parametrize(("unique", "num_tries"), [(False, 50), (True, 1)])
def test_tiny_chances_keep_their_digits(unique: bool, num_tries: int) -> None:
    num_watches = np.array([0, 0, 10**15, 1])
    sampler = make("unigram", num_tries, num_watches=num_watches, power=1.0, unique=unique)
    told = sampler.log_expected(torch.tensor([3])).item()
    assert told == pytest.approx(np.log(num_tries * 1e-15), rel=1e-6)


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_catalogue_of_one_and_a_batch_of_one_are_ordinary(
    name: SamplerName, unique: bool
) -> None:
    sampler = make(name, unique=unique, num_watches=np.array([0, 0, 5]))
    rows, log_expected = sampler.draw(torch.tensor([2]), torch.Generator().manual_seed(5))
    assert set(rows.tolist()) == {2}
    assert log_expected.isfinite().all()


def test_learned_counts_begin_at_one_and_follow_what_training_passes() -> None:
    sampler, generator = make("learned_unigram"), torch.Generator().manual_seed(6)
    np.testing.assert_allclose(expected_draws(sampler), 12 / 8, rtol=1e-6)
    sampler.observe(torch.tensor([2, 2, 2, 5]))
    np.testing.assert_allclose(expected_draws(sampler), 12 / 8, rtol=1e-6)  # of the last draw

    sampler.draw(torch.tensor([2]), generator)
    weights = np.array([4, 1, 1, 2, 1, 1, 1, 1]) ** 0.5
    np.testing.assert_allclose(expected_draws(sampler), 12 * weights / weights.sum(), rtol=1e-6)


def test_learned_counts_are_looked_at_anew_only_when_they_have_grown() -> None:
    sampler, generator = make("learned_unigram"), torch.Generator().manual_seed(7)
    sampler.observe(torch.full((1_000,), 4))
    sampler.draw(torch.tensor([2]), generator)
    before = expected_draws(sampler)
    sampler.observe(torch.full((10,), 9))
    sampler.draw(torch.tensor([2]), generator)
    assert (expected_draws(sampler) == before).all()
    sampler.observe(torch.full((90,), 9))
    sampler.draw(torch.tensor([2]), generator)
    assert expected_draws(sampler)[7] > 5 * before[7]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_resumed_sampler_draws_the_same_bit_for_bit(name: SamplerName) -> None:
    sampler, generator = make(name), torch.Generator().manual_seed(8)

    def draw(sampler: Sampler, generator: torch.Generator) -> Negatives:
        positives = batch(generator)
        negatives = sampler.draw(positives, generator)
        sampler.observe(positives)
        return negatives

    sampler.observe(batch(generator, 2_000))  # so many that what is learned is not new each time
    for _ in range(9):
        draw(sampler, generator)
    state, place = sampler.state(), generator.get_state()
    went_on = [draw(sampler, generator) for _ in range(9)]

    resumed, generator = make(name), torch.Generator()
    resumed.load_state(state)
    generator.set_state(place)
    for rows, log_expected in went_on:
        again = draw(resumed, generator)
        assert again.rows.equal(rows)
        assert again.log_expected.equal(log_expected)


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("name", STEADY)
def test_the_least_and_the_greatest_chance_give_the_first_and_the_last_item(
    name: SamplerName, unique: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums over so many items are not quite whole numbers, by rounding."""
    sampler = make(name, num_watches=np.ones(100_003, np.int64), unique=unique)

    def rows_at(chance: float) -> list[int]:
        monkeypatch.setattr(torch, "rand", lambda size, **_: torch.full((size,), chance).double())
        rows: list[int] = sampler.draw(torch.tensor([2]), torch.Generator()).rows.tolist()
        return rows

    assert rows_at(0.0)[0] == 2
    assert rows_at(np.nextafter(1.0, 0.0))[-1] == 100_002


@given(
    num_watches=st.lists(st.integers(0, 10**6), min_size=1, max_size=20),
    threshold=st.floats(1e-6, 1.0),
)
def test_frequent_items_are_kept_less_but_never_become_the_rarer_ones(
    num_watches: list[int], threshold: float
) -> None:
    watches = np.sort(np.array(num_watches))
    kept = keep_probability(watches, threshold)
    assert ((kept > 0) & (kept <= 1)).all()
    assert (np.diff(kept) <= 0).all()
    left = watches * kept
    assert (np.diff(left) >= -1e-9 * left[1:]).all()


def test_subsampling_keeps_what_is_rarer_than_the_threshold() -> None:
    watches = np.array([0, 1, 9, 90])
    # sqrt(t / f) + t / f is 1/2 + 1/4 for an item four times as frequent as the threshold.
    np.testing.assert_allclose(keep_probability(watches, 0.9 / 4), [1, 1, 1, 0.75])
    np.testing.assert_allclose(keep_probability(watches, 0.0), 1)
    np.testing.assert_allclose(keep_probability(np.zeros(3), 0.1), 1)
