"""Ranking quality: what an evaluation found of a release, beside its baselines."""

from starlette.requests import Request
from starlette.responses import Response

from upnext.console.client import Json, escaped
from upnext.console.rendering import render, server_of
from upnext.console.standing import chosen_version
from upnext.pictures import Picture
from upnext.pictures.calibration import calibration_pictures
from upnext.pictures.evaluation import (
    difference_pictures,
    funnel_pictures,
    importance_pictures,
    ranking_pictures,
    retrieval_pictures,
    slice_pictures,
)
from upnext.pictures.policies import off_policy_pictures, policy_pictures


async def show(request: Request) -> Response:
    """GET /quality?version=N."""
    server = server_of(request)
    told = await server.look("releases")
    version = chosen_version(request, told)
    release = None if version is None else await server.look(f"releases/{escaped(version)}")
    report = release and release["evaluation"]
    return render(
        request,
        "quality.html",
        title="Ranking quality",
        versions=[one["version"] for one in told["releases"]][::-1],
        version=version,
        release=release,
        report=report,
        overall=report and report.get("calibration_overall"),
        num_shuffled=_num_shuffled(report or {}),
        parts=_parts(report) if report else {},
    )


def _parts(report: Json) -> dict[str, list[Picture]]:
    """Pictures by what they are of; none where that was not measured."""
    return {
        "calibration": calibration_pictures(report),
        "slices": slice_pictures(report),
        "importance": importance_pictures(report),
        "ranking": ranking_pictures(report),
        "funnel": funnel_pictures(report),
        "policies": [*policy_pictures(report), *off_policy_pictures(report)],
        "differences": difference_pictures(report),
        "retrieval": retrieval_pictures(report),
    }


def _num_shuffled(report: Json) -> int | None:
    """Requests that the importance of inputs was measured on, if that is told."""
    groups = report.get("feature_importance") or ()
    return max((one["num_requests"] for one in groups if "num_requests" in one), default=None)
