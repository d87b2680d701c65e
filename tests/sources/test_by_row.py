"""What is found by row, against dictionaries, with rows whose hashes meet."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upnext.sources.by_row import heard_or_popular, heard_rows, scores_of_rows, united

NUM_ROWS = 1 << 20
ROWS = [*range(2, 8), *range(2, NUM_ROWS, NUM_ROWS // 40)]
"""Side by side, and far apart: of so many some want the same slot."""

rows = st.sampled_from(ROWS)
neighbours = st.lists(rows, unique=True, max_size=30).map(sorted)
histories = st.lists(
    st.lists(st.integers(0, 5) | st.just(NUM_ROWS + 3), min_size=4, max_size=4), max_size=4
)
LOUDNESS = np.array([1.0, 0.5, 0.25], np.float32)
OF_A_WATCH = 0.125


@given(
    st.lists(neighbours, min_size=4, max_size=4), histories, st.lists(rows, unique=True), st.data()
)
def test_what_is_heard_is_added_up_watch_by_watch(
    beside: list[list[int]], asked: list[list[int]], popular: list[int], data: st.DataObject
) -> None:
    starts = np.full(NUM_ROWS + 1, sum(map(len, beside)))
    starts[:7] = np.cumsum([0, 0, 0, *map(len, beside)])
    listed = np.array([row for line in beside for row in line], np.int32)
    similarities = (np.float32(0.125) * (1 + np.arange(len(listed)) % 7)).astype(np.float32)
    num_watches = np.arange(NUM_ROWS) % 5
    firsts, slots, scores = heard_rows(
        np.array(asked, np.int32).reshape(-1, 4),
        starts,
        listed,
        similarities,
        LOUDNESS,
        num_watches,
        OF_A_WATCH,
    )
    wanted = []
    for history in asked:
        heard: dict[int, float] = {}
        latest_first = [row for row in reversed(history) if row > 0][: len(LOUDNESS)]
        for loudness, watched in zip(LOUDNESS, latest_first, strict=False):
            for entry in range(starts[watched], starts[watched + 1]) if 2 <= watched < 6 else ():
                row = int(listed[entry])
                own = heard.get(row, OF_A_WATCH * num_watches[row])
                heard[row] = own + loudness * similarities[entry]
        wanted.append(heard)
    told = [
        {int(row): score for row, score in zip(slots[a:b], scores[a:b], strict=True) if row}
        for a, b in pairwise(firsts)
    ]
    assert told == wanted
    counts = np.array([data.draw(st.integers(0, len(popular) + 1)) for _ in asked], np.int64)
    ends, both, values = heard_or_popular(
        firsts, slots, scores, np.array(popular, np.int32), counts, num_watches, OF_A_WATCH
    )
    for request, heard in enumerate(wanted):
        part = slice(ends[request], ends[request + 1])
        head = {row: OF_A_WATCH * num_watches[row] for row in popular[: counts[request]]}
        assert len(both[part]) == len(set(both[part].tolist()))
        assert dict(zip(both[part].tolist(), values[part], strict=True)) == head | heard
    every = np.array([-1, 0, 1, *ROWS, NUM_ROWS], np.int32)
    requests = np.repeat(np.arange(len(asked)), len(every))
    found = scores_of_rows(
        firsts, slots, scores, np.tile(every, len(asked)), requests, num_watches, OF_A_WATCH
    )
    unheard = [OF_A_WATCH * num_watches[row] if 2 <= row < NUM_ROWS else 0.0 for row in every]
    assert found.tolist() == [
        heard.get(int(row), popularity)
        for heard in wanted
        for row, popularity in zip(every, unheard, strict=True)
    ]


@given(st.lists(st.lists(rows | st.integers(-1, 1), min_size=9, max_size=9), max_size=3), st.data())
def test_a_union_holds_each_row_once_where_it_first_stands(
    lines: list[list[int]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(9)))
    owners = data.draw(st.lists(st.integers(0, 2), min_size=9, max_size=9))
    listed = np.array(lines, np.int32).reshape(-1, 9)
    found, nominated_by = united(listed, np.array(order), np.array(owners), 3)
    wanted = [list(dict.fromkeys(line[c] for c in order if line[c] >= 2)) for line in lines]
    longest = max(map(len, wanted), default=0)
    assert found.tolist() == [line + [-1] * (longest - len(line)) for line in wanted]
    for line, union, marks in zip(lines, wanted, nominated_by, strict=True):
        assert not marks[len(union) :].any()
        for row, told in zip(union, marks, strict=False):
            by = {owner for named, owner in zip(line, owners, strict=True) if named == row}
            assert set(np.flatnonzero(told)) == by
