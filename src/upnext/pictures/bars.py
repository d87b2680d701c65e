"""Bars that lie, the first on top, each with its whisker and its number."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from upnext.pictures.lettering import cut, in_lines, width_of
from upnext.pictures.numbers import Tell, interval, is_number, short
from upnext.pictures.picture import WIDTH, Picture, Table, drawing
from upnext.pictures.scales import Scale
from upnext.pictures.svg import element

ROW, TALL_ROW, TOP, BOTTOM = 26.0, 32.0, 4.0, 8.0
LINE = 13.0
NAMES_AT_MOST = 165.0
BESIDE_AT_MOST = 190.0
"""Room for a bar's number and note."""
NOTHING = "not measured"


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


@dataclass(frozen=True)
class _Paper:
    """Where bars are drawn and how their numbers are written.

    `names`: room for those; `row`: height of a bar and what is between it and the next.
    """

    names: float
    row: float
    scale: Scale
    tell: Tell


def bar_picture(
    title: str,
    about: str,
    *,
    bars: Sequence[Bar],
    quantity: str,
    of: str = "of",
    tell: Tell = short,
) -> Picture:
    """Draws bars from 0, to the left where they are below.

    `quantity` and `of` name the table's columns: of the bars, and of the lighter ones behind them.
    """
    longest = max((width_of(bar.name) for bar in bars), default=0.0) + 12
    row = ROW if longest <= NAMES_AT_MOST else TALL_ROW
    names = min(NAMES_AT_MOST, longest)
    paper = _Paper(names, row, _scale(bars, names, tell), tell)
    height = TOP + row * max(1, len(bars)) + BOTTOM
    parts = [_bar(bar, TOP + row * place, paper) for place, bar in enumerate(bars)]
    at = paper.scale(0.0)
    parts.append(element("line", x1=at, x2=at, y1=TOP, y2=height - BOTTOM, class_="axis"))
    if not bars:
        parts = [element("text", NOTHING, x=WIDTH / 2, y=TOP + ROW / 2, class_="quiet middle")]
    return Picture(
        title=title,
        about=about,
        svg=drawing(title, height, *parts),
        table=_table(bars, quantity, of, tell),
    )


def _scale(bars: Sequence[Bar], start: float, tell: Tell) -> Scale:
    ends = [v for bar in bars for v in (bar.value, bar.low, bar.high, bar.of) if is_number(v)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    texts = [sum(map(width_of, _beside(bar, tell))) for bar in bars]
    beside = min(BESIDE_AT_MOST, max(texts, default=0.0) + 10)
    return Scale("linear", low, high if high > low else low + 1.0, start, WIDTH - beside)


def _bar(bar: Bar, top: float, paper: _Paper) -> Markup:
    middle, thick, scale = top + paper.row / 2, ROW * 0.62, paper.scale
    lines = in_lines(bar.name, paper.names - 12)
    first = middle + 4 - LINE / 2 * (len(lines) - 1)
    parts = [element("title", f"{bar.name}: {_told(bar, paper.tell)}")]
    for place, line in enumerate(lines):
        at = {"x": paper.names - 8, "y": first + LINE * place}
        parts.append(element("text", line, class_="name end", **at))
    if is_number(bar.of):
        parts.append(_rect(scale, bar.of, middle, thick, "bar behind"))
    if is_number(bar.value):
        parts.append(_rect(scale, bar.value, middle, thick, f"bar {bar.tone}"))
    if is_number(bar.low) and is_number(bar.high):
        ends = {"x1": scale(bar.low), "x2": scale(bar.high), "y1": middle, "y2": middle}
        parts.append(element("line", class_="whisker", **ends))
    drawn = [v for v in (0.0, bar.of, bar.value, bar.high) if is_number(v)]
    number, note = _beside(bar, paper.tell)
    quiet = element("tspan", note, class_="quiet") if note else ""
    kind = "number" if is_number(bar.value) else "number quiet"
    end = max(map(scale, drawn)) + 6
    parts.append(element("text", number, quiet, x=end, y=middle + 4, class_=kind))
    return element("g", *parts)


def _beside(bar: Bar, tell: Tell) -> tuple[str, str]:
    """The number and the note that stand beside a bar."""
    number = tell(bar.value) if is_number(bar.value) else NOTHING
    room = BESIDE_AT_MOST - 10 - width_of(number)
    return number, cut(f" {bar.note}", room) if bar.note else ""


def _rect(scale: Scale, value: float, middle: float, thick: float, kind: str) -> Markup:
    left, right = sorted((scale(0.0), scale(value)))
    place = {"x": left, "y": middle - thick / 2, "width": right - left, "height": thick}
    return element("rect", class_=kind, **place)


def _told(bar: Bar, tell: Tell) -> str:
    return interval(bar.value, bar.low, bar.high, tell=tell) if is_number(bar.value) else NOTHING


def _table(bars: Sequence[Bar], quantity: str, of: str, tell: Tell) -> Table:
    has_of, has_notes = any(is_number(bar.of) for bar in bars), any(bar.note for bar in bars)
    return Table(
        header=["", quantity, *([of] if has_of else []), *(["note"] if has_notes else [])],
        rows=[
            [
                bar.name,
                _told(bar, tell),
                *([tell(bar.of)] if has_of else []),
                *([bar.note] if has_notes else []),
            ]
            for bar in bars
        ],
    )
