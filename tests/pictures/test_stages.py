"""Slow requests as bars: their parts are their time, whatever a server tells of it."""

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.pictures.numbers import milliseconds
from upnext.pictures.picture import WIDTH
from upnext.pictures.stages import MAX_BARS, REST, parts_ms, stages_picture

TIMES = st.dictionaries(
    st.sampled_from(["past", "user_vector", "candidates", "ranking", "<page>"]),
    st.floats(0.0, 1e4),
)


def request(timings_ms: dict[str, float], took_ms: float, **fields: Any) -> dict[str, Any]:
    return {
        "request_id": "r1",
        "at_ms": 1_795_619_337_000,
        "release": "2",
        "label": "stable",
        "took_ms": took_ms,
        "timings_ms": timings_ms,
        "degraded": [],
        "k": 10,
        "num_candidates": 300,
        "process": 4_711,
        **fields,
    }


def told(*slow: dict[str, Any]) -> dict[str, Any]:
    return {"window_s": 600.0, "num_seen": 1_234, "slow": list(slow)}


@given(timings=TIMES, rest=st.floats(0.0, 1e4))
def test_parts_add_up_to_the_whole(timings: dict[str, float], rest: float) -> None:
    took_ms = sum(timings.values()) + rest
    one = request({**timings, "total": 1.0, "served": took_ms}, took_ms)
    parts = parts_ms(one, [*timings, REST])
    assert sum(parts) == pytest.approx(took_ms)
    assert parts[-1] == pytest.approx(rest, abs=1e-6)


@given(slow=st.lists(TIMES, min_size=1, max_size=30))
def test_every_request_has_a_row_and_the_slowest_have_bars(slow: list[dict[str, float]]) -> None:
    picture = stages_picture(told(*(request(one, 1.0 + sum(one.values())) for one in slow)))
    assert picture is not None
    drawn = ElementTree.fromstring(picture.svg)
    assert len(drawn.findall("g")) == min(len(slow), MAX_BARS)
    assert len(picture.table.rows) == len(slow)
    for group in drawn.findall("g"):
        ends = [float(r.get("x", 0)) + float(r.get("width", 0)) for r in group.findall("rect")]
        assert ends == pytest.approx(sorted(ends), abs=0.1)
        assert ends[-1] <= WIDTH


def test_what_is_amiss_is_marked_and_told() -> None:
    late = request({"past": 1.0}, 9.0, degraded=["<ranking> late"], label=None)
    picture = stages_picture(told(late, request({"past": 1.0}, 3.0)))
    assert picture is not None
    assert f"{milliseconds(9.0)} *" in picture.svg
    assert f"{milliseconds(3.0)} *" not in picture.svg
    assert "table says why" in picture.about
    assert "<ranking> late" in picture.table.rows[0]
    assert "no label" in picture.svg


def test_whole_answers_are_not_said_to_be_less() -> None:
    picture = stages_picture(told(request({"total": 2.0}, 3.0)))
    assert picture is not None
    assert "*" not in picture.about
    assert [name for _, name in picture.legend] == [REST]


def test_of_nothing_there_is_no_picture() -> None:
    assert stages_picture(told()) is None
