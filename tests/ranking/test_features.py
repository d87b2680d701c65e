from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.examples.quantiles import quantile_bounds, to_quantile
from upnext.ranking.features import (
    CANDIDATE_FEATURES,
    NEVER_S,
    QUERY_FEATURES,
    Quantiles,
    candidate_features,
    query_features,
)

RandomInputs = Callable[..., dict[str, torch.Tensor]]
Arrays = Mapping[str, NDArray[np.generic]]


def watch_share(arrays: Arrays, request: int, slot: int) -> float:
    duration_s = float(arrays["history_duration_s"][request, slot])
    if duration_s == 0:
        return 1.0
    return min(1.0, float(arrays["history_watch_time_s"][request, slot]) / max(duration_s, 1.0))


def past(arrays: Arrays, request: int, weights: Mapping[int, int]) -> tuple[float, ...]:
    """Count, mean share, seconds and seconds since of the past watches, each with its weight."""
    count = sum(weights.values())
    shares = sum(n * watch_share(arrays, request, slot) for slot, n in weights.items())
    seconds = sum(
        n * float(arrays["history_watch_time_s"][request, slot]) for slot, n in weights.items()
    )
    ages_s = [float(arrays["history_age_s"][request, slot]) for slot in weights]
    return count, shares / count if count else 0.0, seconds, min(ages_s, default=1e9)


def told_candidate(arrays: Arrays, place: int) -> dict[str, float]:
    """What the features of one candidate are said to be, slot by slot."""
    request = int(arrays["request_index"][place])
    item, channel = int(arrays["item_rows"][place]), int(arrays["channel_rows"][place])
    tags = [tag for tag in arrays["tag_rows"][place].tolist() if tag > 1]
    slots = range(arrays["history_rows"].shape[1])

    def matching(name: str, row: int) -> dict[int, int]:
        rows = arrays[name][request]
        return {slot: 1 for slot in range(len(rows)) if row > 1 and rows[slot] == row}

    watched = past(arrays, request, matching("history_rows", item))
    on_channel = past(arrays, request, matching("history_channel_rows", channel))
    overlaps = {
        slot: sum(tags.count(tag) for tag in arrays["history_tag_rows"][request, slot].tolist())
        for slot in slots
    }
    tagged = past(arrays, request, {slot: n for slot, n in overlaps.items() if n})
    shown = matching("shown_rows", item)
    shown_ages_s = [float(arrays["shown_age_s"][request, slot]) for slot in shown]
    return {
        "watches of the item": watched[0],
        "seconds since the item was watched": watched[3],
        "watches of the channel": on_channel[0],
        "share watched on the channel": on_channel[1],
        "seconds watched on the channel": on_channel[2],
        "seconds since the channel was watched": on_channel[3],
        "watches sharing tags": tagged[0],
        "share watched with shared tags": tagged[1],
        "seconds watched with shared tags": tagged[2],
        "seconds since a shared tag was watched": tagged[3],
        "impressions of the item": len(shown),
        "seconds since the item was shown": min(shown_ages_s, default=1e9),
        "item age in days": float(arrays["item_age_days"][place]),
        "duration in seconds": float(arrays["duration_s"][place]),
        "position": float(arrays["position"][place]),
    }


def told_query(arrays: Arrays, request: int) -> dict[str, float]:
    rows = arrays["history_rows"][request]
    filled = {slot: 1 for slot in range(len(rows)) if rows[slot] > 0}
    count, share, seconds, since_s = past(arrays, request, filled)
    return {
        "watches in the history": count,
        "share watched in the history": share,
        "seconds watched in the history": seconds / count if count else 0.0,
        "seconds since the last watch": since_s,
        "impressions in the history": int((arrays["shown_rows"][request] > 0).sum()),
    }


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_features_are_what_a_loop_over_the_past_finds(
    random_inputs: RandomInputs, seed: int
) -> None:
    inputs = random_inputs(seed)
    arrays = {name: value.numpy() for name, value in inputs.items()}
    of_candidates = [told_candidate(arrays, place) for place in range(len(arrays["item_rows"]))]
    expected = [[told[name] for name in CANDIDATE_FEATURES] for told in of_candidates]
    np.testing.assert_allclose(candidate_features(inputs), expected, rtol=1e-4, atol=1e-4)

    of_queries = [told_query(arrays, request) for request in range(len(arrays["history_rows"]))]
    expected = [[told[name] for name in QUERY_FEATURES] for told in of_queries]
    np.testing.assert_allclose(query_features(inputs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("row", [0, 1])
def test_pads_and_unknown_ids_match_nothing(random_inputs: RandomInputs, row: int) -> None:
    inputs = random_inputs(1)
    everywhere = {
        name: torch.full_like(value, row) if name.endswith("_rows") else value
        for name, value in inputs.items()
    }
    features = dict(zip(CANDIDATE_FEATURES, candidate_features(everywhere).T, strict=True))
    for name, values in features.items():
        if "since" in name:
            assert (values == NEVER_S).all(), name
        elif name not in ("item age in days", "duration in seconds", "position"):
            assert not values.any(), name


def test_an_unknown_item_in_the_history_is_a_watch_all_the_same(
    random_inputs: RandomInputs,
) -> None:
    inputs = random_inputs(2)
    inputs["history_rows"] = torch.ones_like(inputs["history_rows"])
    features = dict(zip(QUERY_FEATURES, query_features(inputs).T, strict=True))
    assert (features["watches in the history"] == 4).all()
    assert (features["seconds since the last watch"] < NEVER_S).all()


TRAINING_VALUES: Mapping[str, Callable[[np.random.Generator], NDArray[np.floating]]] = {
    "normal": lambda rng: rng.normal(size=500),
    "counts": lambda rng: rng.poisson(1.0, 500).astype(float),
    "mostly never": lambda rng: np.where(rng.random(500) < 0.8, 1e9, rng.exponential(900, 500)),
    "heavy tail": lambda rng: np.exp(4 * rng.normal(size=500)),
    "few": lambda rng: rng.normal(size=3),
    "constant": lambda rng: np.full(500, 7.0),
    "zero": lambda rng: np.zeros(500),
    "with holes": lambda rng: np.where(rng.random(500) < 0.1, np.nan, rng.normal(size=500)),
    "nothing finite": lambda rng: np.full(5, np.inf),
}


@pytest.mark.parametrize("kind", TRAINING_VALUES)
def test_the_module_is_to_quantile_and_its_powers(kind: str) -> None:
    rng = np.random.default_rng(3)
    values = TRAINING_VALUES[kind](rng).astype(np.float32)
    other = rng.normal(size=len(values)).astype(np.float32)
    quantiles = Quantiles(2)
    quantiles.fit(np.stack([values, other], axis=1))
    finite = values[np.isfinite(values)]
    asked = np.concatenate([finite, finite * 1.01, [-5.0, 0.0, 0.5, 3.0, 1e9]]).astype(np.float32)
    asked = np.stack([asked, asked[::-1]], axis=1)
    levels = quantiles(torch.from_numpy(asked))
    expected = np.stack(
        [
            to_quantile(asked[:, place], quantile_bounds(trained))
            for place, trained in enumerate([values, other])
        ],
        axis=1,
    )
    assert levels.shape == (len(asked), 6)
    np.testing.assert_allclose(levels[:, :2], expected, atol=2e-6)
    torch.testing.assert_close(levels[:, 2:4], levels[:, :2] ** 2)
    torch.testing.assert_close(levels[:, 4:], levels[:, :2] ** 0.5)


def test_a_feature_that_is_always_zero_survives_flushed_denormals() -> None:
    """The least number above zero is denormal: as a width it would be flushed, and 0 / 0 is nan."""
    torch.set_flush_denormal(True)
    quantiles = Quantiles(1)
    quantiles.fit(np.zeros((10, 1), np.float32))
    assert quantiles(torch.tensor([[0.0], [2.0]]))[:, 0].tolist() == [0.5, 0.5]


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40))
def test_quantiles_never_fall_and_stay_between_zero_and_one(values: list[float]) -> None:
    quantiles = Quantiles(1)
    quantiles.fit(np.array(values, np.float32)[:, None])
    levels = quantiles(torch.linspace(-1.1e6, 1.1e6, 50)[:, None])[:, 0]
    assert (levels.diff() >= -1e-6).all()
    assert levels.min() >= 0
    assert levels.max() <= 1 + 1e-6
