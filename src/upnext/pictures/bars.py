"""Bars that lie, the first on top, each with its whisker and its number."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from upnext.pictures.numbers import interval, is_number, short
from upnext.pictures.picture import WIDTH, Picture, Table, drawing
from upnext.pictures.scales import Scale
from upnext.pictures.svg import element
from upnext.pictures.xy import Tell

ROW, TOP, BOTTOM = 26.0, 4.0, 8.0
CHARACTER = 6.6
"""Width of a letter of the names, more or less."""
NAMES_AT_MOST = 170.0
NUMBER_ROOM = 62.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar. `of`: a lighter bar behind it, such as what there was before; `note`: said beside.

    `tone`: a class: "model", "baseline" or another of `pictures.css`.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    of: float | None = None
    note: str = ""
    tone: str = "model"


def bar_picture(
    title: str, about: str, *, bars: Sequence[Bar], quantity: str, tell: Tell = short
) -> Picture:
    """Draws bars from 0, to the left where they are below; `quantity` names the table's column."""
    height = TOP + ROW * len(bars) + BOTTOM
    names = min(NAMES_AT_MOST, max((len(bar.name) for bar in bars), default=0) * CHARACTER + 10)
    scale = _scale(bars, names)
    parts = [_bar(bar, TOP + ROW * place, names, scale, tell) for place, bar in enumerate(bars)]
    at = scale(0.0)
    parts.append(element("line", x1=at, x2=at, y1=TOP, y2=height - BOTTOM, class_="axis"))
    return Picture(
        title=title,
        about=about,
        svg=drawing(title, height, *parts),
        table=_table(bars, quantity, tell),
    )


def _scale(bars: Sequence[Bar], start: float) -> Scale:
    ends = [v for bar in bars for v in (bar.value, bar.low, bar.high, bar.of) if is_number(v)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    notes = max((len(bar.note) for bar in bars), default=0) * CHARACTER
    room = WIDTH - NUMBER_ROOM - min(notes, 120.0)
    return Scale("linear", low, high if high > low else low + 1.0, start, room)


def _bar(bar: Bar, top: float, names: float, scale: Scale, tell: Tell) -> Markup:
    middle, thick = top + ROW / 2, ROW * 0.62
    parts = [element("text", _cut(bar.name), element("title", bar.name), **_at(names - 8, middle))]
    end = scale(0.0)
    if bar.of is not None:
        parts.append(_rect(scale, bar.of, middle, thick, "bar behind"))
        end = max(end, scale(bar.of))
    if is_number(bar.value):
        parts.append(_rect(scale, bar.value, middle, thick, f"bar {bar.tone}"))
        end = max(end, scale(bar.value))
    if is_number(bar.low) and is_number(bar.high):
        ends = {"x1": scale(bar.low), "x2": scale(bar.high), "y1": middle, "y2": middle}
        parts.append(element("line", class_="whisker", **ends))
        end = max(end, scale(bar.high))
    text = tell(bar.value) if is_number(bar.value) else "not measured"
    note = element("tspan", f" {bar.note}", class_="quiet") if bar.note else ""
    parts.append(element("text", text, note, x=end + 6, y=middle + 4, class_="number"))
    title = element("title", f"{bar.name}: {_told(bar, tell)}")
    return element("g", title, *parts)


def _rect(scale: Scale, value: float, middle: float, thick: float, kind: str) -> Markup:
    ends = sorted((scale(0.0), scale(value)))
    return element(
        "rect",
        x=ends[0],
        y=middle - thick / 2,
        width=ends[1] - ends[0],
        height=thick,
        class_=kind,
    )


def _at(x: float, y: float) -> dict[str, str | float]:
    return {"x": x, "y": y + 4, "class_": "name end"}


def _cut(name: str) -> str:
    most = int((NAMES_AT_MOST - 10) / CHARACTER)
    return name if len(name) <= most else name[: most - 1] + "…"


def _told(bar: Bar, tell: Tell) -> str:
    if bar.low is None or bar.high is None:
        return tell(bar.value)
    return interval(bar.value, bar.low, bar.high)


def _table(bars: Sequence[Bar], quantity: str, tell: Tell) -> Table:
    has_notes = any(bar.note for bar in bars)
    return Table(
        header=["", quantity, *(["note"] if has_notes else [])],
        rows=[[bar.name, _told(bar, tell), *([bar.note] if has_notes else [])] for bar in bars],
    )
