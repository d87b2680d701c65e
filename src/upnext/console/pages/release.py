"""One release: what it is, where it comes from, where it is loaded, and how good it is."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from upnext.console.client import Json
from upnext.console.rendering import render, server_of, url
from upnext.console.standing import CANARY, STABLE, held_by, version_in_path
from upnext.metric_names import metric_label
from upnext.pictures.evaluation import measured, metrics_of
from upnext.pictures.facts import config_table, file_table, measured_facts, release_facts
from upnext.pictures.numbers import interval
from upnext.pictures.picture import Table, scrolled

STAGES = {
    "retrieval": "Every system ranks all items",
    "ranking": "Every system orders what was shown",
}
"""By stage, what was measured."""


async def show(request: Request) -> Response:
    """GET /releases/3."""
    version, server = version_in_path(request), server_of(request)
    release, told = await asyncio.gather(
        server.look(f"releases/{version}"), server.look("releases")
    )
    report = release["evaluation"] or {}
    stable = told["labels"].get(STABLE)
    return render(
        request,
        "release.html",
        title=f"Release {version}",
        release=release,
        facts=release_facts(release),
        links=_links(release),
        report=report,
        measured_facts=measured_facts(report) if report else [],
        held=held_by(told, version),
        targets=[label for label in (STABLE, CANARY) if label not in release["labels"]],
        beside=stable if stable not in (None, version) else None,
        stages=STAGES,
        metric_tables={
            stage: scrolled(table, f"{about}, release {version}")
            for stage, about in STAGES.items()
            if (table := _metric_table(report.get(stage) or ()))
        },
        config=_scrolled(config_table(release["config"]), f"Settings of release {version}"),
        files=_scrolled(file_table(release), f"Files of release {version}"),
    )


def _links(release: Json) -> Json:
    """By the name of a fact, where more is told of it."""
    training, extends = release["lineage"].get("training"), release["lineage"].get("extends")
    return {
        "training run": url("/training", training=training) if training else None,
        "extends": url(f"/releases/{extends}") if extends else None,
    }


def _metric_table(systems: Sequence[Json]) -> Table | None:
    """Each metric of the release and of every baseline, with its interval."""
    if not systems:
        return None
    return Table(
        header=["metric", *(_name(one) for one in systems)],
        rows=[
            [
                metric_label(metric),
                *(interval(*measured(one["metrics"].get(metric))) for one in systems),
            ]
            for metric in metrics_of(systems)
        ],
    )


def _name(system: Json) -> str:
    return f"{system['name']} (baseline)" if system.get("is_baseline") else str(system["name"])


def _scrolled(table: Table, caption: str) -> str | None:
    return scrolled(table, caption) if table.rows else None
