"""The stages' training on the workers of a Ray cluster."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.queue import Empty, Queue

from upnext.cluster.shipping import packed, unpacked
from upnext.cluster.start import check_is_seen
from upnext.errors import ConfigError, UpnextError
from upnext.training.crew import OnEpoch
from upnext.training.group import Group
from upnext.training.logbook import Epoch, Logbook, Progress

T = TypeVar("T")

LISTEN_EVERY_S = 0.2
BACKENDS = {False: "gloo", True: "cpu:gloo,cuda:nccl"}
"""By whether workers have accelerators; counts and flags go over gloo all the same."""

Message = Progress | Epoch | str | UpnextError


@dataclass(frozen=True, kw_only=True)
class RayCrew:
    """A `training.crew.Crew` of Ray Train workers, in the cluster that this process is part of.

    The workers leave a finished checkpoint in the logbook's directory, which all nodes must see;
    from it this process takes what they have learned, as a run that was cut short takes it. So a
    driver that was killed costs nothing but the time since the last checkpoint, and so does a
    worker: Ray starts it again, elsewhere if need be, and all go on from there together.
    """

    num_workers: int
    min_workers: int | None = None
    """Where so many can be had, a run goes on without waiting for the others; None: with all."""
    cpus_per_worker: float = 1.0
    """Cores that a worker is given."""
    use_gpu: bool = False
    """Whether each worker is given an accelerator."""
    shard_above_rows: int | None = None
    """Tables of more rows that are updated by row are dealt out over the workers."""
    max_failures: int = 100
    """Workers lost, at most, until a run gives up."""
    checkpoint_every_s: float = 60.0
    """Seconds between checkpoints inside an epoch: what a lost worker costs all of them."""

    def __post_init__(self) -> None:
        least = self.min_workers if self.min_workers is not None else 1
        if not 1 <= least <= self.num_workers:
            raise ConfigError(
                "workers",
                expected="1 or more, and no fewer than the least number",
                got=f"{self.num_workers}, at least {least}",
            )

    def __call__(self, train: Callable[..., T], *, on_epoch: OnEpoch, logbook: Logbook) -> T:
        """What `train` gives, the work done by all workers together.

        Raises:
            UpnextError: as `train` raises.
            ConfigError: a logbook without a directory, or workers that cannot see it.
        """
        if logbook.directory is None:
            raise ConfigError("training on Ray", expected="a directory for checkpoints", got="none")
        ships = logbook.directory / "shipped"
        content = packed(train, ships)
        kept = replace(
            Logbook(directory=logbook.directory.resolve()),
            checkpoint_every_s=self.checkpoint_every_s,
            progress_every_s=logbook.progress_every_s,
        )
        with _listening(on_epoch, logbook) as (queue, failures):
            self._fit({"train": content, "logbook": kept, "queue": queue})
        if failures:
            raise failures[0]
        shutil.rmtree(ships)
        quietly = replace(logbook, on_progress=lambda _: None, say=lambda _: None)
        return train(on_epoch=lambda _: None, logbook=quietly)

    def _fit(self, told: dict[str, Any]) -> None:
        directory = told["logbook"].directory / "ray"
        least = self.min_workers
        elastic = self.num_workers if least is None else (least, self.num_workers)
        trainer = TorchTrainer(
            _work,
            train_loop_config={**told, "shard_above_rows": self.shard_above_rows},
            scaling_config=ScalingConfig(
                num_workers=elastic,  # type: ignore[arg-type]
                use_gpu=self.use_gpu,
                resources_per_worker={"CPU": self.cpus_per_worker},
            ),
            torch_config=TorchConfig(backend=BACKENDS[self.use_gpu]),
            run_config=RunConfig(
                name=f"{os.getpid()}-{os.urandom(4).hex()}",
                storage_path=str(directory),
                failure_config=FailureConfig(max_failures=self.max_failures),
            ),
        )
        trainer.fit()
        shutil.rmtree(directory, ignore_errors=True)


def _work(told: dict[str, Any]) -> None:
    """What each worker does, from the beginning and again after any of them was lost."""
    context = get_context()
    group = Group(context.get_world_rank(), context.get_world_size(), told["shard_above_rows"])
    queue: Queue = told["queue"]
    logbook: Logbook = told["logbook"]
    if logbook.directory is not None:
        check_is_seen(logbook.directory)
    if torch.cuda.is_available():
        torch.cuda.set_device(get_device())
    tell: Callable[[Message], None] = queue.put if group.is_first else lambda _: None
    try:
        train = unpacked(told["train"])
        train(on_epoch=tell, logbook=replace(logbook, on_progress=tell, say=tell), group=group)
    except UpnextError as error:
        # Another attempt would end the same way.
        tell(error)


@contextmanager
def _listening(on_epoch: OnEpoch, logbook: Logbook) -> Iterator[tuple[Queue, list[Exception]]]:
    """A queue whose messages are passed on as they come; and the errors that were met."""
    queue, failures = Queue(actor_options={"num_cpus": 0}), list[Exception]()
    ends = threading.Event()
    told_epochs = set[int]()

    def pass_on(message: Message) -> None:
        match message:
            case Progress():
                logbook.on_progress(message)
            case Epoch() if message.epoch not in told_epochs:
                told_epochs.add(message.epoch)
                on_epoch(message)
            case UpnextError():
                failures.append(message)
            case str():
                logbook.say(message)

    def listen() -> None:
        while not ends.is_set() or not queue.empty():
            try:
                pass_on(queue.get(timeout=LISTEN_EVERY_S))
            except Empty:
                continue
            except Exception as error:  # of whoever is told; it is raised where they wait
                failures.append(error)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield queue, failures
    finally:
        ends.set()
        listener.join()
        queue.shutdown()
