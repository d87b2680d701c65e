"""A series as it is drawn on a plane: a curve, dots, steps or columns, with whiskers."""

from collections.abc import Sequence

from markupsafe import Markup

from upnext.pictures.numbers import is_number
from upnext.pictures.plane import BOTTOM, Plane, least_gap
from upnext.pictures.series import Point, Series
from upnext.pictures.svg import element

TITLED_POINTS = 120
"""Points that tell their numbers when pointed at; of longer series the table does."""
COLUMN_AT_MOST = 24.0
Place = tuple[float, float, Point]
"""Where a point is drawn."""


def draw_series(plane: Plane, one: Series, tone: str) -> Markup:
    """All of one series; points without a place, such as 0 on a logarithmic axis, are left out."""
    runs = _runs(plane, one)
    places = [place for run in runs for place in run]
    parts = [_whisker(plane, point) for point in one.points]
    if one.style == "columns":
        parts += _columns(plane, one, places, tone)
        return element("g", *parts)
    if one.style != "dots" and places:
        dashed = " dashed" if one.style == "dashed" else ""
        path = "".join(_path(run, in_steps=one.style == "steps") for run in runs)
        parts.append(element("path", d=path, class_=f"curve {tone}{dashed}"))
    if "dots" in one.style:
        parts += [_dot(plane, one, place, f"dot {tone}", 3.5) for place in places]
    else:
        parts += [_dot(plane, one, run[0], f"dot {tone}", 3.0) for run in runs if len(run) == 1]
        if len(places) <= TITLED_POINTS:
            parts += [_dot(plane, one, place, f"dot unseen-dot {tone}", 6.0) for place in places]
    return element("g", *parts)


def _runs(plane: Plane, one: Series) -> list[list[Place]]:
    """Neighbours without a gap between them."""
    runs: list[list[Place]] = [[]]
    for point in one.points:
        if is_number(point.y) and plane.up.holds(point.y) and plane.across.holds(point.x):
            runs[-1].append((plane.across(point.x), plane.up(point.y), point))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _whisker(plane: Plane, point: Point) -> Markup:
    low, high = point.low, point.high
    if not (is_number(low) and is_number(high) and plane.across.holds(point.x)):
        return Markup("")
    at = plane.across(point.x)
    return element("line", x1=at, x2=at, y1=plane.up(low), y2=plane.up(high), class_="whisker")


def _dot(plane: Plane, one: Series, place: Place, kind: str, radius: float) -> Markup:
    x, y, point = place
    title = element("title", _told(plane, one, point))
    return element("circle", title, cx=x, cy=y, r=radius, class_=kind)


def _told(plane: Plane, one: Series, point: Point) -> str:
    where = plane.x.text(point.x) if point.name is None else point.name
    return f"{one.name} · {where}: {plane.y.with_interval(point.y, point.low, point.high)}"


def _path(run: Sequence[Place], *, in_steps: bool) -> str:
    parts, last = [], 0.0
    for number, (x, y, _) in enumerate(run):
        if number and in_steps:
            parts.append(f"L{x:.1f} {last:.1f}")
        parts.append(f"{'L' if number else 'M'}{x:.1f} {y:.1f}")
        last = y
    return "".join(parts)


def _columns(plane: Plane, one: Series, places: Sequence[Place], tone: str) -> list[Markup]:
    gap = least_gap([x for x, _, _ in places])
    width = COLUMN_AT_MOST if gap is None else max(1.0, 0.8 * gap)
    base = plane.up(0.0) if plane.up.kind == "linear" else BOTTOM
    return [
        element(
            "rect",
            element("title", _told(plane, one, point)),
            x=x - width / 2,
            y=min(y, base),
            width=width,
            height=max(0.5, abs(base - y)),
            class_=f"bar {tone}",
        )
        for x, y, point in places
    ]
