"""Releases: how each is, what runs where, and two or more of them side by side."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from upnext.console.asked import MOST, number_asked, same_page, versions_asked
from upnext.console.client import Json
from upnext.console.comparing import only_differences, settings_side_by_side
from upnext.console.rendering import render, server_of
from upnext.metric_names import metric_label
from upnext.pictures import Picture
from upnext.pictures.evaluation import measured, metrics_of
from upnext.pictures.facts import HEADLINE, own_and_best
from upnext.pictures.releases import metrics_over_releases, release_picture

NUM_SHOWN = 100
MOST_COMPARED = 6
STAGES = ("retrieval", "ranking")


async def show(request: Request) -> Response:
    """GET /releases?metrics=ranking.auc&versions=3&versions=5."""
    server = server_of(request)
    compared = versions_asked(request, "versions", at_most=MOST_COMPARED)
    num = number_asked(request, "num", NUM_SHOWN)
    told, *details = await asyncio.gather(
        server.look("releases"), *(server.look(f"releases/{version}") for version in compared)
    )
    releases = told["releases"][-num:]
    known = [
        f"{stage}.{name}" for stage in STAGES for name in metrics_over_releases(releases, stage)
    ]
    chosen = _chosen(request.query_params.getlist("metrics"), known)
    drawn = request.query_params.get("picture") or next(iter(chosen), None)
    return render(
        request,
        "releases.html",
        title="Releases",
        told=told,
        rows=[_row(one, chosen) for one in reversed(releases)],
        tells_baselines=any(one.get("baselines") for one in releases),
        num=num,
        older=same_page(request, num=min(MOST, num + NUM_SHOWN)),
        known={name: _label(name) for name in known},
        chosen=chosen,
        drawn=drawn,
        picture=_picture(releases, drawn) if drawn in known else None,
        compared=compared,
        comparison=_comparison(details) if len(compared) > 1 else None,
        with_settings=lambda which: same_page(request, settings=which),
        shows_all=request.query_params.get("settings") == "all",
    )


def _chosen(asked: Sequence[str], known: Sequence[str]) -> list[str]:
    """The metrics that are shown, in one order; unless it is said, those that say most."""
    wanted = set(asked) or {f"{stage}.{name}" for stage, name in HEADLINE}
    return [name for name in known if name in wanted]


def _label(metric: str) -> str:
    """A metric with its stage, as both may have one of the same name."""
    stage, _, name = metric.partition(".")
    return f"{stage}: {metric_label(name)}"


def _row(release: Json, chosen: Sequence[str]) -> Json:
    states = Counter(holder["state"] for holder in release["servers"])
    causes = [holder["cause"] for holder in release["servers"] if holder.get("cause")]
    return {
        **release,
        "states": dict(states),
        "causes": "; ".join(causes),
        "cells": [_cell(release, *metric.split(".", 1)) for metric in chosen],
    }


def _cell(release: Json, stage: str, name: str) -> Json:
    """A metric with its interval, and the best baseline's where the server tells it."""
    best = ((release.get("baselines") or {}).get(stage) or {}).get(name) or {}
    return {
        "own": measured(((release["metrics"] or {}).get(stage) or {}).get(name)),
        "baseline": best.get("value"),
        "baseline_name": best.get("name", "best baseline"),
    }


def _picture(releases: Sequence[Json], metric: str) -> Picture:
    return release_picture(releases, *metric.split(".", 1))


def _comparison(details: Sequence[Json]) -> Json:
    """Facts, metrics and settings of a few releases, a column each."""
    settings = settings_side_by_side({one["version"]: one["config"] for one in details})
    return {
        "releases": details,
        "metrics": [
            {"name": f"{stage}: {metric_label(name)}", "cells": _side_by_side(details, stage, name)}
            for stage in STAGES
            for name in metrics_of(system for one in details for system in _systems(one, stage))
        ],
        "settings": settings,
        "differences": only_differences(settings),
    }


def _side_by_side(details: Sequence[Json], stage: str, metric: str) -> list[Json]:
    cells = []
    for one in details:
        own, best = own_and_best(_systems(one, stage), metric)
        cells.append({"own": measured(own), "baseline": best})
    return cells


def _systems(release: Json, stage: str) -> Sequence[Json]:
    return (release["evaluation"] or {}).get(stage) or ()
