"""Work in many parts, a few at a time, on the workers of the cluster that this process is part of.

Plain tasks and not a data set of Ray's: what is large lies in files, so that a part needs a worker
and nothing else, and no copy of it passes through Ray's memory.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ray

from upnext.cluster.start import check_is_seen
from upnext.errors import UpnextError

Job = TypeVar("Job")
Answer = TypeVar("Answer")

MAX_RETRIES = 10
"""Times that a part is begun anew because its worker was lost, until all is given up."""
ONE_THREAD = {"env_vars": {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}}
"""A worker is reckoned with as one core."""
ENDS_WITHIN_S = 60.0
"""For jobs at hand; whoever needs longer is stopped when this process leaves the cluster."""


@contextmanager
def in_order(
    work: Callable[[Job], Answer], jobs: Sequence[Job], *, num_workers: int
) -> Iterator[Iterator[Answer]]:
    """What `work` makes of each job, in the order of the jobs; at most so many at a time.

    A job whose worker is lost is done again, so that whatever it leaves behind must be made
    `once`. Outside, after an error or an interrupt too, nobody is at work any more: the jobs at
    hand, some seconds of work each, are waited for, and no others are begun.

    Raises:
        UpnextError: as the first job in order that raises one.
        ray.exceptions.RayError: another error of a job, or its worker was lost time and again.
    """
    running: dict[Any, int] = {}
    try:
        yield _answers(work, jobs, num_workers, running)
    finally:
        # Not ray.cancel: it can meet a task that just begins, and then Ray ends this process.
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=ENDS_WITHIN_S)


def _answers(
    work: Callable[[Job], Answer], jobs: Sequence[Job], num_workers: int, running: dict[Any, int]
) -> Iterator[Answer]:
    """Answers in order; `running` has those that are asked for, by what Ray knows them as."""
    task: Any = ray.remote(num_cpus=1, max_retries=MAX_RETRIES, runtime_env=ONE_THREAD)(_answer)
    found, num_asked = dict[int, Answer | UpnextError](), 0
    for number in range(len(jobs)):
        while True:
            while num_asked < len(jobs) and len(running) < num_workers:
                running[task.remote(work, jobs[num_asked])] = num_asked
                num_asked += 1
            if number in found:
                break
            done = ray.wait(list(running), num_returns=1)[0][0]
            found[running[done]] = ray.get(done)
            del running[done]
        answer = found.pop(number)
        if isinstance(answer, UpnextError):
            raise answer
        yield answer


def _answer(work: Callable[[Job], Answer], job: Job) -> Answer | UpnextError:
    """An error is an answer, as another attempt would end the same way."""
    try:
        return work(job)
    except UpnextError as error:
        return error


@contextmanager
def once(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the name `folder` when all in it is there.

    Where another attempt at the same has come first, what it made stays, and is as good.

    Raises:
        ConfigError: this worker does not see what the driver sees.
    """
    check_is_seen(folder.parent)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    partial.mkdir()
    yield partial
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial)
