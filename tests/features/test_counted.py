import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.raw_inputs import RawInputs, random_inputs

from upnext.examples.places import places_of
from upnext.examples.ranking_inputs import PLACE_INPUTS, REQUEST_INPUTS
from upnext.features.counted import NEVER_S, UNSEEN_IMPRESSIONS, UNSEEN_WATCHES, USUAL_SHARE
from upnext.features.features import RankingFeatures
from upnext.features.names import CANDIDATE_FEATURES, QUERY_FEATURES
from upnext.schema import Floats

Arrays = Mapping[str, NDArray[np.generic]]
Weights = Mapping[int, int]
"""How much each slot of the past counts, where it does."""


def raw_features(inputs: RawInputs) -> tuple[Floats, Floats]:
    """[Fq, R] and [F + S, M], without likings."""
    num_sources = inputs["source_scores"].shape[1]
    features = RankingFeatures.unfitted(
        num_sources=num_sources, manners=None, powers=True, logs=True
    )
    return features.raw(inputs)


def features_of(inputs: RawInputs) -> dict[str, Floats]:
    """By name, [M] each; scores of sources stand behind them."""
    _, values = raw_features(inputs)
    return dict(zip(CANDIDATE_FEATURES, values[: len(CANDIDATE_FEATURES)], strict=True))


def shared(ids_by_slot: NDArray[np.generic], ids: list[int]) -> Weights:
    """How many known ids each slot shares with a candidate."""
    lines = ids_by_slot.reshape(len(ids_by_slot), -1).tolist()
    counts = {
        slot: sum(line.count(one) for one in ids if one > 1) for slot, line in enumerate(lines)
    }
    return {slot: count for slot, count in counts.items() if count}


def watch_share(arrays: Arrays, request: int, slot: int) -> float:
    duration_s = float(arrays["history_duration_s"][request, slot])
    if duration_s == 0:
        return 1.0
    return min(1.0, float(arrays["history_watch_time_s"][request, slot]) / max(duration_s, 1.0))


def past(arrays: Arrays, request: int, weights: Weights) -> tuple[float, float, float, float]:
    """Count, mean share, seconds and seconds since of the past watches, each with its weight."""
    count = sum(weights.values())
    shares = sum(n * watch_share(arrays, request, slot) for slot, n in weights.items())
    seconds = sum(
        n * float(arrays["history_watch_time_s"][request, slot]) for slot, n in weights.items()
    )
    ages_s = [float(arrays["history_age_s"][request, slot]) for slot in weights]
    return count, shares / count if count else 0.0, seconds, min(ages_s, default=float(NEVER_S))


def by_impression(num_watches: float, num_shown: float) -> float:
    """The log of the share of impressions that were watched."""
    return math.log((num_watches + UNSEEN_WATCHES) / (num_shown + UNSEEN_IMPRESSIONS))


def told_of_ids(
    arrays: Arrays, request: int, text: str, name: str, ids: list[int]
) -> dict[str, float]:
    """What was watched and shown with the same ids."""
    watches, share, seconds, since_s = past(
        arrays, request, shared(arrays[f"history_{name}"][request], ids)
    )
    num_shown = sum(shared(arrays[f"shown_{name}"][request], ids).values())
    return {
        f"watches {text}": watches,
        f"share watched {text}": share,
        f"seconds watched {text}": seconds,
        f"seconds since a watch {text}": since_s,
        f"impressions {text}": num_shown,
        f"watches {text} by impression": by_impression(watches, num_shown),
    }


def told_of_item(arrays: Arrays, request: int, item: int, since_watch_s: float) -> dict[str, float]:
    """When the item itself was shown before."""
    shown = shared(arrays["shown_rows"][request], [item])
    ages_s = [float(arrays["shown_age_s"][request, slot]) for slot in shown]
    return {
        "impressions of the item": len(ages_s),
        "seconds since the item was shown": min(ages_s, default=float(NEVER_S)),
        "impressions of the item since it was watched": sum(s < since_watch_s for s in ages_s),
    }


def told_of_everybody(counts: NDArray[np.generic], text: str) -> dict[str, float]:
    num_shown, watches, seconds, shares = (float(count) for count in counts)
    usual, unseen = float(USUAL_SHARE), float(UNSEEN_WATCHES)
    share = (shares + unseen * usual) / (watches + unseen)
    return {
        f"everybody's impressions of {text}": num_shown,
        f"everybody's watches of {text}": watches,
        f"everybody's watches of {text} by impression": by_impression(watches, num_shown),
        f"everybody's seconds by watch of {text}": seconds / watches if watches else seconds,
        f"everybody's share watched of {text}": share,
    }


def told_candidate(arrays: Arrays, place: int) -> dict[str, float]:
    """What the features of one candidate are said to be, slot by slot."""
    request = int(arrays["request_index"][place])
    item, channel = int(arrays["item_rows"][place]), int(arrays["channel_rows"][place])
    tags = arrays["tag_rows"][place].tolist()
    watched = past(arrays, request, shared(arrays["history_rows"][request], [item]))
    on_channel = told_of_ids(arrays, request, "on the channel", "channel_rows", [channel])
    on_channel["impressions of the channel"] = on_channel["impressions on the channel"]
    names = ("watches", "share watched", "seconds watched", "seconds since a watch")
    return {
        **{f"{name} of the item": value for name, value in zip(names, watched, strict=True)},
        **told_of_item(arrays, request, item, watched[3]),
        **on_channel,
        **told_of_ids(arrays, request, "with shared tags", "tag_rows", tags),
        **told_of_ids(arrays, request, "with the first tag", "tag_rows", tags[:1]),
        **told_of_everybody(arrays["item_counts"][place], "the item"),
        **told_of_everybody(arrays["channel_counts"][place], "the channel"),
        "item age in days": float(arrays["item_age_days"][place]) if item > 1 else math.nan,
        "duration in seconds": float(arrays["duration_s"][place]) or math.nan,
        "position": float(arrays["position"][place]),
    }


def told_query(arrays: Arrays, request: int) -> dict[str, float]:
    rows = arrays["history_rows"][request]
    filled = {slot: 1 for slot in range(len(rows)) if rows[slot] > 0}
    count, share, seconds, since_s = past(arrays, request, filled)
    num_shown = int((arrays["shown_rows"][request] > 0).sum())
    return {
        "watches in the history": count,
        "share watched in the history": share,
        "seconds watched in the history": seconds / count if count else 0.0,
        "seconds since the last watch": since_s,
        "impressions in the history": num_shown,
        "watches in the history by impression": by_impression(count, num_shown),
    }


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_features_are_what_a_loop_over_the_past_finds(seed: int) -> None:
    inputs = random_inputs(seed)
    found = features_of(inputs)
    for place in range(len(inputs["item_rows"])):
        told = told_candidate(inputs, place)
        for name, values in found.items():
            near = pytest.approx(told[name], rel=1e-4, abs=1e-4, nan_ok=True)
            assert float(values[place]) == near, name
    queries, _ = raw_features(inputs)
    for request in range(len(inputs["history_rows"])):
        told = told_query(inputs, request)
        expected = [told[name] for name in QUERY_FEATURES]
        np.testing.assert_allclose(queries[:, request], expected, rtol=1e-4, atol=1e-4)


def test_each_line_has_a_name() -> None:
    queries, candidates = raw_features(random_inputs(3, num_sources=0))
    assert (len(queries), len(candidates)) == (len(QUERY_FEATURES), len(CANDIDATE_FEATURES))


def test_scores_of_sources_stand_behind_as_they_are() -> None:
    inputs = random_inputs(4, num_sources=3)
    _, values = raw_features(inputs)
    assert values.shape == (len(CANDIDATE_FEATURES) + 3, 12)
    np.testing.assert_array_equal(values[-3:].T, inputs["source_scores"])


def test_a_request_is_told_alike_alone_and_in_company() -> None:
    """Whatever the others' pasts hold, and in whatever order candidates stand."""
    inputs = random_inputs(9, num_candidates=40)
    queries, candidates = raw_features(inputs)
    for request in range(len(inputs["history_rows"])):
        mine = np.flatnonzero(inputs["request_index"] == request)[::-1]
        alone = {
            name: array[[request]] if name in REQUEST_INPUTS else array[mine]
            for name, array in inputs.items()
            if name not in PLACE_INPUTS
        }
        alone["request_index"] = np.zeros(len(mine), np.int64)
        alone |= places_of(
            *(alone["history_rows"], alone["shown_rows"]),
            *(alone["item_rows"], alone["request_index"]),
        )._asdict()
        query, told = raw_features(alone)
        np.testing.assert_array_equal(query[:, 0], queries[:, request])
        np.testing.assert_array_equal(told, candidates[:, mine])


@pytest.mark.parametrize("row", [0, 1])
def test_pads_and_unknown_ids_match_nothing(row: int) -> None:
    inputs = random_inputs(1)
    everywhere = {
        name: np.full_like(value, row) if name.endswith("_rows") else value
        for name, value in inputs.items()
    }
    everywhere |= {name: np.zeros_like(inputs[name]) for name in PLACE_INPUTS}
    nothing = by_impression(0, 0)
    for name, values in features_of(everywhere).items():
        if name.startswith("everybody") or name in (
            "item age in days",
            "duration in seconds",
            "position",
        ):
            continue
        if name.startswith("seconds since"):
            assert (values == NEVER_S).all(), name
        elif name.endswith("by impression"):
            assert values.tolist() == pytest.approx([nothing] * 12), name
        else:
            assert not values.any(), name


def test_an_unknown_item_in_the_history_is_a_watch_all_the_same() -> None:
    inputs = random_inputs(2)
    inputs["history_rows"] = np.ones_like(inputs["history_rows"])
    features = dict(zip(QUERY_FEATURES, raw_features(inputs)[0], strict=True))
    assert (features["watches in the history"] == 4).all()
    assert (features["seconds since the last watch"] < NEVER_S).all()


def test_what_is_not_known_of_a_candidate_is_no_number() -> None:
    inputs = random_inputs(7)
    inputs["duration_s"][:3] = 0.0
    inputs["item_rows"][2:6] = 1
    features = features_of(inputs)
    assert np.flatnonzero(np.isnan(features["duration in seconds"])).tolist() == [0, 1, 2]
    assert np.isnan(features["item age in days"])[2:6].all()
    known = inputs["item_rows"] > 1
    np.testing.assert_array_equal(
        features["item age in days"][known], inputs["item_age_days"][known]
    )


def test_what_has_no_known_duration_was_watched_whole() -> None:
    inputs = random_inputs(3)
    inputs["history_duration_s"] = np.zeros_like(inputs["history_duration_s"])
    features = features_of(inputs)
    watched = features["watches of the item"] > 0
    assert watched.any()
    assert (features["share watched of the item"][watched] == 1).all()


def test_ids_beyond_those_of_candidates_are_of_nobody_here() -> None:
    """However large: of an event nothing is kept that no candidate asks for."""
    inputs = random_inputs(5)
    strange = {
        name: np.where(inputs[name] == 5, np.int32(2**31 - 1), inputs[name])
        for name in ("history_tag_rows", "shown_tag_rows", "history_channel_rows")
    }
    asked = {
        name: np.where(inputs[name] == 5, np.int32(1), inputs[name])
        for name in ("tag_rows", "channel_rows")
    }
    unknown = {name: np.where(inputs[name] == 5, np.int32(1), inputs[name]) for name in strange}
    np.testing.assert_array_equal(
        raw_features(inputs | asked | strange)[1], raw_features(inputs | asked | unknown)[1]
    )
