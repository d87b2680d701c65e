"""Home: is it well, what serves, how fast, and how old is what it knows?"""

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from upnext.console.client import Json
from upnext.console.counters import Window
from upnext.console.over_time import QUANTILES, time_to_answer
from upnext.console.rendering import render, server_of, watch_of

WINDOWS_S = (60.0, 300.0, 3_600.0)
ANSWERING = ("recommend", "recommend_batch", "similar", "infer", "predict")
"""Routes that people wait for; a probe that is told of a server that is not ready is no failure."""


async def show(request: Request) -> Response:
    """GET /."""
    watch = watch_of(request)
    await watch.read_first()
    told = await server_of(request).look("releases")
    windows = [watch.window(last_s) for last_s in WINDOWS_S]
    return render(
        request,
        "home.html",
        title="Home",
        labels=[_label(told, name, version) for name, version in told["labels"].items()],
        windows=[_numbers(window) for window in dict.fromkeys(windows) if window is not None],
        picture=time_to_answer(watch.windows(3_600.0, 60)),
    )


def _label(told: Json, name: str, version: int) -> Json:
    of_version = {one["version"]: one for one in told["releases"]}
    release: Json = of_version.get(version, {})
    return {"name": name, "version": version, "release": release, "known_ms": _ms(release)}


def _ms(release: Json) -> float | None:
    until = release.get("train_until")
    return datetime.fromisoformat(until).timestamp() * 1e3 if until else None


def _numbers(window: Window) -> Json:
    """Each number of one window; nothing counted is None, not 0."""
    answers = window.shown("upnext_answers_total")
    degraded = window.shown("upnext_degraded_total")
    return {
        "length_s": window.length_s,
        "num_answers": answers,
        "per_s": answers / window.length_s if window.length_s > 0 else None,
        "quantiles": {
            name: window.quantile(share, "upnext_stage_seconds", stage="served")
            for name, share in QUANTILES.items()
        },
        "degraded_share": degraded / answers if answers else None,
        "num_refused": window.increase("upnext_refused_total"),
        "num_failed": sum(
            grew
            for route in ANSWERING
            for status, grew in window.by("status", "upnext_responses_total", route=route).items()
            if status.startswith("5")
        ),
    }
