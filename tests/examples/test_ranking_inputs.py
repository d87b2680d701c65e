"""All that ranking is told, against one event and one candidate after the other."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import EventLog, History
from upnext.examples.ranking_inputs import RANKING_INPUTS, RankingInputs
from upnext.schema import Logs

MakeLogs = Callable[..., Logs]
Watch = tuple[str, str, int, float]
Shown = tuple[str, str, str, int, int, bool, float]

ITEMS = "abcde"
USERS = ("ann", "ben", "cat")
DAY_MS = 86_400_000
NUM_WATCHES, NUM_SHOWN = 3, 4
DESCRIBED = [
    ("a", -3 * DAY_MS, 60.0, "cook", ["hot", "new", "odd"], None),
    ("b", 5_000, 7.5, "dance", ["hot"], None),
    ("c", None, None, None, None, None),
]
"""Of the other items there is no line."""

users, items = st.sampled_from(USERS), st.sampled_from(ITEMS)
times = st.integers(0, 20).map(lambda seconds: 1_000 * seconds + 1)
watches = st.lists(st.tuples(users, items, times, st.sampled_from([0.5, 3.25, 90.0])), max_size=12)
impressions = st.lists(st.tuples(users, items, times), max_size=12)


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Who asks when, user rows and times; whose and which item each candidate is."""
    moments = draw(st.lists(st.tuples(st.integers(0, 4), times), min_size=1, max_size=4))
    whose = st.integers(0, len(moments) - 1)
    return moments, draw(st.lists(st.tuples(whose, st.integers(0, 6)), max_size=8))


def column(values: list[Any], dtype: type) -> Any:
    return np.array(values, dtype)


def of_item(encoder: Encoder, row: int) -> tuple[int, list[int], float]:
    catalogue = encoder.catalogue
    tags = catalogue.tag_rows[row].tolist()
    return int(catalogue.channel_rows[row]), tags, float(catalogue.duration_s[row])


def events_before(log: EventLog, user: int, at_ms: int, most: int) -> list[int]:
    """Places of the user's last events strictly before, oldest first."""
    mine = range(int(log.starts[user]), int(log.starts[user + 1]))
    return [event for event in mine if log.at_ms[event] < at_ms][-most:]


def padded(values: list[Any], size: int, nothing: Any = 0) -> list[Any]:
    return [nothing] * (size - len(values)) + values


def one_request(encoder: Encoder, history: History, user: int, at_ms: int) -> dict[str, Any]:
    told: dict[str, Any] = {}
    no_tags = [0] * encoder.config.max_tags
    for name, log, size in (
        ("history", history.watches, NUM_WATCHES),
        ("shown", history.shown, NUM_SHOWN),
    ):
        events = events_before(log, user, at_ms, size)
        rows = [int(log.rows[event]) for event in events]
        ages_s = [np.float32((at_ms - int(log.at_ms[event])) / 1000) for event in events]
        known = [of_item(encoder, row) for row in rows]
        told |= {
            f"{name}_rows": padded(rows, size),
            f"{name}_channel_rows": padded([channel for channel, _, _ in known], size),
            f"{name}_tag_rows": padded([tags for _, tags, _ in known], size, no_tags),
            f"{name}_age_s": padded(ages_s, size),
        }
        if name == "history":
            spent_s = [min(log.watch_time_s[e], age) for e, age in zip(events, ages_s, strict=True)]
            told["history_watch_time_s"] = padded(spent_s, size)
            told["history_duration_s"] = padded([length_s for _, _, length_s in known], size)
    return told


def one_candidate(encoder: Encoder, history: History, row: int, at_ms: int) -> dict[str, Any]:
    channel, tags, length_s = of_item(encoder, row)
    published_ms = int(encoder.catalogue.published_at_ms[row])
    moment = np.array([at_ms])
    return {
        "channel_rows": channel,
        "tag_rows": tags,
        "duration_s": length_s,
        "item_age_days": np.float32((at_ms - published_ms) / DAY_MS) if row > 1 else 0.0,
        "item_counts": history.item_counts.before(np.array([row]), moment)[0].tolist(),
        "channel_counts": history.channel_counts.before(np.array([channel]), moment)[0].tolist(),
    }


@settings(max_examples=60)
@given(watched=watches, shown=impressions, asked=questions())
def test_inputs_are_what_one_event_after_the_other_tells(
    make_logs: MakeLogs,
    watched: list[Watch],
    shown: list[tuple[str, str, int]],
    asked: tuple[list[tuple[int, int]], list[tuple[int, int]]],
) -> None:
    known = [("ann", item, 90_000, 1.0) for item in ITEMS]
    known += [(user, "a", 90_000, 1.0) for user in USERS]
    lines: list[Shown] = [
        (str(place), user, item, at_ms, 0, False, 0.0)
        for place, (user, item, at_ms) in enumerate([*shown, ("ann", "a", 90_000)])
    ]
    logs = make_logs(watches=[*watched, *known], impressions=lines, items=DESCRIBED)
    config = ExamplesConfig(num_watches_ranked=NUM_WATCHES, num_shown=NUM_SHOWN, max_tags=2)
    encoder = build_encoder(logs, config)
    history = encoder.history(logs, user_vocabulary(logs))
    moments, candidates = asked
    inputs = RankingInputs(
        encoder,
        history,
        user_rows=column([user for user, _ in moments], np.int64),
        at_ms=column([at_ms for _, at_ms in moments], np.int64),
        request_index=column([whose for whose, _ in candidates], np.int64),
        item_rows=column([row for _, row in candidates], np.int32),
        position=np.zeros(len(candidates), np.float32),
    )
    of_requests = [one_request(encoder, history, *moment) for moment in moments]
    of_candidates = [
        one_candidate(encoder, history, row, moments[whose][1]) for whose, row in candidates
    ]
    told = inputs.arrays()
    assert tuple(told) == RANKING_INPUTS
    for expected in (of_requests, of_candidates):
        for name in expected[0] if expected else ():
            assert told[name].tolist() == [line[name] for line in expected], name
