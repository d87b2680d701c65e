"""The union of all sources, its marks and features, and that nothing in it knows the future."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.config import config_from_table, config_to_table
from upnext.errors import ConfigError
from upnext.sources import (
    NOMINATORS,
    SOURCES,
    Events,
    Moments,
    Shown,
    Sources,
    SourcesConfig,
    fit_sources,
)

HOUR_MS = 3_600_000
NUM_ROWS, NUM_SLOTS = 12, 4
UNTIL_H = 60

few = settings(max_examples=60)
item_rows = st.integers(0, NUM_ROWS - 1)
segments = st.integers(0, 4)
before_h, from_then_h = st.integers(0, UNTIL_H - 1), st.integers(UNTIL_H, 2 * UNTIL_H)
Watch = tuple[int, int, int, int]
Impression = tuple[int, int, bool]


def watches(times: st.SearchStrategy[int]) -> st.SearchStrategy[list[Watch]]:
    return st.lists(st.tuples(st.integers(2, 5), item_rows, times, segments), max_size=30)


def impressions(times: st.SearchStrategy[int]) -> st.SearchStrategy[list[Impression]]:
    return st.lists(st.tuples(item_rows, times, st.booleans()), max_size=20)


published = st.lists(before_h, min_size=NUM_ROWS, max_size=NUM_ROWS)
requests = st.lists(
    st.tuples(st.lists(item_rows, min_size=NUM_SLOTS, max_size=NUM_SLOTS), segments, from_then_h),
    min_size=1,
    max_size=3,
)
configs = st.builds(
    SourcesConfig,
    num_together=st.integers(0, 5),
    num_popular=st.integers(0, 15),
    num_fresh=st.integers(0, 5),
    segment_shrinkage=st.sampled_from([0.0, 3.0]),
    lately_days=st.sampled_from([0.5, 7.0]),
)
logs = st.builds(
    lambda *lines: events_of(*lines), watches(before_h), impressions(before_h), published
)
moments = st.builds(lambda asked: moments_of(asked), requests)


def events_of(watched: list[Watch], lines: list[Impression], published_h: list[int]) -> Events:
    users, rows, at_h, of_segments = np.array(watched, np.int64).reshape(-1, 4).T
    shown_rows, shown_h, was_watched = np.array(lines, np.int64).reshape(-1, 3).T
    return Events(
        user_rows=users,
        item_rows=rows.astype(np.int32),
        at_ms=at_h * HOUR_MS,
        segment_rows=of_segments.astype(np.int32),
        published_at_ms=np.array(published_h) * HOUR_MS,
        shown=Shown(shown_rows.astype(np.int32), shown_h * HOUR_MS, was_watched.astype(np.bool_)),
    )


def moments_of(asked: list[tuple[list[int], int, int]]) -> Moments:
    histories, of_segments, at_h = zip(*asked, strict=True)
    return Moments(
        np.array(histories, np.int32),
        np.array(of_segments, np.int32),
        np.array(at_h, np.int64) * HOUR_MS,
    )


def own_candidates(
    sources: Sources, asked: Moments, excluded: list[list[int]]
) -> list[list[list[int]]]:
    """By source and request, what each nominates by itself."""
    left_out = [np.array(rows, np.int32) for rows in excluded]
    config, nothing = sources.config, np.zeros((len(asked), 0), np.int32)
    together, popular, fresh = sources.together, sources.popular, sources.fresh
    tables = [
        together.candidates(asked.history_rows, config.num_together, excluded_rows=left_out)[0]
        if together
        else nothing,
        popular.candidates(asked.segment_rows, config.num_popular, excluded_rows=left_out)[0]
        if popular
        else nothing,
        fresh.candidates(asked.at_ms, config.num_fresh, excluded_rows=left_out)[0]
        if fresh
        else nothing,
    ]
    return [[[row for row in line if row >= 0] for line in table.tolist()] for table in tables]


@few
@given(logs, moments, configs, st.data())
def test_the_union_holds_each_nomination_once_with_all_who_made_it(
    events: Events, asked: Moments, config: SourcesConfig, data: st.DataObject
) -> None:
    sources = fit_sources(events, config)
    found = data.draw(
        st.lists(
            st.lists(item_rows, min_size=3, max_size=3), min_size=len(asked), max_size=len(asked)
        )
    )
    excluded = data.draw(st.lists(st.lists(item_rows), min_size=len(asked), max_size=len(asked)))
    union = sources.nominate(
        asked,
        found_rows=np.array(found, np.int32),
        excluded_rows=[np.array(rows, np.int32) for rows in excluded],
    )
    own = own_candidates(sources, asked, excluded)
    assert union.nominated_by.shape == (*union.item_rows.shape, len(NOMINATORS))
    for request, line in enumerate(union.item_rows):
        rows = [int(row) for row in line if row >= 0]
        lists = [[row for row in found[request] if row >= 2], *(table[request] for table in own)]
        assert len(rows) == len(set(rows))
        assert set(rows) == {row for nominated in lists for row in nominated}
        assert rows[: len(set(lists[0]))] == list(dict.fromkeys(lists[0]))
        assert line[len(rows) :].tolist() == [-1] * (len(line) - len(rows))
        for row, marks in zip(rows, union.nominated_by[request], strict=False):
            assert marks.tolist() == [row in nominated for nominated in lists]
        assert not union.nominated_by[request, len(rows) :].any()
        assert not {row for row in rows if row not in lists[0]} & set(excluded[request])


@few
@given(logs, moments, configs)
def test_sources_take_turns_best_first(
    events: Events, asked: Moments, config: SourcesConfig
) -> None:
    sources = fit_sources(events, config)
    union = sources.nominate(asked)
    own = own_candidates(sources, asked, [[] for _ in range(len(asked))])
    for request, line in enumerate(union.item_rows):
        in_turn = [
            table[request][place]
            for place in range(NUM_ROWS)
            for table in own
            if place < len(table[request])
        ]
        assert [row for row in line if row >= 0] == list(dict.fromkeys(in_turn))


@few
@given(logs, moments, configs)
def test_scores_are_those_that_candidates_are_chosen_by(
    events: Events, asked: Moments, config: SourcesConfig
) -> None:
    sources = fit_sources(events, config)
    asked_for, rows = np.indices((len(asked), NUM_ROWS)).reshape(2, -1)[:, ::-1]
    scores = sources.scores(asked, rows, asked_for)
    assert scores.shape == (len(rows), len(SOURCES))
    assert scores.dtype == np.float32
    for column, name in enumerate(SOURCES):
        source = getattr(sources, name)
        told = {"together": asked.history_rows, "popular": asked.segment_rows, "fresh": asked.at_ms}
        if source is None:
            assert not scores[:, column].any()
            continue
        found, values = source.candidates(told[name], NUM_ROWS)
        by_pair = dict(zip(zip(asked_for, rows, strict=True), scores[:, column], strict=True))
        listed = {
            (request, row): value
            for request, (line, line_values) in enumerate(zip(found, values, strict=True))
            for row, value in zip(line, line_values, strict=True)
            if row >= 0
        }
        assert listed == {pair: score for pair, score in by_pair.items() if score > 0}


@few
@given(logs, watches(from_then_h), impressions(from_then_h), configs)
def test_no_event_at_the_time_or_later_changes_anything(
    events: Events, later: list[Watch], later_shown: list[Impression], config: SourcesConfig
) -> None:
    more = events_of(later, later_shown, [0] * NUM_ROWS)
    assert events.shown is not None
    assert more.shown is not None
    assert events.segment_rows is not None
    assert more.segment_rows is not None
    grown = replace(
        events,
        user_rows=np.concatenate([more.user_rows, events.user_rows]),
        item_rows=np.concatenate([more.item_rows, events.item_rows]),
        at_ms=np.concatenate([more.at_ms, events.at_ms]),
        segment_rows=np.concatenate([more.segment_rows, events.segment_rows]),
        shown=Shown(
            np.concatenate([more.shown.item_rows, events.shown.item_rows]),
            np.concatenate([more.shown.at_ms, events.shown.at_ms]),
            np.concatenate([more.shown.watched, events.shown.watched]),
        ),
    )
    first, second = (
        fit_sources(some, config, until_ms=UNTIL_H * HOUR_MS).to_arrays()
        for some in (events, grown)
    )
    assert first.keys() == second.keys()
    assert [name for name in first if first[name].tolist() != second[name].tolist()] == []


@few
@given(logs, configs)
def test_plain_arrays_bring_everything_back(events: Events, config: SourcesConfig) -> None:
    sources = fit_sources(events, config)
    back = Sources.from_arrays(sources.to_arrays(), config)
    for name in SOURCES:
        before, after = getattr(sources, name), getattr(back, name)
        assert (before is None) == (after is None)
        if before is not None:
            assert vars(before).keys() == vars(after).keys()
            for key, value in vars(before).items():
                np.testing.assert_array_equal(value, vars(after)[key])


def test_files_mapped_into_memory_answer_as_what_was_fitted(tmp_path: Path) -> None:
    events = events_of(
        [(2, 3, 1, 2), (2, 4, 2, 2), (3, 3, 3, 3), (3, 5, 59, 3)],
        [(3, 5, True), (4, 6, False), (5, 7, True)],
        list(range(NUM_ROWS)),
    )
    sources = fit_sources(events, SourcesConfig(segment="region"))
    for name, array in sources.to_arrays().items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=False)
    mapped = {path.stem: np.load(path, mmap_mode="r") for path in tmp_path.glob("*.npy")}
    again = Sources.from_arrays(mapped, sources.config)
    asked = moments_of([([0, 0, 4, 3], 2, 61), ([0] * 4, 0, 62)])
    first, second = sources.nominate(asked), again.nominate(asked)
    assert first.item_rows.tolist() == second.item_rows.tolist()
    assert (first.item_rows[:, 0] >= 2).all()
    index = np.repeat([0, 1], first.item_rows.shape[1])
    rows = first.item_rows.ravel()
    assert sources.scores(asked, rows, index).tolist() == again.scores(asked, rows, index).tolist()


def test_nothing_logged_and_nothing_asked_for_is_ordinary() -> None:
    empty = events_of([], [], [0, 0])
    asked = moments_of([([0] * 4, 0, 1)])
    for config in (SourcesConfig(), SourcesConfig(num_together=0, num_popular=0, num_fresh=0)):
        sources = fit_sources(replace(empty, segment_rows=None, shown=None), config)
        assert sources.nominate(asked).item_rows.shape == (1, 0)
        found = sources.nominate(asked, found_rows=np.array([[7, -1, 3]], np.int32))
        assert found.item_rows.tolist() == [[7, 3]]
        assert found.nominated_by[0, :, 0].all()
        nobody = Moments(asked.history_rows[:0], asked.segment_rows[:0], asked.at_ms[:0])
        assert sources.nominate(nobody).item_rows.shape == (0, 0)
        assert sources.scores(asked, np.array([], int), np.array([], int)).shape == (0, 3)


def test_an_item_that_is_added_later_is_fresh_and_otherwise_unknown() -> None:
    events = events_of([(2, 3, 1, 2), (2, 4, 2, 2)], [], list(range(NUM_ROWS)))
    sources = fit_sources(events, SourcesConfig())
    added_at_ms = np.append(events.published_at_ms, UNTIL_H * HOUR_MS)
    grown = sources.with_items(added_at_ms)
    asked = moments_of([([0, 0, NUM_ROWS, 3], 2, UNTIL_H + 1)])
    union = grown.nominate(asked)
    new = np.flatnonzero(union.item_rows[0] == NUM_ROWS)
    assert union.nominated_by[0, new].tolist() == [[False, False, False, True]]
    scores = grown.scores(asked, np.array([NUM_ROWS]), np.array([0]))
    assert scores[0, :2].tolist() == [0, 0]
    assert scores[0, 2] == pytest.approx(1 - 1 / 72)
    assert not (sources.nominate(asked).item_rows == NUM_ROWS).any()


@pytest.mark.parametrize("key", ["num_together", "num_popular", "num_fresh", "segment_shrinkage"])
def test_settings_below_nothing_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        config_from_table({key: -1}, SourcesConfig, where="run.toml")


@pytest.mark.parametrize("key", ["lately_days", "fresh_days", "fresh_shrinkage"])
def test_windows_of_no_length_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        config_from_table({key: 0}, SourcesConfig, where="run.toml")


def test_a_section_of_run_toml_holds_all_of_it() -> None:
    table = {"num_fresh": 7, "segment": "region", "together": {"max_gap": 3}}
    config = config_from_table(table, SourcesConfig, where="run.toml")
    assert (config.num_fresh, config.segment, config.together.max_gap) == (7, "region", 3)
    assert config_from_table(config_to_table(config), SourcesConfig, where="run.toml") == config
