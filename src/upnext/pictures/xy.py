"""Series of points over two axes become a picture with its table."""

from collections.abc import Sequence

from upnext.pictures.curves import draw_series
from upnext.pictures.numbers import day, is_number
from upnext.pictures.picture import WIDTH, Picture, Table, drawing
from upnext.pictures.plane import BOTTOM, HEIGHT, TOP, axes, draw_marks, plane_over
from upnext.pictures.series import Axis, Mark, Series
from upnext.pictures.svg import element
from upnext.schema import MS_PER_DAY

NOTHING = "not measured"


def xy_picture(
    title: str,
    about: str,
    *,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    marks: Sequence[Mark] = (),
) -> Picture:
    """Draws series over common axes; its table has a line for each x that any of them has.

    Upright marks stand in the table too. Without any number it says that nothing was measured.
    """
    named = [(one.tone or f"tone-{place % 8}", one) for place, one in enumerate(series)]
    plane = plane_over(x, y, series, marks)
    if any(is_number(point.y) for one in series for point in one.points):
        curves = [draw_series(plane, one, tone) for tone, one in named]
        parts = [axes(plane), *curves, draw_marks(plane, marks)]
    else:
        middle = {"x": WIDTH / 2, "y": (TOP + BOTTOM) / 2}
        parts = [element("text", NOTHING, class_="quiet middle", **middle)]
    return Picture(
        title=title,
        about=about,
        svg=drawing(title, HEIGHT, *parts),
        table=_table(x, y, series, marks),
        legend=[(tone, one.name) for tone, one in named] if len(series) > 1 else (),
    )


def _table(x: Axis, y: Axis, series: Sequence[Series], marks: Sequence[Mark]) -> Table:
    cells = [_cells(one, y) for one in series]
    at_marks: dict[float, list[str]] = {}
    for mark in marks:
        if is_number(mark.x) and not mark.is_diagonal:
            at_marks.setdefault(mark.x, []).append(mark.name)
    named = {p.x: p.name for one in series for p in one.points if p.name is not None}
    places = sorted({*(value for told in cells for value in told), *at_marks})
    are_days = x.kind == "time" and all(value % MS_PER_DAY == 0 for value in places)
    tell = day if are_days and x.tell is None else x.text
    return Table(
        header=[x.name, *_headers(y, series), *(["mark"] if at_marks else [])],
        rows=[
            [
                named.get(value, tell(value)),
                *(", ".join(told.get(value, ())) for told in cells),
                *([", ".join(at_marks.get(value, ()))] if at_marks else []),
            ]
            for value in places
        ],
    )


def _cells(one: Series, y: Axis) -> dict[float, list[str]]:
    """By x, what is there; mostly one number."""
    cells: dict[float, list[str]] = {}
    for point in one.points:
        cells.setdefault(point.x, []).append(y.with_interval(point.y, point.low, point.high))
    return cells


def _headers(y: Axis, series: Sequence[Series]) -> list[str]:
    return [f"{one.name}, {y.name}" if one.name != y.name else y.name for one in series]
