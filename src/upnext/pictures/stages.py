"""Where the time of single requests went: a bar each, its stages one after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from upnext.pictures.lettering import cut, width_of
from upnext.pictures.numbers import milliseconds, seconds, short, when
from upnext.pictures.picture import WIDTH, Picture, Table, drawing
from upnext.pictures.scales import Scale
from upnext.pictures.svg import element, together

Request = Mapping[str, Any]

MAX_BARS = 20
"""The table has all requests."""
SUMS = frozenset({"total", "served"})
"""Not stages, but times of all of them together."""
REST = "waiting and the rest"
ROW, TOP, BOTTOM = 26.0, 4.0, 8.0
BESIDE = 76.0
"""Room for a bar's time."""
AMISS = " *"


def stages_picture(told: Mapping[str, Any]) -> Picture | None:
    """The slowest requests of late, as a server tells of them; None if there are none."""
    slow: Sequence[Request] = told.get("slow") or ()
    if not slow:
        return None
    stages = dict.fromkeys(stage for one in slow for stage in one["timings_ms"])
    names = [*(stage for stage in stages if stage not in SUMS), REST]
    tones = {name: f"tone-{place % 8}" for place, name in enumerate(names[:-1])}
    tones[REST] = "baseline"
    shown = slow[:MAX_BARS]
    title = "The slowest requests"
    return Picture(
        title=title,
        about=f"{_counted(shown, slow)} of {short(told.get('num_seen'))} requests of the last "
        f"{seconds(told.get('window_s'))}, the slowest first. Requests that were answered together "
        f"each show the stages of all.{_amiss(shown)}",
        svg=drawing(title, TOP + ROW * len(shown) + BOTTOM, *_bars(shown, tones)),
        table=Table(header=_header(names), rows=[_row(one, names) for one in slow]),
        legend=[(tone, name.replace("_", " ")) for name, tone in tones.items()],
    )


def parts_ms(one: Request, names: Sequence[str]) -> list[float]:
    """Milliseconds of each stage that is named; the last is what is left of the whole time."""
    told = [float(one["timings_ms"].get(name, 0.0)) for name in names[:-1]]
    return [*told, max(0.0, one["took_ms"] - sum(told))]


def _bars(shown: Sequence[Request], tones: Mapping[str, str]) -> list[Markup]:
    whole = [sum(parts_ms(one, list(tones))) for one in shown]
    start = 12.0 + max(width_of(_name(one)) for one in shown)
    scale = Scale("linear", 0.0, max(*whole, 1e-9), start, WIDTH - BESIDE)
    base = TOP + ROW * len(shown)
    axis = element("line", x1=start, x2=start, y1=TOP, y2=base, class_="axis")
    bars = [_bar(one, TOP + ROW * (place + 0.5), scale, tones) for place, one in enumerate(shown)]
    return [*bars, axis]


def _bar(one: Request, middle: float, scale: Scale, tones: Mapping[str, str]) -> Markup:
    parts, at = [], 0.0
    for (name, tone), ms in zip(tones.items(), parts_ms(one, list(tones)), strict=True):
        title = element("title", f"{_name(one)}, {name.replace('_', ' ')}: {milliseconds(ms)}")
        place = {"x": scale(at), "y": middle - ROW * 0.31, "height": ROW * 0.62}
        width = scale(at + ms) - scale(at)
        parts.append(element("rect", title, class_=f"bar {tone}", width=width, **place))
        at += ms
    name = element("text", _name(one), x=scale.start - 8, y=middle + 4, class_="name end")
    number = milliseconds(one["took_ms"]) + (AMISS if one["degraded"] else "")
    beside = element("text", number, x=scale(at) + 6, y=middle + 4, class_="number")
    return element("g", name, together(*parts), beside)


def _name(one: Request) -> str:
    label = cut(one.get("label") or "no label", 60)
    return f"{when(one['at_ms'])[-8:]} {label}"


def _header(names: Sequence[str]) -> list[str]:
    stages = [name.replace("_", " ") for name in names]
    about = ["cause", "k", "candidates", "process", "request"]
    return ["when, UTC", "took", "release", "label", *stages, *about]


def _row(one: Request, names: Sequence[str]) -> list[str]:
    return [
        when(one["at_ms"]),
        milliseconds(one["took_ms"]),
        str(one["release"]),
        one.get("label") or "",
        *(milliseconds(ms) for ms in parts_ms(one, names)),
        "; ".join(one["degraded"]),
        short(one["k"]),
        short(one["num_candidates"]),
        str(one["process"]),
        str(one["request_id"]),
    ]


def _amiss(shown: Sequence[Request]) -> str:
    is_there = any(one["degraded"] for one in shown)
    return f"{AMISS} less than whole, the table says why." if is_there else ""


def _counted(shown: Sequence[Request], slow: Sequence[Request]) -> str:
    rest = f" of {len(slow)} in the table" if len(shown) < len(slow) else ""
    return f"{len(shown)}{rest}"
