"""Traffic: how fast answers come and from whom, what is refused or less than whole, and why."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from upnext.console.client import Json
from upnext.console.counters import UNSEEN, Observed, Window
from upnext.console.over_time import (
    QUANTILES,
    RECALL,
    SHADOW,
    STAGES,
    WAITED,
    in_turn,
    recall_picture,
    traffic_pictures,
)
from upnext.console.rendering import render, server_of, watch_of
from upnext.pictures.stages import stages_picture

WINDOWS_S = {60: "1 min", 300: "5 min", 3_600: "1 h"}
DEFAULT_S = 300
NUM_PARTS = 60
HOUR_S = 3_600.0
"""Begins the labels of answers that nobody was given."""


async def show(request: Request) -> Response:
    """GET /traffic?last=SECONDS."""
    watch = watch_of(request)
    await watch.read_first()
    asked = request.query_params.get("last", "")
    last_s = int(asked) if asked in map(str, WINDOWS_S) else DEFAULT_S
    slow = await server_of(request).look("slow")
    window = watch.window(last_s)
    # An hour's pictures take a while to work out, and others look meanwhile.
    pictures = await asyncio.to_thread(traffic_pictures, watch.windows(last_s, NUM_PARTS))
    return render(
        request,
        "traffic.html",
        title="Traffic",
        choices=WINDOWS_S,
        last_s=last_s,
        window=window,
        numbers=None if window is None else numbers_of(window),
        pictures=pictures,
        hour=None if (hour := watch.window(HOUR_S)) is None else _sampled(hour),
        recall_picture=recall_picture(watch.windows(HOUR_S, NUM_PARTS // 2)),
        slow=slow,
        slow_picture=stages_picture(slow),
    )


def numbers_of(window: Window) -> Json:
    """All that came in a window, and what is so at its end; None is what nothing was counted of."""
    answers, now = window.increase("upnext_answers_total"), window.last
    return {
        "num_answers": answers,
        "per_s": window.per_s("upnext_answers_total"),
        "by_label": _answers_by(window, answers),
        "num_unseen": sum(
            num
            for label, num in window.by("label", "upnext_answers_total").items()
            if label.startswith(UNSEEN)
        ),
        "latency": _latency(window),
        "waiting": now.gauge("upnext_waiting"),
        "waited": _spread(window.observed(WAITED)),
        "num_refused": window.increase("upnext_refused_total"),
        "num_429": window.increase("upnext_responses_total", status="429"),
        "degraded": _degraded(window),
        "responses": window.by_all(("route", "status"), "upnext_responses_total"),
        "events": window.by("outcome", "upnext_events_total"),
        "pages_lost": now.gauge("upnext_pages_lost"),
        "pages_not_kept": window.increase("upnext_pages_not_kept_total"),
    }


def _answers_by(window: Window, answers: float) -> list[Json]:
    """Answers of each release under each label, and their share of all."""
    by = window.by_all(("release", "label"), "upnext_answers_total")
    return [
        {
            "release": release,
            "label": label,
            "num": num,
            "per_s": num / window.length_s if window.length_s > 0 else None,
            "share": num / answers,
        }
        for (release, label), num in by.items()
    ]


def _latency(window: Window) -> list[Json]:
    """By release and label its stages, the whole first."""
    groups: dict[tuple[str, str], list[Json]] = {}
    by = window.by_all(("release", "label", "stage"), f"{STAGES}_count")
    for release, label, stage in sorted(by, key=lambda one: (one[:2], in_turn(one[2]))):
        seen = window.observed(STAGES, release=release, label=label, stage=stage)
        groups.setdefault((release, label), []).append({"stage": stage, **_spread(seen)})
    return [
        {"release": release, "label": label, "stages": stages}
        for (release, label), stages in groups.items()
    ]


def _spread(seen: Observed) -> Json:
    """Milliseconds; None where nothing was seen."""

    def ms(value_s: float | None) -> float | None:
        return None if value_s is None else 1e3 * value_s

    return {
        "num": seen.num,
        "mean_ms": ms(seen.mean),
        "quantiles_ms": {name: ms(seen.quantile(share)) for name, share in QUANTILES.items()},
    }


def _degraded(window: Window) -> list[Json]:
    """Why answers were less than whole, and the share of that release's answers under its label."""
    answers = window.by_all(("release", "label"), "upnext_answers_total")
    by = window.by_all(("cause", "release", "label"), "upnext_degraded_total")
    return [
        {
            "cause": cause,
            "release": release,
            "label": label,
            "num": num,
            "share": num / of if (of := answers.get((release, label))) else None,
        }
        for (cause, release, label), num in by.items()
    ]


def _sampled(hour: Window) -> Json:
    """What is measured on some requests alone, so that it takes an hour to be much."""
    return {
        "length_s": hour.length_s,
        "recall": {
            release: hour.observed(RECALL, release=release)
            for release in hour.by("release", f"{RECALL}_count")
        },
        "shadow": {
            label: hour.observed(SHADOW, label=label)
            for label in hour.by("label", f"{SHADOW}_count")
        },
    }
