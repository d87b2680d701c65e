"""Every point has one colour, and the legend tells of what they are."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.console.colouring import COLOURS, NUM_STEPS, NUM_TONES, Colour, colouring

NAMES = st.none() | st.integers(0, 15) | st.sampled_from("abcdefghijkl")
POINT = st.fixed_dictionaries(
    {
        "channel_id": NAMES,
        "tag": NAMES,
        "published_at_ms": st.none() | st.integers(0, 4_000_000_000_000),
        "num_watches": st.integers(0, 40) | st.integers(0, 10**9),
    }
)


def told(points: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = ("channel_id", "tag", "published_at_ms", "num_watches")
    return {name: [point[name] for point in points] for name in names}


@pytest.mark.parametrize("colour", COLOURS)
@given(points=st.lists(POINT))
def test_the_legend_counts_every_point_once(points: list[dict[str, Any]], colour: Colour) -> None:
    made = colouring(told(points), colour)
    assert len(made.group_of) == len(points)
    counted = [made.group_of.count(place) for place in range(len(made.groups))]
    assert [group.num_points for group in made.groups] == counted
    assert 0 not in counted
    assert len({group.style for group in made.groups}) == len(made.groups)


@given(points=st.lists(POINT, min_size=1))
def test_the_most_frequent_channels_have_a_tone_each(points: list[dict[str, Any]]) -> None:
    columns = told(points)
    made = colouring(columns, "channel")
    num_of = {value: columns["channel_id"].count(value) for value in columns["channel_id"]}
    num_of.pop(None, None)
    toned = [group for group in made.groups if group.style.startswith("tone-")]
    assert [group.num_points for group in toned] == sorted(num_of.values())[::-1][:NUM_TONES]
    kinds = {"others": set[Any](), "nothing": set[Any]()}
    for place, value in zip(made.group_of, columns["channel_id"], strict=True):
        if made.groups[place].style in kinds:
            kinds[made.groups[place].style].add(value)
    assert kinds["nothing"] <= {None}
    assert len(kinds["others"]) == max(0, len(num_of) - NUM_TONES)


@given(values=st.lists(st.integers(0, 30) | st.integers(0, 10**9), min_size=1))
def test_steps_are_in_order_and_equal_values_in_one(values: list[int]) -> None:
    made = colouring({"num_watches": values}, "popularity")
    steps = [int(group.style.removeprefix("step-")) for group in made.groups]
    assert all(a < b for a, b in pairwise(steps))
    assert set(steps) <= set(range(NUM_STEPS))
    pairs = sorted(zip(values, made.group_of, strict=True))
    assert all(a[1] <= b[1] and (a[0] < b[0] or a[1] == b[1]) for a, b in pairwise(pairs))


def test_as_many_points_are_in_each_step() -> None:
    made = colouring({"num_watches": list(range(700))}, "popularity")
    assert [group.num_points for group in made.groups] == [100] * NUM_STEPS
    assert [group.name for group in made.groups][:2] == ["0 to 99", "100 to 199"]


def test_names_are_as_people_read_them() -> None:
    columns = {
        "channel_id": [7, 7, None, *"abcdefghi"],
        "published_at_ms": [0, 1, None, 86_400_000],
    }
    names = [group.name for group in colouring(columns, "channel").groups]
    assert names == ["7", *"abcdefg", "2 other channels", "no channel"]
    ages = [group.name for group in colouring(columns, "age").groups]
    assert ages == ["1970-01-01", "1970-01-01", "1970-01-02", "not known"]
