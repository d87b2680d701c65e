"""Bars and curves of whatever numbers and names come: inside the paper, and all in the table."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from upnext.pictures import Axis, Bar, Mark, Picture, Series, bar_picture, xy_picture
from upnext.pictures.lettering import width_of
from upnext.pictures.numbers import percent
from upnext.pictures.scales import Kind
from upnext.pictures.series import Style

Law = Callable[[Picture], None]

NUMBERS = st.none() | st.just(float("nan")) | st.just(float("inf")) | st.floats(-1e9, 1e9)
TEXTS = st.text(max_size=60) | st.just("<script>alert(1)</script>") | st.just('視聴回数 & "more"')
BARS = st.builds(
    Bar,
    name=TEXTS,
    value=NUMBERS,
    low=NUMBERS,
    high=NUMBERS,
    of=NUMBERS,
    note=TEXTS,
    tone=st.sampled_from(["model", "baseline", "bad"]),
)
STYLES = st.sampled_from(get_args(Style))


@st.composite
def series(draw: st.DrawFn, moments: bool) -> Series:
    xs = st.integers(-(10**12), 10**13) if moments else st.integers(0, 6) | st.floats(-1e6, 1e6)
    x = sorted(draw(st.lists(xs, max_size=5, unique=True)))
    whiskers = st.lists(NUMBERS, min_size=len(x), max_size=len(x))
    has_whiskers = draw(st.booleans())
    style: Style = draw(STYLES)
    return Series(
        name=draw(TEXTS),
        x=x,
        y=draw(whiskers),
        low=draw(whiskers) if has_whiskers else (),
        high=draw(whiskers) if has_whiskers else (),
        style=style,
    )


@settings(max_examples=60)
@given(bars=st.lists(BARS, max_size=6), title=TEXTS.filter(str.strip))
@example(bars=[], title="nothing")
def test_bars(holds_laws: Law, bars: list[Bar], title: str) -> None:
    holds_laws(bar_picture(f"t {title}", "about", bars=bars, quantity="metric", tell=percent))


@settings(max_examples=60)
@given(
    data=st.data(),
    x_kind=st.sampled_from(["linear", "time", "log"]),
    y_kind=st.sampled_from(["linear", "log"]),
    is_whole=st.booleans(),
    text=TEXTS,
)
def test_curves(
    holds_laws: Law, data: st.DataObject, x_kind: Kind, y_kind: Kind, is_whole: bool, text: str
) -> None:
    lines = data.draw(st.lists(series(x_kind == "time"), max_size=2))
    marks = [Mark(name=text, x=one.x[0]) for one in lines if one.x]
    picture = xy_picture(
        f"t {text}",
        text,
        x=Axis(name=text, kind=x_kind, is_whole=is_whole),
        y=Axis(name="y", kind=y_kind, is_whole=is_whole),
        series=lines,
        marks=[*marks, Mark(name=text, y=3.0), Mark(name=text, is_diagonal=True)],
    )
    holds_laws(picture)


@given(
    low=st.floats(-1e7, 1e7), span=st.floats(1e-4, 1e7), kind=st.sampled_from(["linear", "time"])
)
@example(low=1_767_571_215_081.0, span=30 * 86_400_000.0, kind="time")
def test_texts_beside_the_axis_do_not_touch(low: float, span: float, kind: Kind) -> None:
    line = Series(name="s", x=[low, low + span], y=[0.0, 1.0])
    picture = xy_picture("t", "", x=Axis(name="x", kind=kind), y=Axis(name="y"), series=[line])
    labels = [
        (float(one.attrib["x"]), width_of(one.text or "") / 2)
        for one in ET.fromstring(picture.svg).iter("text")
        if one.attrib["class"] == "tick middle"
    ]
    assert all(b - a >= left + right for (a, left), (b, right) in pairwise(labels))


@pytest.mark.parametrize("values", [[], [None], [float("nan"), None]])
def test_without_a_number_it_says_so(holds_laws: Law, values: list[float | None]) -> None:
    line = Series(name="s", x=list(range(len(values))), y=values)
    picture = xy_picture("t", "", x=Axis(name="x"), y=Axis(name="y"), series=[line])
    holds_laws(picture)
    assert "not measured" in picture.svg
    bars = bar_picture("t", "", bars=[Bar(name="a", value=v) for v in values], quantity="q")
    holds_laws(bars)
    assert "not measured" in bars.svg


def test_one_point_alone_is_seen(holds_laws: Law) -> None:
    line = Series(name="s", x=[1.0, 2.0, 3.0], y=[1.0, None, 2.0])
    picture = xy_picture("t", "", x=Axis(name="x"), y=Axis(name="y"), series=[line])
    holds_laws(picture)
    dots = list(ET.fromstring(picture.svg).iter("circle"))
    assert len([dot for dot in dots if dot.attrib["class"] == "dot tone-0"]) == 2


def test_a_gap_is_not_bridged() -> None:
    line = Series(name="s", x=[1.0, 2.0, 3.0, 4.0, 5.0], y=[1.0, 2.0, None, 2.0, 1.0])
    picture = xy_picture("t", "", x=Axis(name="x"), y=Axis(name="y"), series=[line])
    path = ET.fromstring(picture.svg).find(".//path")
    assert path is not None
    assert path.attrib["d"].count("M") == 2


def test_zeros_on_a_logarithmic_axis_stand_in_the_table_alone(holds_laws: Law) -> None:
    line = Series(name="s", x=[0.0, 1.0, 10.0], y=[5.0, 0.0, 100.0], style="dots")
    x, y = Axis(name="x", kind="log"), Axis(name="y", kind="log")
    picture = xy_picture("t", "", x=x, y=y, series=[line])
    holds_laws(picture)
    assert picture.svg.count("<circle") == 1
    assert [row[1] for row in picture.table.rows] == ["5", "0", "100"]


def test_days_are_told_as_days_and_marks_stand_in_the_table(holds_laws: Law) -> None:
    days = [86_400_000 * day for day in range(3)]
    line = Series(name="rows", x=days, y=[1, 2, 3], style="columns")
    picture = xy_picture(
        "t",
        "",
        x=Axis(name="day", kind="time"),
        y=Axis(name="rows", is_whole=True),
        series=[line],
        marks=[Mark(name="published", x=days[1])],
    )
    holds_laws(picture)
    assert picture.table.header == ["day", "rows", "mark"]
    assert picture.table.rows[1] == ["1970-01-02", "2", "published"]


def test_a_name_that_would_stand_upon_itself_is_said_once() -> None:
    line = Series(name="s", x=[0.0, 1000.0], y=[0.0, 1.0])
    marks = [Mark(name="resumed", x=x) for x in (400.0, 402.0, 404.0, 800.0)]
    x, y = Axis(name="x"), Axis(name="y")
    picture = xy_picture("t", "", x=x, y=y, series=[line], marks=marks)
    assert picture.svg.count(">resumed<") == 2
    assert picture.svg.count('class="mark"') == 4
