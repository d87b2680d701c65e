"""Options of a request, asked of a release: off they change nothing, on they are kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from upnext.errors import RequestError
from upnext.recommender import Recommender
from upnext.schema import (
    MS_PER_DAY,
    NUM_RESERVED_ROWS,
    Id,
    ItemRules,
    Logs,
    PageOptions,
    RecommendationRequest,
    Recommendations,
)

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


@pytest.fixture(scope="module")
def request_of_somebody(tiny_logs: Logs) -> RecommendationRequest:
    """Of whoever watched most, an hour after the last watch."""
    watches = tiny_logs.watches.frame
    at_ms = int(watches["started_at_ms"].to_numpy().max()) + 3_600_000
    return RecommendationRequest(user_id=watches["user_id"].mode().sort()[0], at_ms=at_ms)


@pytest.fixture(scope="module")
def facts(tiny_logs: Logs) -> dict[Id, dict[str, Any]]:
    """The line of each item in the table."""
    return {line["item_id"]: line for line in tiny_logs.items.frame.to_dicts()}


def ids(answer: Recommendations) -> list[Id]:
    return [item.item_id for item in answer.items]


@pytest.mark.parametrize("of", ["tiny_release", "retrieval_release"])
def test_off_a_page_is_the_first_of_what_both_stages_rank(
    of: str, request: pytest.FixtureRequest, request_of_somebody: RecommendationRequest
) -> None:
    """As evaluation has them, which knows of no options."""
    release: TrainedRelease = request.getfixturevalue(of)
    recommender, at_ms = release.recommender, request_of_somebody.at_ms
    user_rows = np.arange(2, recommender.users.num_rows)
    times = np.full(len(user_rows), at_ms, np.int64)
    starts, seen = recommender.history.watches.all_before(user_rows, times)
    excluded = np.split(seen, starts[1:-1])
    candidates = recommender.candidates_of(recommender.history, user_rows, times, excluded)
    ranked = recommender.ranked(recommender.history, user_rows, times, candidates)
    assert len(user_rows) == 60
    for user_row, rows in zip(user_rows, ranked, strict=True):
        asked = replace(request_of_somebody, user_id=recommender.users.id(int(user_row)))
        answer = recommender.recommend(asked)
        assert ids(answer) == [recommender.encoder.catalogue.items.id(row) for row in rows[:10]]
        assert {(item.propensity, item.explored) for item in answer.items} == {(1.0, False)}


def test_options_that_bind_nothing_change_no_answer(
    recommender: Recommender,
    request_of_somebody: RecommendationRequest,
    facts: dict[Id, dict[str, Any]],
) -> None:
    plain = recommender.recommend(request_of_somebody)
    everything = ItemRules(allowed_items=list(facts), min_duration_s=0, published_since_ms=0)
    for asked in (
        replace(request_of_somebody, rules=everything),
        replace(request_of_somebody, page=PageOptions(max_per_channel=10, seed=3)),
    ):
        assert recommender.recommend(asked).items == plain.items


def test_rules_hold_and_a_whole_page_is_still_found(
    recommender: Recommender,
    request_of_somebody: RecommendationRequest,
    facts: dict[Id, dict[str, Any]],
) -> None:
    plain = recommender.recommend(request_of_somebody)
    tag = Counter(tag for one in ids(plain) for tag in facts[one]["tags"]).most_common(1)[0][0]
    channel = facts[plain.items[-1].item_id]["channel_id"]
    rules = ItemRules(blocked_tags=[tag], blocked_channels=[channel], max_duration_s=900.0)
    answer = recommender.recommend(replace(request_of_somebody, rules=rules))
    lines = [facts[one] for one in ids(answer)]
    assert len(lines) == 10
    assert not any(tag in line["tags"] or line["channel_id"] == channel for line in lines)
    assert max(line["duration_s"] for line in lines) <= 900
    kept = [one for one in ids(plain) if one in ids(answer)]
    assert len(kept) < 10
    assert answer.degraded == []


def test_of_allowed_items_each_that_is_unwatched_is_found_however_far_away(
    recommender: Recommender, request_of_somebody: RecommendationRequest
) -> None:
    everything = replace(request_of_somebody, k=1_000)
    farthest = ids(recommender.recommend(everything))[-7:]
    asked = replace(request_of_somebody, rules=ItemRules(allowed_items=[*farthest, "no such item"]))
    answer = recommender.recommend(asked)
    assert set(ids(answer)) == set(farthest)
    assert answer.num_candidates == 7
    unknown, few = answer.degraded
    assert "rules.allowed_items" in unknown
    assert few == "rules leave 7 items for 10 slots"


def test_of_nothing_that_is_allowed_there_is_an_empty_page(
    recommender: Recommender, request_of_somebody: RecommendationRequest
) -> None:
    answer = recommender.recommend(
        replace(request_of_somebody, rules=ItemRules(allowed_items=[]), page=PageOptions(seed=1))
    )
    assert answer.items == []
    assert answer.degraded == ["rules leave 0 items for 10 slots"]


def test_no_channel_has_more_than_its_slots(
    recommender: Recommender,
    request_of_somebody: RecommendationRequest,
    facts: dict[Id, dict[str, Any]],
) -> None:
    def channels(page: PageOptions) -> list[Any]:
        answer = recommender.recommend(replace(request_of_somebody, page=page, k=60))
        return [facts[one]["channel_id"] for one in ids(answer)]

    unlimited, limited = channels(PageOptions()), channels(PageOptions(max_per_channel=1))
    assert len(unlimited) > len(set(unlimited))
    assert len(limited) == len(set(limited)) == len(set(unlimited))
    page = PageOptions(max_per_channel=1)
    (cause,) = recommender.recommend(replace(request_of_somebody, page=page, k=60)).degraded
    assert cause.startswith(f"page.max_per_channel: {len(limited)} of 60 slots are filled")


def test_fresh_slots_hold_what_was_published_lately(
    recommender: Recommender,
    request_of_somebody: RecommendationRequest,
    facts: dict[Id, dict[str, Any]],
) -> None:
    at_ms = request_of_somebody.at_ms or 0
    ages = pl.Series([(at_ms - line["published_at_ms"]) / MS_PER_DAY for line in facts.values()])
    days = float(ages.quantile(0.3) or 0.0)

    def num_fresh(page: PageOptions) -> int:
        answer = recommender.recommend(replace(request_of_somebody, page=page))
        published = [facts[one]["published_at_ms"] for one in ids(answer)]
        return sum(at_ms - one <= days * MS_PER_DAY for one in published)

    before = num_fresh(PageOptions())
    assert num_fresh(PageOptions(num_fresh=before + 2, fresh_days=days)) == before + 2


def test_diversity_makes_the_items_of_a_page_less_alike(recommender: Recommender) -> None:
    """As a rule: who comes next is held against the likest of the page, not against all of it."""

    def likeness(user: int, diversity: float) -> float:
        page = PageOptions(diversity=diversity)
        asked = RecommendationRequest(user_id=recommender.users.id(user), page=page)
        rows = recommender.encoder.catalogue.items.rows(ids(recommender.recommend(asked)))
        vectors = recommender.retriever.item_vectors[rows]
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = unit @ unit.T
        return float(cosines[np.triu_indices(10, 1)].mean())

    users = range(NUM_RESERVED_ROWS, NUM_RESERVED_ROWS + 30)
    less = [likeness(user, 0.0) - likeness(user, 0.9) for user in users]
    assert np.mean(less) > 2 * np.std(less) / len(less) ** 0.5


def test_drawn_slots_are_the_last_and_tell_their_propensity(
    recommender: Recommender, request_of_somebody: RecommendationRequest
) -> None:
    plain = ids(recommender.recommend(request_of_somebody))
    drawn = set()
    for seed in range(20):
        page = PageOptions(num_explored=3, seed=seed)
        asked = replace(request_of_somebody, page=page)
        answer = recommender.recommend(asked)
        assert recommender.recommend(asked).items == answer.items
        assert ids(answer)[:7] == plain[:7]
        assert [item.explored for item in answer.items] == [False] * 7 + [True] * 3
        assert [item.propensity for item in answer.items[:7]] == [1.0] * 7
        assert all(0 < item.propensity < 1 for item in answer.items[7:])
        drawn |= set(ids(answer)[7:])
    assert len(drawn) > 10


def test_a_page_has_no_fewer_slots_than_its_options_fill(
    recommender: Recommender, request_of_somebody: RecommendationRequest
) -> None:
    page = PageOptions(num_fresh=7, num_explored=4)
    with pytest.raises(RequestError, match="at most k = 10 together, got 11"):
        recommender.recommend(replace(request_of_somebody, page=page))
    assert len(recommender.recommend(replace(request_of_somebody, page=page, k=11)).items) == 11
