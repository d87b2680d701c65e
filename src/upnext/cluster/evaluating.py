"""A release measured by the workers of a Ray cluster, each a part of the events: one report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray

from upnext.errors import ConfigError, UpnextError
from upnext.evaluation.report import EvaluationReport
from upnext.pipeline.evaluate import Evaluation, Found
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.parts import Part

Say = Callable[[str], None]

MAX_RETRIES = 10
"""Times that a part is begun anew because its worker was lost, until the evaluation gives up."""


def evaluate_apart(
    logs_directory: Path,
    registry: Path,
    version: int,
    *,
    num_workers: int,
    say: Say = lambda _: None,
) -> EvaluationReport:
    """The very report of `pipeline.evaluate.evaluate`, by the cluster this process is part of.

    Each worker opens the release and reads the logs, in directories that all nodes see, and so does
    this process, for what is to be told of all parts together. The part of a lost worker is done
    again.

    Raises:
        DataError: as `evaluate`, or workers that see other logs.
        ReleaseError: as `evaluate`, or a worker that does not see the release.
        ConfigError: fewer than one worker.
        ray.exceptions.WorkerCrashedError: a part whose worker was lost time and again.
    """
    if num_workers < 1:
        raise ConfigError("workers", expected="1 or more", got=str(num_workers))
    logs_directory, registry = logs_directory.resolve(), registry.resolve()
    measure = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(measured_part)
    parts = [Part(number, num_workers) for number in range(num_workers)]
    asked = [measure.remote(logs_directory, registry, version, part) for part in parts]
    # Whatever ends this sooner, workers end with the connection. Not by ray.cancel: it can meet a
    # task that just begins, and then Ray ends this process.
    evaluation = Evaluation.of(Bench.prepare(logs_directory, registry, version))
    return evaluation.report(_answers(asked, say))


def measured_part(
    logs_directory: Path, registry: Path, version: int, part: Part
) -> Found | UpnextError:
    """What a worker does; an error is an answer, as another attempt would end the same way."""
    try:
        return Evaluation.of(Bench.prepare(logs_directory, registry, version)).measure(part)
    except UpnextError as error:
        return error


def _answers(asked: Sequence[Any], say: Say) -> list[Found]:
    """All answers, in the order in which they were asked for; an error as soon as it comes."""
    waiting = list(asked)
    while waiting:
        (done,), waiting = ray.wait(waiting, num_returns=1)
        answer = ray.get(done)
        if isinstance(answer, UpnextError):
            raise answer
        say(f"evaluation: {len(asked) - len(waiting)} of {len(asked)} parts measured")
    return ray.get(list(asked))
