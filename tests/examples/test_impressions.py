from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.ranking_inputs import (
    CANDIDATE_INPUTS,
    PLACE_INPUTS,
    RANKING_INPUTS,
    REQUEST_INPUTS,
    RankingInputs,
)
from upnext.schema import Items, Logs

MakeLogs = Callable[..., Logs]

SOUP, RICE = 2, 3
"""Item rows."""
ANN, BEN = 2, 3
"""User rows."""


@pytest.fixture
def logs(make_logs: MakeLogs) -> Logs:
    return make_logs(
        watches=[
            ("ann", "soup", 15_000, 50.0),
            ("ann", "rice", 90_000, 4.0),
            ("ben", "soup", 1_000, 9.0),
        ],
        impressions=[
            ("r2", "ben", "rice", 80_000, 1, False, 0.0),
            ("r3", "ann", "rice", 90_000, 0, True, 4.0),
            ("r1", "ann", "cake", 20_000, 2, False, 0.0),
            ("r2", "ben", "soup", 80_000, 0, False, 0.0),
            ("r1", "ann", "rice", 20_000, 0, False, 0.0),
        ],
        items=[
            ("soup", -86_400_000, 60.0, "cook", ["hot"], "Soup"),
            ("rice", None, None, None, None, None),
        ],
    )


def examples_of(
    logs: Logs, config: ExamplesConfig | None = None
) -> tuple[Encoder, ImpressionExamples]:
    encoder, users = build_encoder(logs, config or ExamplesConfig()), user_vocabulary(logs)
    history = encoder.history(logs, users)
    assert logs.impressions is not None
    return encoder, build_impression_examples(encoder, history, users, logs.impressions)


def all_inputs(logs: Logs, **sizes: int) -> RankingInputs:
    encoder, examples = examples_of(logs, ExamplesConfig(**sizes))  # type: ignore[arg-type]
    return examples.inputs(encoder, np.arange(examples.num_requests))[0]


def test_impressions_are_grouped_into_requests_in_order_of_time(logs: Logs) -> None:
    examples = examples_of(logs)[1]
    assert examples.num_requests == 3
    assert examples.user_rows.tolist() == [ANN, BEN, ANN]
    assert examples.at_ms.tolist() == [20_000, 80_000, 90_000]
    assert examples.starts.tolist() == [0, 2, 4, 5]
    assert examples.item_rows.tolist() == [RICE, 1, SOUP, RICE, RICE]
    assert examples.position.tolist() == [0.0, 2.0, 0.0, 1.0, 0.0]
    assert examples.watched.tolist() == [False, False, False, False, True]
    assert examples.watch_time_s.tolist() == [0.0, 0.0, 0.0, 0.0, 4.0]


def test_what_was_not_watched_has_no_watch_time(make_logs: MakeLogs) -> None:
    shown = [("r", "ann", "a", 300, 0, False, 7.0), ("r", "ann", "b", 300, 1, True, 5.0)]
    examples = examples_of(make_logs(watches=[("ann", "a", 0, 1.0)], impressions=shown))[1]
    assert examples.watch_time_s.tolist() == [0.0, 5.0]
    assert examples.watch_time_s.dtype == np.float32


def test_a_request_stands_at_the_time_of_its_first_impression(make_logs: MakeLogs) -> None:
    shown = [
        ("late", "ann", "a", 400, 0, False, 0.0),
        ("slow", "ann", "b", 500, 1, False, 0.0),
        ("slow", "ann", "a", 300, 0, False, 0.0),
    ]
    examples = examples_of(make_logs(watches=[("ann", "a", 0, 1.0)], impressions=shown))[1]
    assert examples.at_ms.tolist() == [300, 400]
    assert examples.starts.tolist() == [0, 2, 3]


def test_one_request_id_of_two_users_is_two_requests(make_logs: MakeLogs) -> None:
    shown = [
        (1, "ann", "a", 300, 0, False, 0.0),
        (1, "ben", "a", 300, 0, False, 0.0),
        (1, "ann", "b", 300, 1, False, 0.0),
    ]
    examples = examples_of(make_logs(watches=[("ann", "a", 0, 1.0)], impressions=shown))[1]
    assert examples.user_rows.tolist() == [ANN, BEN]
    assert examples.starts.tolist() == [0, 2, 3]


def test_history_is_what_was_watched_before_the_request(logs: Logs) -> None:
    inputs = all_inputs(logs, num_watches_ranked=2)
    assert inputs.history_rows.tolist() == [[0, SOUP], [0, SOUP], [0, SOUP]]
    assert inputs.history_age_s.tolist() == [[0.0, 5.0], [0.0, 79.0], [0.0, 75.0]]
    assert inputs.history_duration_s.tolist() == [[0.0, 60.0]] * 3
    assert (inputs.history_channel_rows[:, 1] == inputs.channel_rows[2]).all()
    assert (inputs.history_tag_rows[:, 1] == inputs.tag_rows[2]).all()


def test_a_watch_still_running_counts_what_has_run(logs: Logs) -> None:
    inputs = all_inputs(logs, num_watches_ranked=1)
    assert inputs.history_watch_time_s.tolist() == [[5.0], [9.0], [50.0]]


def test_only_earlier_pages_have_been_shown(logs: Logs) -> None:
    inputs = all_inputs(logs, num_shown=3)
    assert inputs.shown_rows.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, RICE]]
    assert inputs.shown_age_s.tolist() == [[0.0] * 3, [0.0] * 3, [0.0, 70.0, 70.0]]


def test_candidates_carry_what_is_known_of_their_items(logs: Logs) -> None:
    inputs = all_inputs(logs)
    assert inputs.request_index.tolist() == [0, 0, 1, 1, 2]
    assert inputs.item_rows.tolist() == [RICE, 1, SOUP, RICE, RICE]
    assert inputs.duration_s.tolist() == [0.0, 0.0, 60.0, 0.0, 0.0]
    assert inputs.channel_rows.tolist() == [0, 0, 2, 0, 0]
    assert inputs.tag_rows[:, 0].tolist() == [0, 0, 2, 0, 0]
    minute = 1 / 1_440
    ages = [0.0, 0.0, 1 + 80 / 60 * minute, minute, 70 / 60 * minute]
    assert inputs.item_age_days == pytest.approx(ages, abs=1e-6)


def test_no_item_is_shown_before_it_is_published(tiny_logs: Logs) -> None:
    undated = tiny_logs.items.frame.with_columns(published_at_ms=pl.lit(None, pl.Int64))
    logs = Logs(watches=tiny_logs.watches, items=Items(undated), impressions=tiny_logs.impressions)
    assert all_inputs(logs).item_age_days.min() == 0.0


def test_a_batch_holds_what_each_request_has_alone(tiny_logs: Logs) -> None:
    config = ExamplesConfig(user_features=("region",), num_watches_ranked=7, num_shown=12)
    encoder, examples = examples_of(tiny_logs, config)
    requests = np.random.default_rng(5).permutation(examples.num_requests)[:80]
    batch, impressions = examples.inputs(encoder, requests)
    for place, request in enumerate(requests):
        mine = slice(examples.starts[request], examples.starts[request + 1])
        alone = RankingInputs(
            encoder,
            examples.history.of_user(int(examples.user_rows[request])),
            user_rows=np.array([0]),
            at_ms=examples.at_ms[[request]],
            request_index=np.zeros(mine.stop - mine.start, np.int64),
            item_rows=examples.item_rows[mine],
            position=examples.position[mine],
        )
        candidates = batch.request_index == place
        assert (impressions[candidates] == np.arange(mine.start, mine.stop)).all()
        for name, array in alone.arrays().items():
            if name not in ("request_index", *PLACE_INPUTS):
                chosen = candidates if name in CANDIDATE_INPUTS else [place]
                in_batch = batch.arrays()[name][chosen]
                assert in_batch.dtype == array.dtype
                assert in_batch.tobytes() == array.tobytes(), name


def test_no_requests_are_no_inputs(make_logs: MakeLogs) -> None:
    encoder, examples = examples_of(make_logs(impressions=[]))
    inputs, impressions = examples.inputs(encoder, np.arange(0))
    assert (examples.num_requests, len(impressions)) == (0, 0)
    assert inputs.history_rows.shape == (0, encoder.config.num_watches_ranked)
    assert inputs.tag_rows.shape == (0, 4)


def test_every_array_is_of_requests_or_of_candidates(logs: Logs) -> None:
    inputs = all_inputs(logs)
    arrays = inputs.arrays()
    assert tuple(arrays) == RANKING_INPUTS == REQUEST_INPUTS + CANDIDATE_INPUTS + PLACE_INPUTS
    assert {len(arrays[name]) for name in REQUEST_INPUTS} == {3}
    assert {len(arrays[name]) for name in CANDIDATE_INPUTS} == {5}
    assert all(inputs[name] is array for name, array in arrays.items())


def test_the_shown_carry_their_channels_and_tags(tiny_logs: Logs) -> None:
    encoder, examples = examples_of(tiny_logs, ExamplesConfig(num_shown=20))
    inputs = examples.inputs(encoder, np.arange(examples.num_requests))[0]
    catalogue = encoder.catalogue
    assert (inputs.shown_rows > 1).any()
    assert inputs.shown_channel_rows.max() > 1
    for request, slot in np.argwhere(inputs.shown_rows >= 0)[::97]:
        item = inputs.shown_rows[request, slot]
        assert inputs.shown_channel_rows[request, slot] == catalogue.channel_rows[item]
        assert (inputs.shown_tag_rows[request, slot] == catalogue.tag_rows[item]).all()


def test_candidates_are_told_what_everybody_did_with_them_and_their_channels(
    make_logs: MakeLogs,
) -> None:
    """By 12:30: what was over by 12:00, of whoever; the watch that ran from 11:59 was not."""
    hour_ms, noon = 3_600_000, 12 * 3_600_000
    logs = make_logs(
        watches=[
            ("ann", "soup", noon - hour_ms, 50.0),
            ("ben", "soup", noon - 2 * hour_ms, 7.5),
            ("ben", "rice", noon - 60_000, 90.0),
            ("ben", "rice", noon - 2 * hour_ms, 90.0),
        ],
        impressions=[
            ("early", "ben", "soup", noon - 1, 0, False, 0.0),
            ("late", "ben", "soup", noon + 60_000, 0, False, 0.0),
            ("now", "ann", "soup", noon + hour_ms // 2, 0, False, 0.0),
            ("now", "ann", "rice", noon + hour_ms // 2, 1, False, 0.0),
            ("now", "ann", "cake", noon + hour_ms // 2, 2, False, 0.0),
        ],
        items=[
            ("soup", None, 100.0, "cook", None, None),
            ("rice", None, None, "cook", None, None),
        ],
    )
    encoder, examples = examples_of(logs)
    inputs = examples.inputs(encoder, np.array([2]))[0]
    soup, rice, nothing = [1.0, 2.0, 57.5, 0.575], [0.0, 1.0, 90.0, 1.0], [0.0] * 4
    cook = [mine + other for mine, other in zip(soup, rice, strict=True)]
    for told, expected in (
        (inputs.item_counts, [soup, rice, nothing]),
        (inputs.channel_counts, [cook, cook, nothing]),
    ):
        np.testing.assert_allclose(told, np.array(expected), atol=3e-6)


def test_scores_of_sources_go_with_their_impressions(logs: Logs) -> None:
    encoder, examples = examples_of(logs)
    assert examples.inputs(encoder, np.array([2, 0]))[0].source_scores.shape == (3, 0)
    scores = np.arange(10, dtype=np.float32).reshape(5, 2)
    scored = replace(examples, source_scores=scores)
    inputs, impressions = scored.inputs(encoder, np.array([2, 0]))
    assert impressions.tolist() == [4, 0, 1]
    assert inputs.source_scores.tolist() == scores[[4, 0, 1]].tolist()


def test_some_requests_taken_are_the_same_requests(tiny_logs: Logs) -> None:
    encoder, examples = examples_of(tiny_logs, ExamplesConfig(num_watches_ranked=7, num_shown=12))
    numbered = np.arange(len(examples.item_rows), dtype=np.float32)[:, None]
    examples = replace(examples, source_scores=numbered)
    requests = np.random.default_rng(8).permutation(examples.num_requests)[:30]
    taken = examples.take(requests)
    inputs, chosen = taken.inputs(encoder, np.arange(30))
    expected, impressions = examples.inputs(encoder, requests)
    assert chosen.tolist() == list(range(len(impressions)))
    for name in ("watched", "watch_time_s", "item_rows", "position", "source_scores"):
        assert (getattr(taken, name) == getattr(examples, name)[impressions]).all(), name
    for name, array in expected.arrays().items():
        assert inputs[name].tobytes() == array.tobytes(), name
    nothing = examples.take(np.arange(0))
    assert (nothing.num_requests, nothing.starts.tolist()) == (0, [0])


def test_an_item_is_known_once_somebody_has_watched_it(tiny_logs: Logs) -> None:
    examples = examples_of(tiny_logs)[1]
    ones = np.ones((len(examples.item_rows), 2), np.float32)
    then = replace(examples, source_scores=ones).as_known_then()
    watches = examples.history.watches
    asked_ms = np.repeat(examples.at_ms, np.diff(examples.starts))
    num_known = 0
    for place, row in enumerate(examples.item_rows.tolist()):
        watched_ms = watches.at_ms[watches.rows == row]
        known = bool((watched_ms < asked_ms[place]).any())
        assert then.item_rows[place] == (row if known else 1)
        assert (then.source_scores[place] == known).all()
        num_known += known
    assert 0 < num_known < len(asked_ms)
    for name in ("starts", "at_ms", "position", "watched", "watch_time_s"):
        assert getattr(then, name) is getattr(examples, name)
