"""Training: the curves of a run, while it learns and after, and of two runs over each other."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from upnext.console.client import Json, Server, escaped
from upnext.console.rendering import render, server_of
from upnext.pictures import Picture
from upnext.pictures.beside import beside_pictures
from upnext.pictures.training import curve_pictures

SHORT = 10
"""Letters of a run's name that tell it from others."""


async def show(request: Request) -> Response:
    """GET /training?training=DIGEST&beside=DIGEST."""
    server = server_of(request)
    told, releases = await asyncio.gather(server.look("training"), server.look("releases"))
    runs = sorted(told["runs"], key=lambda run: not run["is_running"])
    asked = request.query_params.get("training") or _most_wanted(runs, releases["labels"])
    beside = request.query_params.get("beside") or None
    beside = None if beside == asked else beside
    run, other = await asyncio.gather(_run(server, asked), _run(server, beside))
    # Thousands of points take a while to draw, and others look meanwhile.
    parts = await asyncio.to_thread(_parts, run, other) if run else []
    return render(
        request,
        "training.html",
        title="Training",
        runs=[_head(one) for one in runs],
        run=run,
        other=other,
        parts=parts,
        only_other=_only_in(other, run) if run and other else [],
        SHORT=SHORT,
    )


async def _run(server: Server, training: str | None) -> Json | None:
    return None if training is None else await server.look(f"training/{escaped(training)}")


def _most_wanted(runs: list[Json], labels: Json) -> str | None:
    """The run that learns now, else that of the stable release, else the newest."""
    running = [run for run in runs if run["is_running"]]
    stable = labels.get("stable")
    of_stable = [run for run in runs if stable is not None and run["release"] == stable]
    first: Json = next(iter([*running, *of_stable, *runs]), {})
    return first.get("training")


def _head(run: Json) -> Json:
    """A line of the list of runs."""
    curves = run["curves"]
    starts = [one["first_at_ms"] for one in curves if one.get("first_at_ms") is not None]
    ends = [one["last_at_ms"] for one in curves if one.get("last_at_ms") is not None]
    latest: Json = max(curves, key=lambda one: one.get("last_at_ms") or 0, default={})
    return {
        **run,
        "began_ms": min(starts, default=None),
        "last_ms": max(ends, default=None),
        "latest": latest,
        "num_epochs": sum(one.get("num_epochs", 0) for one in curves),
        "num_resumes": sum(one.get("num_resumes", 0) for one in curves),
    }


def _parts(run: Json, other: Json | None) -> list[Json]:
    """Each part of a run, over the same part of the other where that has it."""
    others = {curve["part"]: curve for curve in other["curves"]} if other else {}
    return [_part(run, curve, other, others.get(curve["part"])) for curve in run["curves"]]


def _part(run: Json, curve: Json, other: Json | None, beside: Json | None) -> Json:
    points, epochs = curve["points"], [_epoch(one) for one in curve["epochs"]]
    best = [one for one in epochs if one["epoch"] == curve["best_epoch"]]
    return {
        "name": curve["part"],
        "best": best[0] if best else None,
        "last": epochs[-1] if epochs else None,
        "now": points[-1] if points else None,
        "epochs": epochs,
        "metrics": list(dict.fromkeys(name for one in epochs for name in one["metrics"])),
        "resumes": curve["resumes"],
        "num_unreadable": curve.get("num_unreadable", 0),
        "pictures": _pictures(run, curve, other, beside),
    }


def _epoch(told: Json) -> Json:
    """Its speed apart from what it learned and what validation gave."""
    metrics = dict(told["metrics"])
    return {**told, "examples_per_s": metrics.pop("examples_per_s", None), "metrics": metrics}


def _pictures(run: Json, curve: Json, other: Json | None, beside: Json | None) -> list[Picture]:
    if other is None or beside is None:
        return curve_pictures(curve)
    return beside_pictures({_name(run): curve, _name(other): beside})


def _name(run: Json) -> str:
    """A run as it is called in pictures; two differ, as a release has one run."""
    release = run["release"]
    return f"run {run['training'][:SHORT]}" if release is None else f"release {release}"


def _only_in(other: Json, run: Json) -> list[str]:
    """Parts that the run has not."""
    parts = {curve["part"] for curve in run["curves"]}
    return [curve["part"] for curve in other["curves"] if curve["part"] not in parts]
