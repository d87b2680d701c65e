"""Curves, dots, steps and columns over two axes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from markupsafe import Markup

from upnext.pictures.numbers import day, interval, is_number, short, when
from upnext.pictures.picture import WIDTH, Picture, Table, drawing
from upnext.pictures.scales import Kind, Scale, scale_over
from upnext.pictures.svg import element, together

HEIGHT = 240.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 12.0, 40.0
TITLED_POINTS = 120
"""Points that tell their numbers when pointed at; of longer series the table does."""
Style = Literal["line", "dashed", "dots", "line and dots", "steps", "columns"]
Tell = Callable[[float | None], str]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What is measured, with its unit. `low` and `high` are bounds to keep; None fits the values.

    `tell`: how a value is written in the table.
    """

    name: str
    kind: Kind = "linear"
    low: float | None = None
    high: float | None = None
    tell: Tell | None = None

    def text(self, value: float | None) -> str:
        """A value as it stands in the table."""
        if self.tell is not None:
            return self.tell(value)
        if self.kind == "time":
            return when(value)
        return short(value)


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points from left to right; a y of None or nan leaves a gap.

    `low`, `high`: whiskers of each point, None for none. `tone`: a class; otherwise by its number.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    style: Style = "line"
    tone: str | None = None

    @property
    def has_whiskers(self) -> bool:
        """Whether points have intervals."""
        return bool(self.low)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A line across: upright at `x`, level at `y`, or with both the diagonal y = x."""

    name: str
    x: float | None = None
    y: float | None = None
    is_diagonal: bool = False


def xy_picture(
    title: str,
    about: str,
    *,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    marks: Sequence[Mark] = (),
) -> Picture:
    """Draws series over common axes; its table has a line for each x that any of them has."""
    named = [(one.tone or f"tone-{place % 8}", one) for place, one in enumerate(series)]
    x_scale, y_scale = _scales(x, y, series, marks)
    parts = [
        _axes(x, y, x_scale, y_scale),
        *(_mark(mark, x_scale, y_scale) for mark in marks),
        *(_draw(one, tone, x, y, x_scale, y_scale) for tone, one in named),
    ]
    return Picture(
        title=title,
        about=about,
        svg=drawing(title, HEIGHT, *parts),
        table=_table(x, y, series),
        legend=[(tone, one.name) for tone, one in named] if len(series) > 1 else (),
    )


def _scales(
    x: Axis, y: Axis, series: Sequence[Series], marks: Sequence[Mark]
) -> tuple[Scale, Scale]:
    xs = [value for one in series for value in one.x]
    xs += [mark.x for mark in marks if mark.x is not None]
    ys = [v for one in series for part in (one.y, one.low, one.high) for v in part if is_number(v)]
    ys += [mark.y for mark in marks if mark.y is not None]
    low = y.low
    if low is None and y.kind == "linear" and any(one.style == "columns" for one in series):
        low = 0.0
    across = scale_over(xs, x.kind, LEFT, WIDTH - RIGHT, low=x.low, high=x.high, margin=0.02)
    up = scale_over(ys, y.kind, HEIGHT - BOTTOM, TOP, low=low, high=y.high)
    return across, up


def _axes(x: Axis, y: Axis, x_scale: Scale, y_scale: Scale) -> Markup:
    base, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value, text in y_scale.ticks(4):
        at = y_scale(value)
        parts.append(element("line", x1=LEFT, x2=right, y1=at, y2=at, class_="grid"))
        parts.append(element("text", text, x=LEFT - 6, y=at + 4, class_="tick end"))
    for value, text in x_scale.ticks(5):
        at = x_scale(value)
        parts.append(element("line", x1=at, x2=at, y1=base, y2=base + 4, class_="axis"))
        parts.append(element("text", text, x=at, y=base + 16, class_="tick middle"))
    parts.append(element("line", x1=LEFT, x2=right, y1=base, y2=base, class_="axis"))
    parts.append(element("text", x.name, x=right, y=HEIGHT - 6, class_="axis-name end"))
    parts.append(element("text", y.name, x=LEFT, y=TOP - 3, class_="axis-name"))
    return together(*parts)


def _mark(mark: Mark, x_scale: Scale, y_scale: Scale) -> Markup:
    if mark.is_diagonal:
        low = max(x_scale.low, y_scale.low)
        high = min(x_scale.high, y_scale.high)
        ends = {"x1": x_scale(low), "y1": y_scale(low), "x2": x_scale(high), "y2": y_scale(high)}
        at = (x_scale(high) - 4, y_scale(high) + 12, "end")
    elif mark.x is not None:
        ends = {"x1": x_scale(mark.x), "x2": x_scale(mark.x), "y1": TOP, "y2": HEIGHT - BOTTOM}
        is_late = x_scale(mark.x) > WIDTH / 2
        at = (x_scale(mark.x) + (-4 if is_late else 4), TOP + 10, "end" if is_late else "start")
    else:
        level = y_scale(mark.y or 0.0)
        ends = {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": level, "y2": level}
        at = (WIDTH - RIGHT - 2, level - 4, "end")
    text = element("text", mark.name, x=at[0], y=at[1], class_=f"mark-name {at[2]}")
    return together(element("line", class_="mark", **ends), text)


def _draw(one: Series, tone: str, x: Axis, y: Axis, x_scale: Scale, y_scale: Scale) -> Markup:
    parts = []
    points = [
        (x_scale(a), y_scale(b), f"{one.name} · {x.text(a)}: {y.text(b)}")
        for a, b in zip(one.x, one.y, strict=True)
        if is_number(b) and (y.kind != "log" or b > 0)
    ]
    if one.has_whiskers:
        for a, low, high in zip(one.x, one.low, one.high, strict=True):
            if is_number(low) and is_number(high):
                at = x_scale(a)
                ends = {"x1": at, "x2": at, "y1": y_scale(low), "y2": y_scale(high)}
                parts.append(element("line", class_="whisker", **ends))
    if one.style == "columns":
        parts.append(_columns(points, tone, y_scale))
    else:
        if one.style != "dots":
            dashed = " dashed" if one.style == "dashed" else ""
            path = _path(one, x_scale, y_scale, y.kind)
            parts.append(element("path", d=path, class_=f"curve {tone}{dashed}"))
        has_dots = "dots" in one.style
        if has_dots or len(points) <= TITLED_POINTS:
            kind = f"dot {tone}" if has_dots else f"dot unseen-dot {tone}"
            for a, b, text in points:
                title = element("title", text)
                radius = 3.5 if has_dots else 6
                parts.append(element("circle", title, cx=a, cy=b, r=radius, class_=kind))
    return element("g", *parts)


def _columns(points: Sequence[tuple[float, float, str]], tone: str, y_scale: Scale) -> Markup:
    places = [a for a, _, _ in points]
    gaps = [b - a for a, b in pairwise(places) if b > a]
    width = max(1.0, 0.8 * min(gaps, default=24.0))
    base = y_scale(max(0.0, y_scale.low))
    return together(
        *(
            element(
                "rect",
                element("title", text),
                x=max(LEFT, a - width / 2),
                y=min(b, base),
                width=width,
                height=max(0.5, abs(base - b)),
                class_=f"bar {tone}",
            )
            for a, b, text in points
        )
    )


def _path(one: Series, x_scale: Scale, y_scale: Scale, kind: Kind) -> str:
    parts, pen_is_up, last = [], True, 0.0
    for a, b in zip(one.x, one.y, strict=True):
        if not is_number(b) or (kind == "log" and b <= 0):
            pen_is_up = True
            continue
        px, py = x_scale(a), y_scale(b)
        if not pen_is_up and one.style == "steps":
            parts.append(f"L{px:.1f} {last:.1f}")
        parts.append(f"{'M' if pen_is_up else 'L'}{px:.1f} {py:.1f}")
        pen_is_up, last = False, py
    return "".join(parts)


def _table(x: Axis, y: Axis, series: Sequence[Series]) -> Table:
    places = sorted({value for one in series for value in one.x})
    cells: list[dict[float, str]] = []
    for one in series:
        lows = one.low or [None] * len(one.x)
        highs = one.high or [None] * len(one.x)
        told = {}
        for a, b, low, high in zip(one.x, one.y, lows, highs, strict=True):
            told[a] = interval(b, low, high) if one.has_whiskers else y.text(b)
        cells.append(told)
    are_days = x.kind == "time" and all(value % 86_400_000 == 0 for value in places)
    names = [day(value) if are_days and x.tell is None else x.text(value) for value in places]
    return Table(
        header=[x.name, *(f"{one.name}, {y.name}" for one in series)],
        rows=[
            [name, *(told.get(value, "") for told in cells)]
            for name, value in zip(names, places, strict=True)
        ],
    )
