"""One ranked list as a page shows it, and how it differs from another one."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from upnext.console.client import Json, ServerRefusedError
from upnext.console.moves import Move, gone, moves, overlap
from upnext.pictures import Bar, Picture, bar_picture
from upnext.pictures.numbers import milliseconds, seconds
from upnext.schema import Id

IN_ALL = ("total", "served")
"""Timings that hold those of the stages."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One place of a list. `key`: the item's id in JSON, which keeps texts and integers apart.

    `event_id`: of the watch that may be sent from here, so that sending it twice tells it once.
    `reasons`: why it was given so many seconds, where that was asked.
    """

    place: int
    item: Json
    key: str
    event_id: str
    move: Move | None = None
    reasons: Picture | None = None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What a list is held against. `name`: how that one is called; `gone`: place and item."""

    name: str
    overlap: float | None
    gone: Sequence[tuple[int, Json]]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A list, or why there is none."""

    name: str
    answer: Json = field(default_factory=dict)
    slots: Sequence[Slot] = ()
    compared: Compared | None = None
    stages: Picture | None = None
    refusal: ServerRefusedError | None = None


def column(
    name: str,
    answer: Json | ServerRefusedError,
    *,
    base: tuple[str, Json] | None = None,
    beside: Json | None = None,
    why: str | None = None,
    titles: Mapping[str, str],
) -> Column:
    """The facts of one list.

    Args:
        base: name and answer of the list that came before it, against which moves are marked.
        beside: the list that comes after it: what that one has not is marked as gone.
        why: the item whose reasons are shown; `titles`: of what may be named in them, by
            ids as texts.
    """
    if isinstance(answer, ServerRefusedError):
        return Column(name=name, refusal=answer)
    own = _ids(answer)
    marks: Sequence[Move | None] = [None] * len(own)
    if base is not None:
        marks = moves(_ids(base[1]), own)
    elif beside is not None:
        stays = set(_ids(beside))
        marks = [None if item_id in stays else Move("gone") for item_id in own]
    return Column(
        name=name,
        answer=answer,
        slots=[
            _slot(place, item, mark, titles, is_asked=str(item["item_id"]) == why)
            for place, (item, mark) in enumerate(zip(answer["items"], marks, strict=True), 1)
        ],
        compared=None if base is None else _compared(*base, own),
        stages=_stages(answer),
    )


def name_of(item: Json) -> str:
    """What people call an item."""
    return str(item.get("title") or item["item_id"])


def _ids(answer: Json) -> list[Id]:
    return [item["item_id"] for item in answer["items"]]


def _slot(
    place: int, item: Json, mark: Move | None, titles: Mapping[str, str], *, is_asked: bool
) -> Slot:
    return Slot(
        place=place,
        item=item,
        key=json.dumps(item["item_id"]),
        event_id=f"console-{uuid.uuid4().hex}",
        move=mark,
        reasons=_reasons(item, titles) if is_asked else None,
    )


def _compared(name: str, base: Json, own: Sequence[Id]) -> Compared:
    items = {item["item_id"]: item for item in base["items"]}
    before = _ids(base)
    left = [(place, items[item_id]) for place, item_id in gone(before, own)]
    return Compared(name=name, overlap=overlap(before, own), gone=left)


def _reasons(item: Json, titles: Mapping[str, str]) -> Picture | None:
    reasons = item["reasons"]
    if not reasons:
        return None
    bars = []
    for reason in reasons:
        watched = reason["item_id"]
        of = "" if watched is None else f" {titles.get(str(watched), watched)}"
        value = reason["watch_time_s"]
        tone = "tone-0" if value >= 0 else "tone-1"
        bars.append(Bar(name=f"{reason['about']}{of}", value=value, tone=tone))
    return bar_picture(
        "Why so long",
        f"Of {seconds(item['expected_watch_time_s'])} expected: what would be missing without one "
        f"thing or another, the {len(bars)} strongest. They do not add up, as some say the same.",
        bars=bars,
        quantity="seconds it brings",
        tell=signed_seconds,
    )


def signed_seconds(value: float | None) -> str:
    """Seconds with their sign.

    >>> signed_seconds(21.4), signed_seconds(-3.8), signed_seconds(0)
    ('+21.4 s', '−3.8 s', '0 s')
    """
    return f"+{seconds(value)}" if value is not None and value > 0 else seconds(value)


def _stages(answer: Json) -> Picture | None:
    timings_ms = answer["timings_ms"]
    stages = {name: ms for name, ms in timings_ms.items() if name not in IN_ALL}
    if not stages:
        return None
    return bar_picture(
        "Where the time went",
        f"Of this one request; {answer['num_candidates']:,} candidates.",
        bars=[
            Bar(name=name.replace("_", " "), value=ms, tone="tone-0") for name, ms in stages.items()
        ],
        quantity="time",
        tell=milliseconds,
    )
