"""What is drawn over two axes: series of points, what their axes measure, and lines across."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from upnext.pictures.numbers import Tell, interval, short, when
from upnext.pictures.scales import Kind

Style = Literal["line", "dashed", "dots", "line and dots", "steps", "columns"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What is measured, with its unit. `low` and `high` are bounds to keep; None fits the values.

    `tell`: how a value is written, beside the axis and in the table. `is_whole`: there is nothing
    between whole numbers.
    """

    name: str
    kind: Kind = "linear"
    is_whole: bool = False
    low: float | None = None
    high: float | None = None
    tell: Tell | None = None

    def text(self, value: float | None) -> str:
        """A value as it stands in the table."""
        return self._tell(value)

    def with_interval(self, value: float | None, low: float | None, high: float | None) -> str:
        """A value and its interval as they stand in the table."""
        return interval(value, low, high, tell=self._tell)

    @property
    def _tell(self) -> Tell:
        if self.tell is not None:
            return self.tell
        return when if self.kind == "time" else short


@dataclass(frozen=True)
class Point:
    """One point of a series; `name` is what its x is called, where that is not the number."""

    x: float
    y: float | None
    low: float | None
    high: float | None
    name: str | None


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points from left to right; a y of None or nan leaves a gap.

    `low`, `high`: whiskers of each point, None for none. `tone`: a class; otherwise by its number.
    `names`: what each x is called in words and in the table, such as "10 to 20 s".
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    style: Style = "line"
    tone: str | None = None
    names: Sequence[str] = ()

    @property
    def points(self) -> Iterator[Point]:
        """One after the other."""
        nothing = [None] * len(self.x)
        lows, highs, names = self.low or nothing, self.high or nothing, self.names or nothing
        for x, y, low, high, name in zip(self.x, self.y, lows, highs, names, strict=True):
            yield Point(x, y, low, high, name)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A line across: upright at `x`, level at `y`, or with both the diagonal y = x."""

    name: str
    x: float | None = None
    y: float | None = None
    is_diagonal: bool = False
