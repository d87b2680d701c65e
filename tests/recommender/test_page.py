"""What a page promises holds for any candidates; chances are those that are told."""

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.errors import RequestError
from upnext.recommender.page import MOST_KEPT_SORTED, Page, choose_page
from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, PageOptions

NOW_MS = 1_000 * MS_PER_DAY
UNKNOWN = 1
OLD_DAYS, NEW_DAYS = 30.0, 1.0

Seconds = list[float] | NDArray[np.float64]


def page_of(
    seconds: Seconds | None,
    *,
    k: int,
    channels: Any = None,
    age_days: Any = None,
    vectors: Any = None,
    num_candidates: int = 0,
    **options: Any,
) -> Page:
    """The page of candidates that are told in the order of retrieval."""
    count = num_candidates if seconds is None else len(seconds)
    by_row = [count + NUM_RESERVED_ROWS]
    item_vectors = np.zeros((*by_row, 1 if vectors is None else len(vectors[0])), np.float32)
    channel_rows, published_at_ms = np.zeros(by_row, np.int32), np.zeros(by_row, np.int64)
    if vectors is not None:
        item_vectors[NUM_RESERVED_ROWS:] = vectors
    if channels is not None:
        channel_rows[NUM_RESERVED_ROWS:] = channels
    if age_days is not None:
        published_at_ms[NUM_RESERVED_ROWS:] = NOW_MS - MS_PER_DAY * np.array(age_days)
    return choose_page(
        np.arange(NUM_RESERVED_ROWS, count + NUM_RESERVED_ROWS, dtype=np.int32),
        None if seconds is None else np.array(seconds, np.float32),
        PageOptions(**options),
        k=k,
        at_ms=NOW_MS,
        item_vectors=item_vectors,
        channel_rows=channel_rows,
        published_at_ms=published_at_ms,
    )


some_seconds = st.lists(st.integers(1, 50).map(float), max_size=12)


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, np.inf, -1.0, np.nan]), max_size=30),
    st.integers(1, 40),
)
def test_the_longest_watched_come_first_and_ties_as_retrieval_has_them(
    seconds: list[float], k: int
) -> None:
    page = page_of(np.array(seconds), k=k)
    expected = np.argsort(-np.array(seconds, np.float32), kind="stable")[:k]
    np.testing.assert_array_equal(page.places, expected)


@pytest.mark.parametrize("k", [1, MOST_KEPT_SORTED, MOST_KEPT_SORTED + 1, 1_000])
def test_many_come_in_the_order_that_few_come_in(k: int) -> None:
    seconds = np.random.default_rng(k).integers(0, 200, 900).astype(np.float64)
    seconds[::50] = np.nan
    expected = np.argsort(-seconds.astype(np.float32), kind="stable")[:k]
    np.testing.assert_array_equal(page_of(seconds, k=k).places, expected)


@st.composite
def small_pages(draw: st.DrawFn) -> dict[str, Any]:
    """Few candidates, of few channels, some of them fresh."""
    seconds = draw(st.lists(st.integers(1, 9).map(float), min_size=1, max_size=7))
    num_slots = draw(st.integers(1, 5))
    return {
        "seconds": seconds,
        "k": num_slots,
        "channels": [draw(st.integers(UNKNOWN, 4)) for _ in seconds],
        "age_days": [draw(st.sampled_from([NEW_DAYS, OLD_DAYS])) for _ in seconds],
        "max_per_channel": draw(st.none() | st.integers(1, 3)),
        "num_fresh": draw(st.integers(0, num_slots)),
    }


@given(seconds=some_seconds, k=st.integers(1, 14))
def test_with_nothing_asked_it_is_the_longest_watched(seconds: list[float], k: int) -> None:
    page = page_of(seconds, k=k)
    expected = sorted(range(len(seconds)), key=lambda place: -seconds[place])[:k]
    assert page.places.tolist() == expected
    assert page.propensities.tolist() == [1.0] * len(expected)
    assert (page.num_explored, page.causes) == (0, ())


@given(seconds=some_seconds, k=st.integers(1, 14), channels=st.lists(st.integers(1, 3)))
def test_options_that_bind_nothing_change_nothing(
    seconds: list[float], k: int, channels: list[int]
) -> None:
    of_items = np.resize(np.array([*channels, 2]), len(seconds))
    plain = page_of(seconds, k=k)
    for options in ({"max_per_channel": k}, {"diversity": 1e-9}, {"seed": 3, "fresh_days": 1.0}):
        page = page_of(seconds, k=k, channels=of_items, **options)
        assert page.places.tolist() == plain.places.tolist()
        assert page.propensities.tolist() == plain.propensities.tolist()


@given(small_pages())
def test_limits_hold_and_whatever_can_be_had_is_there(case: dict[str, Any]) -> None:
    """Truth by trying every page that the limit of channels permits."""
    page = page_of(**case)
    chosen = page.places.tolist()
    limit = case["max_per_channel"] or case["k"]
    fresh = {place for place, days in enumerate(case["age_days"]) if days == NEW_DAYS}

    def is_permitted(places: tuple[int, ...]) -> bool:
        counts = Counter(case["channels"][place] for place in places)
        counts.pop(UNKNOWN, None)
        return all(count <= limit for count in counts.values())

    sizes = range(min(case["k"], len(case["seconds"])) + 1)
    every = [c for size in sizes for c in combinations(range(len(case["seconds"])), size)]
    permitted = [places for places in every if is_permitted(places)]
    assert len(set(chosen)) == len(chosen)
    assert is_permitted(tuple(chosen))
    assert len(chosen) == max(len(places) for places in permitted)
    most_fresh = max(len(fresh.intersection(places)) for places in permitted)
    num_fresh = len(fresh.intersection(chosen))
    assert num_fresh >= min(case["num_fresh"], most_fresh)
    assert any("num_fresh" in cause for cause in page.causes) == (num_fresh < case["num_fresh"])
    is_short = len(chosen) < min(case["k"], len(case["seconds"]))
    assert any("max_per_channel" in cause for cause in page.causes) == is_short


@given(small_pages(), st.booleans())
def test_of_the_pages_that_keep_one_limit_it_is_the_longest_watched(
    case: dict[str, Any], is_floor: bool
) -> None:
    """A limit alone leaves the greedy choice the best there is; both together need not."""
    case["max_per_channel" if is_floor else "num_fresh"] = None if is_floor else 0
    chosen = page_of(**case).places.tolist()
    limit = case["max_per_channel"] or case["k"]
    fresh = {place for place, days in enumerate(case["age_days"]) if days == NEW_DAYS}
    floor = min(case["num_fresh"], len(fresh))
    best = max(
        sum(case["seconds"][place] for place in places)
        for places in combinations(range(len(case["seconds"])), len(chosen))
        if len(fresh.intersection(places)) >= floor
        and all(
            sum(case["channels"][place] == channel for place in places) <= limit
            for channel in range(UNKNOWN + 1, 5)
        )
    )
    seconds = [case["seconds"][place] for place in chosen]
    assert sum(seconds) == best
    assert seconds == sorted(seconds, reverse=True)


def test_fresh_is_what_was_published_in_the_last_days_and_not_what_is_yet_to_come() -> None:
    ages = [9.0, 9.0, 3.1, -1.0, 2.9]
    page = page_of([5.0, 4.0, 3.0, 2.0, 1.0], k=2, age_days=ages, num_fresh=2, fresh_days=3.0)
    assert page.places.tolist() == [0, 4]
    (cause,) = page.causes
    assert cause.startswith("page.num_fresh: 1 of 2 slots are fresh")


@given(seed=st.integers(0, 10_000), diversity=st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]))
def test_diversity_is_maximal_marginal_relevance(seed: int, diversity: float) -> None:
    """Slot by slot, as Carbonell and Goldstein write it down."""
    rng = np.random.default_rng(seed)
    vectors, seconds = rng.normal(size=(20, 4)), rng.gamma(1.0, 60.0, 20)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = seconds / seconds.max()

    def gain(place: int, above: list[int]) -> float:
        likeness = max((float(unit[place] @ unit[other]) for other in above), default=0.0)
        return float((1 - diversity) * relevance[place] - diversity * max(0.0, likeness))

    chosen = page_of(seconds, k=6, vectors=vectors, diversity=diversity).places.tolist()
    for slot, place in enumerate(chosen):
        above = chosen[:slot]
        best = max(gain(one, above) for one in set(range(20)) - set(above))
        assert gain(place, above) == pytest.approx(best, abs=1e-5)
    assert len(set(chosen)) == 6


def test_neither_the_unit_of_time_nor_the_length_of_vectors_matters() -> None:
    rng = np.random.default_rng(3)
    vectors, seconds = rng.normal(size=(30, 5)), rng.gamma(1.0, 60.0, 30)
    page = page_of(seconds, k=8, vectors=vectors, diversity=0.4)
    lengths = rng.uniform(0.5, 4.0, (30, 1))
    again = page_of(seconds / 60, k=8, vectors=vectors * lengths, diversity=0.4)
    assert again.places.tolist() == page.places.tolist()
    assert page.places.tolist() != page_of(seconds, k=8).places.tolist()


def test_twins_do_not_stand_on_one_page_where_there_is_another() -> None:
    vectors = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    assert page_of([9.0, 8.0, 3.0], k=2, vectors=vectors).places.tolist() == [0, 1]
    apart = page_of([9.0, 8.0, 3.0], k=2, vectors=vectors, diversity=0.5)
    assert apart.places.tolist() == [0, 2]


SECONDS = [50.0, 40.0, 30.0, 20.0, 10.0, 5.0]
NUM_DRAWS = 4_000


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_items_are_drawn_as_often_as_their_propensity_says(temperature: float) -> None:
    """Every pair of drawn items comes with probability p_i · p_j / (1 − p_i)."""
    pairs, told = Counter[tuple[int, ...]](), dict[tuple[int, ...], float]()
    for seed in range(NUM_DRAWS):
        page = page_of(SECONDS, k=4, num_explored=2, exploration_temperature=temperature, seed=seed)
        assert page.places[:2].tolist() == [0, 1]
        assert page.propensities[:2].tolist() == [1.0, 1.0]
        assert (page.num_ranked, page.num_explored) == (2, 2)
        pair = tuple(page.places[2:].tolist())
        pairs[pair] += 1
        told[pair] = float(np.prod(page.propensities[2:]))
    odds = np.array(SECONDS[2:]) ** (1 / temperature)
    chances = dict(zip(range(2, 6), odds / odds.sum(), strict=True))
    for i, j in ((i, j) for i in chances for j in chances if i != j):
        chance = chances[i] * chances[j] / (1 - chances[i])
        assert pairs[i, j] / NUM_DRAWS == pytest.approx(chance, abs=4 * (chance / NUM_DRAWS) ** 0.5)
        assert (i, j) not in told or told[i, j] == pytest.approx(chance, rel=1e-6)
    assert set(pairs) <= set(told)


def test_weighted_by_propensities_what_was_drawn_tells_what_was_not() -> None:
    """The reason for telling them: Σ of 1 / p over draws estimates any item's value unbiased."""
    value_of = np.array([0, 0, 7, 1, 3, 2])
    estimates = []
    for seed in range(NUM_DRAWS):
        page = page_of(SECONDS, k=3, num_explored=1, seed=seed)
        estimates.append(value_of[page.places[2]] / page.propensities[2])
    error = np.std(estimates) / NUM_DRAWS**0.5
    assert np.mean(estimates) == pytest.approx(value_of[2:].sum(), abs=4 * error)
    assert error < 0.2


def test_a_draw_keeps_to_the_limit_of_channels() -> None:
    channels = [2, 2, 3, UNKNOWN, UNKNOWN, 2]
    for seed in range(200):
        options = {"max_per_channel": 1, "num_explored": 3, "seed": seed}
        page = page_of(SECONDS, k=4, channels=channels, **options)
        assert page.places[0] == 0
        assert set(page.places[1:].tolist()) == {2, 3, 4}
        assert page.propensities[3] == 1.0, "nothing else was left"


def test_the_seed_decides_and_without_one_pages_differ() -> None:
    seconds = np.linspace(10, 20, 100)
    same = [page_of(seconds, k=9, num_explored=5, seed=11).places.tolist() for _ in range(2)]
    assert same[0] == same[1]
    other = [page_of(seconds, k=9, num_explored=5).places.tolist() for _ in range(4)]
    assert len({tuple(places) for places in other}) == 4
    assert {tuple(places[:4]) for places in other} == {tuple(same[0][:4])}


def test_far_apart_expected_watch_times_are_no_trouble() -> None:
    seconds = [3e38, 1.0, 1e-38, 0.0]
    for temperature in (0.01, 1.0, 1e6):
        page = page_of(seconds, k=4, num_explored=4, exploration_temperature=temperature, seed=0)
        assert sorted(page.places.tolist()) == [0, 1, 2, 3]
        assert (page.propensities > 0).all()
    assert page.propensities[0] == pytest.approx(1 / 4, abs=1e-3), "hot enough, all are equal"


def test_where_there_is_no_ranking_the_order_of_retrieval_counts() -> None:
    assert page_of(None, num_candidates=5, k=3).places.tolist() == [0, 1, 2]
    drawn = [
        page_of(None, num_candidates=4, k=1, num_explored=1, seed=seed) for seed in range(NUM_DRAWS)
    ]
    told = {int(page.places[0]): float(page.propensities[0]) for page in drawn}
    assert told == pytest.approx({0: 0.4, 1: 0.3, 2: 0.2, 3: 0.1})
    counts = Counter(int(page.places[0]) for page in drawn)
    assert [counts[place] / NUM_DRAWS for place in range(4)] == pytest.approx(
        [0.4, 0.3, 0.2, 0.1], abs=0.03
    )


@pytest.mark.parametrize("options", [{}, {"num_fresh": 2}, {"num_explored": 2}, {"diversity": 0.5}])
def test_of_no_candidates_there_is_an_empty_page(options: dict[str, Any]) -> None:
    nothing: tuple[list[float], None] = ([], None)
    for seconds in nothing:
        page = page_of(seconds, k=3, **options)
        assert (len(page.places), len(page.propensities)) == (0, 0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"diversity": 1.1}, "page.diversity: expected 0 to 1, got 1.1"),
        ({"diversity": float("nan")}, "page.diversity: expected 0 to 1, got nan"),
        ({"max_per_channel": 0}, "page.max_per_channel: expected 1 or more, got 0"),
        ({"num_fresh": -1}, "page.num_fresh: expected 0 or more, got -1"),
        ({"fresh_days": 0}, "page.fresh_days: expected above 0, got 0"),
        ({"num_explored": -1}, "page.num_explored: expected 0 or more, got -1"),
        (
            {"exploration_temperature": 0.0},
            "page.exploration_temperature: expected 0.01 or more, got 0.0",
        ),
        ({"seed": -1}, "page.seed: expected 0 or more, got -1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError) as caught:
        PageOptions(**options)
    assert str(caught.value) == f"{told}."
