"""What counters did, window after window, as curves."""

from collections.abc import Callable, Mapping, Sequence

from upnext.console.counters import Window
from upnext.pictures import Axis, Picture, Series, xy_picture
from upnext.pictures.numbers import milliseconds, percent, seconds

QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
STAGES = "upnext_stage_seconds"
WAITED = "upnext_queue_waited_seconds"
RECALL = "upnext_index_recall"
SHADOW = "upnext_shadow_overlap"
SUMS = ("served", "total")
"""Stages that are times of all the others together."""
_IN_TURN = (*SUMS, "past", "user_vector", "candidates", "ranking", "reasons", "page")
TIME = Axis(name="time", low=0, tell=milliseconds)
A_SECOND = Axis(name="a second", low=0)

Curve = Callable[[Window], float | None]


def over_time(
    title: str, of_what: str, windows: Sequence[Window], y: Axis, curves: Mapping[str, Curve]
) -> Picture | None:
    """A curve of each number by name; None before there are two windows, or anything to draw.

    `of_what`: said of the whole, beside how long it is.
    """
    if len(windows) < 2 or not curves:
        return None
    x = [window.last.at_s * 1e3 for window in windows]
    return xy_picture(
        title,
        f"Last {seconds(whole(windows).length_s)}, {of_what}",
        x=Axis(name="UTC", kind="time"),
        y=y,
        series=[
            Series(name=name, x=x, y=[curve(window) for window in windows])
            for name, curve in curves.items()
        ],
    )


def time_to_answer(windows: Sequence[Window]) -> Picture | None:
    """Quantiles of the time that answers took, of all releases."""
    if not windows:
        return None
    curves = {name: quantile_ms(share, stage="served") for name, share in QUANTILES.items()}
    of_what = f"{_answers(windows)}, all releases"
    return over_time("Time to answer", of_what, windows, TIME, curves)


def traffic_pictures(windows: Sequence[Window]) -> list[Picture]:
    """How long answers take and where, who gives them, and what is refused or less than whole."""
    if not windows:
        return []
    drawn = [
        time_to_answer(windows),
        _by_stage(windows),
        *_by_label(windows),
        _waited(windows),
        _amiss(windows),
    ]
    return [picture for picture in drawn if picture is not None]


def recall_picture(windows: Sequence[Window]) -> Picture | None:
    """Mean share that the index finds of what an exact search does, by release."""
    if not windows:
        return None
    releases = whole(windows).by("release", f"{RECALL}_count")
    of_what = f"{sum(releases.values()):,.0f} requests that were searched exactly too; mean"
    recall = Axis(name="recall", high=1.0, tell=percent)
    return over_time(
        "Recall of the index",
        of_what,
        windows,
        recall,
        {f"release {release}": mean(RECALL, release=release) for release in releases},
    )


def whole(windows: Sequence[Window]) -> Window:
    """From the first of them to the last."""
    return Window(windows[0].first, windows[-1].last)


def in_turn(stage: str) -> tuple[int, str]:
    """Sorts stages: sums, then as they follow each other, then what else there may be."""
    return (_IN_TURN.index(stage) if stage in _IN_TURN else len(_IN_TURN), stage)


def quantile_ms(share: float, histogram: str = STAGES, **where: str) -> Curve:
    """A quantile of a window, in milliseconds."""

    def curve(window: Window) -> float | None:
        value_s = window.quantile(share, histogram, **where)
        return None if value_s is None else 1e3 * value_s

    return curve


def mean(histogram: str, **where: str) -> Curve:
    """The mean of what a histogram saw."""
    return lambda window: window.observed(histogram, **where).mean


def rate(counter: str, **where: str) -> Curve:
    """What came a second."""
    return lambda window: window.per_s(counter, **where)


def _by_stage(windows: Sequence[Window]) -> Picture | None:
    there = sorted(whole(windows).by("stage", f"{STAGES}_count"), key=in_turn)
    stages = [stage for stage in there if stage not in SUMS]
    curves = {stage.replace("_", " "): quantile_ms(0.99, stage=stage) for stage in stages}
    of_what = f"{_answers(windows)}, all releases"
    return over_time("p99 of each stage", of_what, windows, TIME, curves)


def _by_label(windows: Sequence[Window]) -> list[Picture | None]:
    slow, many = dict[str, Curve](), dict[str, Curve]()
    for release, label in whole(windows).by_all(("release", "label"), "upnext_answers_total"):
        who = f"{label or 'no label'}, release {release}"
        slow[who] = quantile_ms(0.99, stage="served", release=release, label=label)
        many[who] = rate("upnext_answers_total", release=release, label=label)
    answers = _answers(windows)
    return [
        over_time("p99 by label", answers, windows, TIME, slow) if len(slow) > 1 else None,
        over_time("Answers by label", answers, windows, A_SECOND, many),
    ]


def _waited(windows: Sequence[Window]) -> Picture | None:
    num = whole(windows).observed(WAITED).num
    curves = {name: quantile_ms(share, WAITED) for name, share in QUANTILES.items()}
    about = f"{num:,.0f} requests"
    return over_time("Waiting for a thread", about, windows, TIME, curves if num else {})


def _amiss(windows: Sequence[Window]) -> Picture | None:
    refused = whole(windows).increase("upnext_refused_total")
    causes = whole(windows).by("cause", "upnext_degraded_total")
    about = f"{refused:,.0f} pages refused; {sum(causes.values()):,.0f} times an answer was less "
    about += f"than whole, by cause; {_answers(windows)}"
    curves = {"refused": rate("upnext_refused_total")} if refused else {}
    curves |= {cause: rate("upnext_degraded_total", cause=cause) for cause in causes}
    return over_time("Refused and degraded", about, windows, A_SECOND, curves)


def _answers(windows: Sequence[Window]) -> str:
    return f"{whole(windows).shown('upnext_answers_total'):,.0f} answers"
