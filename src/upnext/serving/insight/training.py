"""Training runs and their curves, finished ones and those that learn right now."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from upnext.registry.training_runs import (
    TrainingHead,
    TrainingRun,
    list_training_runs,
    read_training_run,
    training_names,
)
from upnext.serving.endpoints import Endpoint, json_response
from upnext.serving.registered import registry_of
from upnext.serving.security import RefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRunsBody:
    """Every run, the one that wrote last first."""

    runs: Sequence[TrainingHead]


async def see_training_runs(request: Request) -> Response:
    """GET /insight/v1/training."""
    runs = await asyncio.to_thread(list_training_runs, registry_of(request))
    return json_response(TrainingRunsBody(runs=runs))


async def see_training_run(request: Request) -> Response:
    """GET /insight/v1/training/{training}."""
    registry, training = registry_of(request), request.path_params["training"]

    def look() -> TrainingRun:
        if training not in training_names(registry):
            hint = "GET /insight/v1/training lists what there is."
            got = repr(training[:100])
            raise RefusedError(404, "training", expected="a run that is there", got=got, hint=hint)
        return read_training_run(registry, training)

    return json_response(await asyncio.to_thread(look))


TRAINING_ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        method="GET",
        path="/insight/v1/training",
        handler=see_training_runs,
        needs="read",
        summary="Training runs, and where each stands",
        answers=TrainingRunsBody,
    ),
    Endpoint(
        method="GET",
        path="/insight/v1/training/{training}",
        handler=see_training_run,
        needs="read",
        summary="The curves of a training run",
        answers=TrainingRun,
        failures=(404,),
    ),
)
