"""What the points of a map are coloured by: a few groups, the same for legend and points."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from upnext.console.client import Json
from upnext.pictures.numbers import day, short

Colour = Literal["channel", "tag", "age", "popularity"]
COLOURS: Sequence[Colour] = get_args(Colour)
NUM_TONES = 8
"""Colours that can be told apart; see `pictures.css`."""
NUM_STEPS = 7
"""Shades from little to much; see `map.css`."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Points of one colour. `style`: the class that gives it."""

    name: str
    style: str
    num_points: int


@dataclass(frozen=True, kw_only=True)
class Colouring:
    """Groups in the order of the legend. `group_of`: for each point its place among them."""

    groups: Sequence[Group]
    group_of: Sequence[int]


def colouring(told: Json, colour: Colour) -> Colouring:
    """How the points of `GET /insight/v1/map` are coloured."""
    match colour:
        case "channel":
            return _by_name(told["channel_id"], "channel")
        case "tag":
            return _by_name(told["tag"], "tag")
        case "age":
            return _by_steps(told["published_at_ms"], day)
        case "popularity":
            return _by_steps(told["num_watches"], _count)


def _count(value: float) -> str:
    return short(value, num_digits=9)


def _by_name(values: Sequence[str | int | None], kind: str) -> Colouring:
    """The most frequent values have a tone each; all others share one, as have those without."""
    frequent = [
        value for value, _ in Counter(v for v in values if v is not None).most_common(NUM_TONES)
    ]
    place: dict[str | int | None, int] = {value: number for number, value in enumerate(frequent)}
    others, nothing = len(frequent), len(frequent) + 1
    place[None] = nothing
    num_others = len({*values} - {*place})
    names = [str(value) for value in frequent] + [f"{num_others:,} other {kind}s", f"no {kind}"]
    styles = [f"tone-{number}" for number in range(len(frequent))] + ["others", "nothing"]
    return _counted(names, styles, [place.get(value, others) for value in values])


def _by_steps(values: Sequence[float | None], tell: Callable[[float], str]) -> Colouring:
    """About as many points in each step; equal values are in the same one."""
    known = sorted(value for value in values if value is not None)
    lows = sorted({known[len(known) * step // NUM_STEPS] for step in range(NUM_STEPS) if known})
    ends = [bisect_left(known, low) for low in lows[1:]] + [len(known)]
    highs = [known[end - 1] for end in ends[: len(lows)]]
    names = [
        tell(low) if tell(low) == tell(high) else f"{tell(low)} to {tell(high)}"
        for low, high in zip(lows, highs, strict=True)
    ]
    shades = [round(step * (NUM_STEPS - 1) / max(1, len(lows) - 1)) for step in range(len(lows))]
    styles = [f"step-{shade}" for shade in shades]
    places = [len(lows) if value is None else bisect_right(lows, value) - 1 for value in values]
    return _counted([*names, "not known"], [*styles, "nothing"], places)


def _counted(names: Sequence[str], styles: Sequence[str], places: Sequence[int]) -> Colouring:
    """Without the groups that no point is in."""
    num_points = Counter(places)
    kept = sorted(num_points)
    groups = [
        Group(name=names[place], style=styles[place], num_points=num_points[place])
        for place in kept
    ]
    number = {place: number for number, place in enumerate(kept)}
    return Colouring(groups=groups, group_of=[number[place] for place in places])
