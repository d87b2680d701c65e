"""The flags that spread work over a Ray cluster."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upnext.errors import ConfigError

if TYPE_CHECKING:
    from upnext.evaluation.report import EvaluationReport
    from upnext.training.crew import Crew

RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Work on a Ray cluster; `local` starts one here."
    ),
]
NumWorkers = Annotated[
    str,
    typer.Option("--workers", metavar="N", help="Workers on Ray; `2-4` goes on with 2 of 4 left."),
]


def num_workers(text: str) -> tuple[int, int]:
    """At least and at most so many workers, of `4` or `2-4`.

    Raises: ConfigError: it is neither.
    """
    found = re.fullmatch(r"([1-9]\d*)(?:-(\d+))?", text)
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if least > most:
        raise ConfigError("--workers", expected="a number, or two as in 2-4", got=repr(text))
    return least, most


@contextmanager
def workers_of(address: str | None, workers: str) -> Iterator[int | None]:
    """How many workers there are on Ray, of which this process is a part inside; None without it.

    Raises: ConfigError: as `cluster.start.connected`; or workers without Ray.
    """
    _, most = num_workers(workers)
    if address is None:
        if most != 1:
            got = "--workers without --ray"
            raise ConfigError("--ray", expected="an address, or `local`", got=got)
        yield None
        return
    from upnext.cluster.start import connected

    with connected(address, num_cpus=max(most, os.cpu_count() or 1)):
        yield most


@contextmanager
def crew_of(
    address: str | None, workers: str, *, use_gpu: bool, shard_above_rows: int | None
) -> "Iterator[Crew]":
    """Who trains: this process, or inside of this workers on Ray.

    Raises: ConfigError: as `cluster.start.connected`; or a flag that only Ray knows, without it.
    """
    from upnext.training.crew import this_process

    least, most = num_workers(workers)
    if address is None:
        if (most, use_gpu, shard_above_rows) != (1, False, None):
            got = "--workers, --gpus or --shard-above without --ray"
            raise ConfigError("--ray", expected="an address, or `local`", got=got)
        yield this_process
        return
    from upnext.cluster.start import connected

    num_cpus = os.cpu_count() or 1
    with connected(address, num_cpus=max(most, num_cpus)):
        from upnext.cluster.start import LOCAL
        from upnext.cluster.training import RayCrew

        yield RayCrew(
            num_workers=most,
            min_workers=None if least == most else least,
            cpus_per_worker=max(1, num_cpus // most) if address == LOCAL else 1,
            use_gpu=use_gpu,
            shard_above_rows=shard_above_rows,
        )


def evaluate_with(
    address: str | None,
    workers: str,
    evaluate: "Callable[..., EvaluationReport]",
    logs: Path,
    registry: Path,
    version: int,
    *,
    say: Callable[[str], None],
) -> "EvaluationReport":
    """Measures a release by `evaluate` here, or by workers on Ray, which comes to the same.

    Raises: ConfigError: as `cluster.start.connected`; or workers without Ray.
    """
    with workers_of(address, workers) as number:
        if number is None:
            return evaluate(logs, registry, version, say=say)
        from upnext.cluster.evaluating import evaluate_apart

        return evaluate_apart(logs, registry, version, num_workers=number, say=say)
