from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, log_expit
from tests.raw_inputs import NUM_IDS, RawInputs, random_inputs

from upnext.features.features import RankingFeatures
from upnext.features.liking import MOST_IDS, Manners, curved, most_curved, solve
from upnext.features.names import CANDIDATE_FEATURES
from upnext.ranking import manners as in_numpy
from upnext.schema import Floats

Numbers = NDArray[np.float64]

LOG_ODDS = st.floats(-20, 20)

SIZE = 3
"""Numbers that tell a manner."""


def some_manners(seed: int = 0) -> Manners:
    rng = np.random.default_rng(seed)
    vectors = np.ones((NUM_IDS, SIZE + 1))
    vectors[:, :SIZE] = rng.standard_normal((NUM_IDS, SIZE))
    unsure = np.zeros((SIZE + 1, SIZE + 1))
    unsure[:SIZE, :SIZE] = 0.3 * np.eye(SIZE)
    return Manners(
        log_odds=rng.normal(-1.5, 0.5, NUM_IDS),
        vectors=vectors,
        moments=vectors[:, :, None] * vectors[:, None] + unsure,
        precision=rng.uniform(2, 6, SIZE + 1),
        tag_precision=np.array([3.0]),
        num_tags=np.array([NUM_IDS]),
    )


def likings_of(manners: Manners, inputs: RawInputs) -> Floats:
    """[M, 2] of the candidates."""
    features = RankingFeatures.unfitted(num_sources=2, manners=manners, powers=True, logs=True)
    _, values = features.raw(inputs)
    return values[len(CANDIDATE_FEATURES) + 2 :].T


def probability(
    manners: Manners, likings: dict[int, float], z: Numbers, channel: int, tags: list[int]
) -> float:
    of_tags = sum(likings[tag] for tag in tags) / max(1, len(tags))
    odds = manners.log_odds[channel] + z @ manners.vectors[channel] + of_tags
    return float(1 / (1 + np.exp(-odds)))


def weight(step: int, p: float) -> float:
    log_odds = float(np.log(p / (1 - p)))
    return p * (1 - p) if step else (p - 0.5) / log_odds


def known(ids: NDArray[np.int32]) -> list[int]:
    return [int(one) for one in ids if one > 1]


def told(inputs: RawInputs, manners: Manners, request: int) -> tuple[dict[int, float], Numbers]:
    """What the docstring of `Liking` says of one request, an event at a time: t by tag, and z."""
    events: list[tuple[int, list[int], bool]] = []
    is_full = int(inputs["history_rows"][request, 0]) > 0
    since_s = float(inputs["history_age_s"][request, 0]) if is_full else float("inf")
    ages_s = inputs["shown_age_s"][request].tolist()
    oldest_s = max((age_s for age_s in ages_s if age_s <= since_s), default=0.0)
    for kind in ("shown", "history"):
        for slot, channel in enumerate(inputs[f"{kind}_channel_rows"][request].tolist()):
            is_new = float(inputs[f"{kind}_age_s"][request, slot]) <= oldest_s
            if channel > 1 and is_new:
                tags = known(inputs[f"{kind}_tag_rows"][request, slot])
                events.append((channel, tags, kind == "shown"))
    likings = dict.fromkeys(range(NUM_IDS), 0.0)
    z: Numbers = np.zeros(SIZE + 1)
    for step in range(2):
        surprise = {
            tag: -float(manners.tag_precision[0]) * liking for tag, liking in likings.items()
        }
        certainty = dict.fromkeys(likings, float(manners.tag_precision[0]))
        for channel, tags, was_shown in events:
            p = probability(manners, likings, z, channel, tags)
            for tag in tags:
                surprise[tag] += (-p if was_shown else 1.0) / len(tags)
                certainty[tag] += weight(step, p) / len(tags) if was_shown else 0.0
        likings = {tag: likings[tag] + surprise[tag] / certainty[tag] for tag in likings}
        information: Numbers = np.diag(manners.precision)
        towards: Numbers = np.zeros(SIZE + 1)
        for channel, tags, was_shown in events:
            p, s = probability(manners, likings, z, channel, tags), manners.vectors[channel]
            towards += (weight(step, p) * (z @ s) - p if was_shown else 1.0) * s
            information += weight(step, p) * manners.moments[channel] if was_shown else 0.0
        z = np.linalg.solve(information, towards).astype(np.float64)
    return likings, z


@pytest.mark.parametrize("seed", range(6))
def test_likings_are_those_of_the_formula(seed: int) -> None:
    inputs, manners = random_inputs(seed), some_manners(seed)
    found = likings_of(manners, inputs)
    for place, request in enumerate(inputs["request_index"].tolist()):
        likings, z = told(inputs, manners, request)
        channel, tags = int(inputs["channel_rows"][place]), known(inputs["tag_rows"][place])
        liked = float(z[:SIZE] @ manners.vectors[channel, :SIZE]) if channel > 1 else 0.0
        of_tags = sum(likings[tag] for tag in tags) / max(1, len(tags))
        assert found[place].tolist() == pytest.approx([liked, of_tags], abs=1e-5)
    assert (found.std(axis=0) > 0).all()


def test_a_liking_is_carried_to_channels_of_a_like_manner() -> None:
    """Whoever watched all he was shown of channel 2 is to like 3, of its manner, and not 4."""
    vectors = np.array([[0, 0], [0, 0], [1, 0], [1, 0], [-1, 0], [0, 1]], np.float64)
    vectors = np.column_stack([vectors, np.zeros(NUM_IDS), np.ones(NUM_IDS)])
    manners = Manners(
        log_odds=np.full(NUM_IDS, -2.0),
        vectors=vectors,
        moments=vectors[:, :, None] * vectors[:, None],
        precision=np.ones(SIZE + 1),
        tag_precision=np.ones(1),
        num_tags=np.array([NUM_IDS]),
    )
    inputs = random_inputs(1, num_requests=1, num_candidates=4)
    for name in ("shown", "history"):
        inputs[f"{name}_channel_rows"] = np.full_like(inputs[f"{name}_channel_rows"], 2)
        inputs[f"{name}_age_s"] = np.ones_like(inputs[f"{name}_age_s"])
    inputs["channel_rows"] = np.array([2, 3, 4, 5], np.int32)
    same, like, unlike, other = likings_of(manners, inputs)[:, 0].tolist()
    assert same == like > 0.5
    assert unlike == pytest.approx(-like, rel=1e-5)
    assert other == 0


@pytest.mark.parametrize("usual", [-4.5, -3.5, -1.5, 0.0, 2.5])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_likings_are_found_where_few_watch_and_where_most_do(usual: float, share: float) -> None:
    """Two steps end near the mode: of eagerness, shown 48 items of one channel, and no tags."""
    vectors = np.zeros((NUM_IDS, SIZE + 1))
    vectors[:, 0] = 1
    manners = Manners(
        log_odds=np.full(NUM_IDS, usual),
        vectors=vectors,
        moments=vectors[:, :, None] * vectors[:, None],
        precision=np.full(SIZE + 1, 4.0),
        tag_precision=np.ones(1),
        num_tags=np.array([NUM_IDS]),
    )
    inputs = random_inputs(1, num_requests=1, num_candidates=1)
    num_shown, num_watched = 48, round(48 * share)
    for kind, count in (("shown", num_shown), ("history", num_watched)):
        rows = np.zeros((1, num_shown + 1), np.int32)
        rows[:, num_shown + 1 - count :] = 2
        inputs[f"{kind}_rows"] = inputs[f"{kind}_channel_rows"] = rows
        inputs[f"{kind}_tag_rows"] = np.zeros((1, num_shown + 1, 1), np.int32)
        inputs[f"{kind}_age_s"] = (rows > 0).astype(np.float32)
    inputs["channel_rows"] = np.array([2], np.int32)
    found = float(likings_of(manners, inputs)[0, 0])

    def slope(liking: float) -> float:
        return num_watched - num_shown * float(expit(usual + liking)) - 4 * liking

    mode = float(brentq(slope, -20, 20))
    assert found == pytest.approx(mode, abs=0.15)


def test_a_watch_from_before_the_oldest_impression_is_not_told() -> None:
    """What else was shown then is not known, so that it would look like eagerness."""
    inputs, manners = random_inputs(3), some_manners()
    oldest_s = inputs["shown_age_s"].max(axis=1, keepdims=True)
    is_old = inputs["history_age_s"] > oldest_s
    assert is_old.any()
    without = inputs | {
        "history_channel_rows": np.where(is_old, np.int32(0), inputs["history_channel_rows"]),
        "history_tag_rows": np.where(is_old[..., None], np.int32(0), inputs["history_tag_rows"]),
    }
    np.testing.assert_array_equal(likings_of(manners, inputs), likings_of(manners, without))


def test_an_impression_from_before_the_oldest_of_all_watches_that_fit_is_not_told() -> None:
    """Who watches all he is shown was watching then too; it would look as if he had not."""
    manners, num_watched, num_shown = some_manners(), 20, 50
    inputs = random_inputs(1, num_requests=1, num_candidates=1)
    for kind, count in (("shown", num_shown), ("history", num_watched)):
        inputs[f"{kind}_rows"] = np.full((1, count), 2, np.int32)
        inputs[f"{kind}_channel_rows"] = np.full((1, count), 2, np.int32)
        inputs[f"{kind}_tag_rows"] = np.full((1, count, 1), 2, np.int32)
        inputs[f"{kind}_age_s"] = (60 * np.arange(count, 0, -1)[None]).astype(np.float32)
    inputs |= {name: np.array([2], np.int32) for name in ("channel_rows", "item_rows")}
    inputs["tag_rows"] = np.array([[2]], np.int32)
    of_all_that_fits = likings_of(manners, inputs)
    for name in ("shown_rows", "shown_channel_rows", "shown_tag_rows", "shown_age_s"):
        inputs[name] = inputs[name][:, -num_watched:]
    np.testing.assert_array_equal(of_all_that_fits, likings_of(manners, inputs))
    assert float(of_all_that_fits[0, 1]) > 0.5


def test_who_was_never_shown_anything_likes_nothing() -> None:
    inputs = random_inputs(2)
    inputs |= {name: np.zeros_like(inputs[name]) for name in inputs if "shown_" in name}
    assert not likings_of(some_manners(), inputs).any()


def test_before_manners_are_learned_nobody_likes_anything() -> None:
    manners = Manners.unlearned(SIZE, num_channels=NUM_IDS, num_tags=NUM_IDS)
    assert not likings_of(manners, random_inputs(0)).any()


def test_what_is_beyond_the_ids_that_can_be_liked_is_as_if_unknown() -> None:
    inputs, whole = random_inputs(4), some_manners()
    first = replace(
        whole,
        log_odds=whole.log_odds[:4],
        vectors=whole.vectors[:4],
        moments=whole.moments[:4],
        num_tags=np.array([4]),
    )
    unknown = {
        name: np.where(rows < 4, rows, np.int32(1))
        for name, rows in inputs.items()
        if name.endswith(("channel_rows", "tag_rows"))
    }
    found = likings_of(first, inputs)
    np.testing.assert_array_equal(found, likings_of(first, inputs | unknown))
    assert found.any()


def test_the_most_frequent_ids_alone_can_be_liked() -> None:
    manners = Manners.unlearned(SIZE, num_channels=10 * MOST_IDS, num_tags=NUM_IDS)
    assert len(manners.vectors) == MOST_IDS
    assert manners.num_tags.tolist() == [NUM_IDS]


@pytest.mark.parametrize("size", [1, 2, 9])
def test_what_solves_finds_the_solution(size: int) -> None:
    rng = np.random.default_rng(size)
    for _ in range(20):
        root = rng.standard_normal((size, size + 2))
        matrix, towards = root @ root.T + 0.1 * np.eye(size), rng.standard_normal(size)
        expected = np.linalg.solve(matrix, towards)
        solve(matrix, towards)
        np.testing.assert_allclose(towards, expected, rtol=1e-9)


@given(touched=LOG_ODDS, elsewhere=LOG_ODDS)
def test_the_parabola_lies_below_what_it_stands_for(touched: float, elsewhere: float) -> None:
    """log σ(x) ≥ log σ(η) + (1 − σ(η)) (x − η) − w(η) (x − η)² / 2, so that no step is too far."""
    w = float(in_numpy.most_curved(np.array([touched]))[0])
    step = elsewhere - touched
    parabola = float(log_expit(touched) + expit(-touched) * step - w * step * step / 2)
    assert float(log_expit(elsewhere)) >= parabola - 1e-9
    assert w >= float(in_numpy.curved(np.array([touched]))[0]) - 1e-12


@pytest.mark.parametrize("curvature", [curved, most_curved])
def test_what_serves_curves_as_what_learned(curvature: Callable[[float], float]) -> None:
    log_odds = np.concatenate([np.linspace(-30, 30, 601), [1e-5, -1e-5, 1e-4, -1e-3]])
    found = [curvature(one) for one in log_odds]
    expected = getattr(in_numpy, curvature.__name__)(log_odds)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)
