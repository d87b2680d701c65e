"""The plane between two axes: where values are on it, its axes, and lines across it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from upnext.pictures.lettering import cut, width_of
from upnext.pictures.numbers import is_number
from upnext.pictures.picture import WIDTH
from upnext.pictures.scales import Scale, Ticks, scale_over
from upnext.pictures.series import Axis, Mark, Series
from upnext.pictures.svg import element, together

HEIGHT = 240.0
TOP, RIGHT, BOTTOM = 24.0, WIDTH - 12.0, 240.0 - 40.0
LEFT_AT_MOST = 110.0
LINE = 14.0
"""Height of a line of text."""
NAME_AT_MOST = 130.0
"""Room for the name of a mark."""
MARK_LINES = 4
"""Names of marks that would overlap stand on lines of their own, the same name once. Beyond so many
lines they are left out; the table has them all."""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Where values are. `across` and `up` map those of the axes `x` and `y`."""

    x: Axis
    y: Axis
    across: Scale
    up: Scale

    @property
    def left(self) -> float:
        """Where the axis of y stands."""
        return self.across.start


def plane_over(x: Axis, y: Axis, series: Sequence[Series], marks: Sequence[Mark]) -> Plane:
    """A plane that holds all series and marks, with room for what is written beside the axes."""
    xs = [one for each in series for one in each.x if is_number(one)]
    xs += [mark.x for mark in marks if is_number(mark.x)]
    ys = [v for each in series for p in each.points for v in (p.y, p.low, p.high) if is_number(v)]
    ys += [mark.y for mark in marks if is_number(mark.y)]
    low = y.low
    if any(each.style == "columns" for each in series):
        xs += _ends_of_columns(series)
        low = 0.0 if low is None and y.kind == "linear" else low
    up = scale_over(ys, y.kind, BOTTOM, TOP, low=low, high=y.high)
    labels = max((width_of(text) for _, text in _ticks(y, up, 4)), default=0.0)
    left = min(LEFT_AT_MOST, labels + 12)
    across = scale_over(xs, x.kind, left, RIGHT, low=x.low, high=x.high, margin=0.02)
    return Plane(x=x, y=y, across=across, up=up)


def least_gap(values: Sequence[float]) -> float | None:
    """Between two neighbours; None of less than two different values."""
    gaps = [right - left for left, right in pairwise(sorted(set(values)))]
    return min(gaps, default=None)


def _ends_of_columns(series: Sequence[Series]) -> list[float]:
    xs = [one for each in series if each.style == "columns" for one in each.x if is_number(one)]
    half = (least_gap(xs) or 0.0) / 2
    return [end for one in (min(xs), max(xs)) for end in (one - half, one + half)] if xs else []


def axes(plane: Plane) -> Markup:
    """Both axes with their names, their round values and faint lines level with those of y."""
    parts = []
    for value, text in _ticks(plane.y, plane.up, 4):
        at = plane.up(value)
        parts.append(element("line", x1=plane.left, x2=RIGHT, y1=at, y2=at, class_="grid"))
        label = cut(text, plane.left - 8)
        parts.append(element("text", label, x=plane.left - 6, y=at + 4, class_="tick end"))
    for value, text in _apart(plane.x, plane.across):
        at, middle = plane.across(value), _middle(plane.across, value, text)
        parts.append(element("line", x1=at, x2=at, y1=BOTTOM, y2=BOTTOM + 4, class_="axis"))
        parts.append(element("text", text, x=middle, y=BOTTOM + 17, class_="tick middle"))
    parts.append(element("line", x1=plane.left, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis"))
    for axis, y, place in ((plane.x, HEIGHT - 7, "end"), (plane.y, 11.0, "start")):
        name = cut(axis.name, RIGHT - 4)
        at = RIGHT if place == "end" else 4.0
        parts.append(element("text", name, x=at, y=y, class_=f"axis-name {place}"))
    return together(*parts)


def _ticks(axis: Axis, scale: Scale, num_wanted: int) -> Ticks:
    ticks = scale.ticks(num_wanted)
    if axis.is_whole:
        ticks = [(value, f"{value:,.0f}") for value, _ in ticks if float(value).is_integer()]
    if axis.tell is None:
        return ticks
    told = [(value, axis.tell(value)) for value, _ in ticks]
    tells_apart = len({text for _, text in told}) == len(told)
    return told if tells_apart else ticks


def _apart(axis: Axis, across: Scale) -> Ticks:
    """The round values of an axis whose texts do not touch."""
    for num_wanted in (6, 5, 4, 3, 2, 1):
        ticks = _ticks(axis, across, num_wanted)
        places = [(_middle(across, value, text), width_of(text) / 2) for value, text in ticks]
        if all(b - a > left + right + 8 for (a, left), (b, right) in pairwise(places)):
            return ticks
    return ticks[:1]


def _middle(across: Scale, value: float, text: str) -> float:
    """Of a text that stands below its value, or as near as the paper allows."""
    half = width_of(text) / 2
    return min(max(across(value), half), WIDTH - half)


def draw_marks(plane: Plane, marks: Sequence[Mark]) -> Markup:
    """Lines across with their names; those of upright lines one below the other where needed."""
    parts = [_diagonal(plane, mark.name) for mark in marks if mark.is_diagonal]
    rest = [mark for mark in marks if not mark.is_diagonal]
    parts += [_level(plane, mark.name, mark.y) for mark in rest if is_number(mark.y)]
    ends, ends_by_name = [-1.0] * MARK_LINES, dict[str, float]()
    upright = [(mark.x, mark.name) for mark in rest if is_number(mark.x)]
    for x, name in sorted(upright):
        at, said = plane.across(x), cut(name, NAME_AT_MOST)
        room = width_of(said)
        parts.append(element("line", x1=at, x2=at, y1=TOP, y2=BOTTOM, class_="mark"))
        start = at + 4 if at + 4 + room < WIDTH else at - 4 - room
        free = next((line for line, end in enumerate(ends) if end < start), None)
        is_there = ends_by_name.get(name, -1.0) > start
        if free is not None and start > plane.left and not is_there:
            ends_by_name[name] = ends[free] = start + room + 6
            parts.append(_named(said, start, TOP + 10 + LINE * free))
    return together(*parts)


def _diagonal(plane: Plane, name: str) -> Markup:
    low = max(plane.across.low, plane.up.low)
    high = max(low, min(plane.across.high, plane.up.high))
    ends = {"x1": plane.across(low), "y1": plane.up(low)}
    ends |= {"x2": plane.across(high), "y2": plane.up(high)}
    beside = low + 0.66 * (high - low)
    said = cut(name, NAME_AT_MOST)
    start = min(plane.across(beside) + 8, WIDTH - width_of(said))
    text = _named(said, start, max(LINE, plane.up(beside) + 8))
    return together(element("line", class_="mark", **ends), text)


def _level(plane: Plane, name: str, y: float) -> Markup:
    at, text = plane.up(y), cut(name, NAME_AT_MOST)
    line = element("line", x1=plane.left, x2=RIGHT, y1=at, y2=at, class_="mark")
    return together(line, _named(text, RIGHT - 2 - width_of(text), max(LINE, at - 4)))


def _named(name: str, x: float, y: float) -> Markup:
    return element("text", name, x=x, y=y, class_="mark-name")
