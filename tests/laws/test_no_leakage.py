"""What is encoded at time t depends on events strictly before t, in whatever table they stand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import History, ranges
from upnext.examples.impressions import build_impression_examples
from upnext.examples.quantiles import quantile_bounds
from upnext.examples.ranking_inputs import RankingInputs
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import QueryEncoder, WatchExamples, build_watch_examples, watch_targets
from upnext.schema import Logs

MakeLogs = Callable[..., Logs]
Line = tuple[Any, ...]

CONFIG = ExamplesConfig(
    num_watches=3,
    num_watches_ranked=3,
    num_searches=4,
    num_shown=3,
    clock=("hour", "weekday"),
    user_features=("country",),
)
USERS = [0, 1, 2, 3]
"""User 3 has a line in the users table at most."""
ITEMS = list(range(8))
LAST_MS = [10_000, 6 * 3_600_000]
"""All within an hour, and within some, which is what counts of everybody go by."""
TIME_OF: Mapping[str, int] = {"watches": 2, "impressions": 3, "searches": 1}
"""The place of the time in a line of each table."""

few = settings(max_examples=40)
users, items = st.integers(0, 2), st.sampled_from(ITEMS)
queries = st.sampled_from(["tea", "slow tea", "rice", "!"])


def seconds_until(last_ms: int) -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, 0.5, 3.0, 8.0, last_ms / 4_000])


def tables_until(last_ms: int) -> st.SearchStrategy[dict[str, list[Line]]]:
    times, seconds = st.integers(0, last_ms), seconds_until(last_ms)
    shown = st.tuples(
        st.integers(0, 5), users, items, times, st.integers(0, 3), st.booleans(), seconds
    )
    return st.fixed_dictionaries(
        {
            "watches": st.lists(st.tuples(users, items, times, seconds), max_size=15),
            "impressions": st.lists(shown, max_size=15),
            "searches": st.lists(st.tuples(users, times, queries), max_size=8),
        }
    )


@dataclass(frozen=True)
class World:
    """Logs before any change, and the encoder that they taught."""

    encoder: Encoder
    logs: Logs

    def read(self, logs: Logs) -> tuple[Vocabulary, History]:
        users = user_vocabulary(logs)
        return users, self.encoder.history(logs, users)


def world_of(make_logs: MakeLogs, lines: Mapping[str, list[Line]]) -> World:
    logs = logs_of(make_logs, lines)
    return World(build_encoder(logs, CONFIG), logs)


def logs_of(make_logs: MakeLogs, lines: Mapping[str, list[Line]]) -> Logs:
    countries = pl.DataFrame({"user_id": USERS, "country": ["fi", "se", None, "fi"]})
    described = [(item, 0, float(item), item % 3, [f"tag{item % 2}"], "") for item in ITEMS[:6]]
    return make_logs(users=countries, items=described, **lines)


def before(lines: Mapping[str, list[Line]], at_ms: int) -> dict[str, list[Line]]:
    return {name: [e for e in lines[name] if e[TIME_OF[name]] < at_ms] for name in lines}


def with_another_future(
    lines: Mapping[str, list[Line]], future: Mapping[str, list[Line]], at_ms: int
) -> dict[str, list[Line]]:
    """The same past; the events of `future` moved to at_ms or later, in front of it and behind."""
    changed = before(lines, at_ms)
    for name, place in TIME_OF.items():
        for turn, event in enumerate(future[name]):
            later = (*event[:place], at_ms + event[place] * (turn % 3), *event[place + 1 :])
            changed[name].insert(0 if turn % 2 else len(changed[name]), later)
    return changed


def encoded_at(world: World, logs: Logs, at_ms: int) -> dict[str, NDArray[Any]]:
    """All that either stage is told of every user at one moment, about every item."""
    vocabulary, history = world.read(logs)
    user_rows, moments = vocabulary.rows(USERS), np.full(len(USERS), at_ms)
    query_encoder = QueryEncoder(world.encoder, quantile_bounds(np.arange(20) / 1e6))
    queries = query_encoder.queries(history, user_rows, moments)
    inputs = RankingInputs(
        world.encoder,
        history,
        user_rows=user_rows,
        at_ms=moments,
        request_index=np.repeat(np.arange(len(USERS)), len(ITEMS)),
        item_rows=np.tile(world.encoder.catalogue.items.rows(ITEMS), len(USERS)),
        position=np.zeros(len(USERS) * len(ITEMS), np.float32),
    )
    return {
        "watched": history.watches.rows_in(queries.watch_lo, queries.watch_hi, 3),
        "searched": history.searches.rows_in(queries.search_lo, queries.search_hi, 4),
        "watched ever": history.watches.all_before(user_rows, moments)[1],
        "query context": queries.context_rows,
        "query values": queries.context_values,
        **inputs.arrays(),
    }


def assert_same_bits(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype, name
        assert array.shape == other[name].shape, name
        assert array.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("last_ms", LAST_MS)
@few
@given(data=st.data())
def test_what_happens_at_t_or_later_moves_nothing_at_t(
    make_logs: MakeLogs, last_ms: int, data: st.DataObject
) -> None:
    lines, future = data.draw(tables_until(last_ms)), data.draw(tables_until(last_ms))
    at_ms = data.draw(st.integers(0, last_ms))
    world = world_of(make_logs, lines)
    changed = logs_of(make_logs, with_another_future(lines, future, at_ms))
    silent = logs_of(make_logs, before(lines, at_ms))
    truth = encoded_at(world, world.logs, at_ms)
    assert_same_bits(truth, encoded_at(world, changed, at_ms))
    assert_same_bits(truth, encoded_at(world, silent, at_ms))


@pytest.mark.parametrize("last_ms", LAST_MS)
@few
@given(data=st.data())
def test_how_long_a_running_watch_goes_on_moves_nothing(
    make_logs: MakeLogs, last_ms: int, data: st.DataObject
) -> None:
    lines, at_ms = data.draw(tables_until(last_ms)), data.draw(st.integers(0, last_ms))
    more_s = data.draw(seconds_until(last_ms))

    def longer(line: Line) -> Line:
        *who_what, started_ms, watched_s = line
        still_runs = started_ms + 1_000 * watched_s >= at_ms
        return (*who_what, started_ms, watched_s + more_s * still_runs)

    world = world_of(make_logs, lines)
    changed = logs_of(make_logs, lines | {"watches": [longer(w) for w in lines["watches"]]})
    truth = encoded_at(world, world.logs, at_ms)
    assert_same_bits(truth, encoded_at(world, changed, at_ms))


@pytest.mark.parametrize("last_ms", LAST_MS)
@few
@given(data=st.data())
def test_what_came_of_an_impression_moves_no_input(
    make_logs: MakeLogs, last_ms: int, data: st.DataObject
) -> None:
    lines, at_ms = data.draw(tables_until(last_ms)), data.draw(st.integers(0, last_ms))
    world = world_of(make_logs, lines)
    others = [(*line[:5], not line[5], 7.0) for line in lines["impressions"]]
    changed = logs_of(make_logs, lines | {"impressions": others})
    assert_same_bits(world.read(world.logs)[1].to_arrays(), world.read(changed)[1].to_arrays())
    truth = encoded_at(world, world.logs, at_ms)
    assert_same_bits(truth, encoded_at(world, changed, at_ms))


@pytest.mark.parametrize("last_ms", LAST_MS)
@few
@given(data=st.data())
def test_examples_before_t_do_not_change_with_what_comes_after(
    make_logs: MakeLogs, last_ms: int, data: st.DataObject
) -> None:
    lines, future = data.draw(tables_until(last_ms)), data.draw(tables_until(last_ms))
    at_ms = data.draw(st.integers(0, last_ms))
    world = world_of(make_logs, lines)
    past = logs_of(make_logs, before(lines, at_ms))
    changed = logs_of(make_logs, with_another_future(lines, future, at_ms))

    def examples_before(logs: Logs) -> dict[str, NDArray[Any]]:
        users, history = world.read(logs)
        targets = watch_targets(world.encoder, history, users, past.watches)
        shown = past.impressions
        assert shown is not None
        requests = build_impression_examples(world.encoder, history, users, shown)
        inputs, _ = requests.inputs(world.encoder, np.arange(requests.num_requests))
        watched = {"targets": targets.item_rows, "watched": targets.history_rows(5)}
        return {**watched, "starts": requests.starts, **inputs.arrays()}

    assert_same_bits(examples_before(world.logs), examples_before(changed))


def test_what_everybody_did_before_the_hour_is_told(make_logs: MakeLogs) -> None:
    """So the laws above are about something: of these eight, what was over by two hours."""
    hour_ms = LAST_MS[1] // 6
    moments = [0, hour_ms - 1, 2 * hour_ms - 4_000, 2 * hour_ms - 1]
    watches = [(0, 1, at_ms, 3.0) for at_ms in moments]
    shown = [(0, 0, 1, at_ms, 0, False, 0.0) for at_ms in moments]
    world = world_of(make_logs, {"watches": watches, "impressions": shown, "searches": []})
    for at_ms, expected in ((0, 0), (hour_ms, 1), (2 * hour_ms, 3), (3 * hour_ms, 4)):
        told = encoded_at(world, world.logs, at_ms)
        place = told["item_rows"].tolist().index(world.encoder.catalogue.items.row(1))
        assert told["item_counts"][place, 1] == expected
        assert told["channel_counts"][place, 1] == expected


@few
@given(lines=tables_until(LAST_MS[0]))
def test_no_example_sees_its_own_watch(make_logs: MakeLogs, lines: dict[str, list[Line]]) -> None:
    world = world_of(make_logs, lines)
    _, history = world.read(world.logs)
    _, examples = build_watch_examples(world.encoder, history, completed_share=0.0)
    assert_windows_lie_in_the_past(examples)
    assert len(examples.queries) == len(lines["watches"])


def test_no_example_of_a_platform_sees_its_own_watch(tiny_logs: Logs) -> None:
    encoder, users = (
        build_encoder(tiny_logs, replace(CONFIG, user_features=())),
        user_vocabulary(tiny_logs),
    )
    history = encoder.history(tiny_logs, users)
    _, examples = build_watch_examples(encoder, history, completed_share=0.0)
    assert_windows_lie_in_the_past(examples)
    assert (examples.queries.watch_hi > examples.queries.watch_lo).mean() > 0.5


def assert_windows_lie_in_the_past(examples: WatchExamples) -> None:
    queries, log = examples.queries, examples.history.watches
    event = ranges(queries.watch_lo, queries.watch_hi)
    example = np.repeat(np.arange(len(queries)), queries.watch_hi - queries.watch_lo)
    assert (log.user_rows()[event] == queries.user_rows[example]).all()
    assert (log.at_ms[event] < examples.at_ms[example]).all()
