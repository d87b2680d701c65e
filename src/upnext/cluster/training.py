"""The stages' training on the workers of a Ray cluster."""

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Never, TypeVar

import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from upnext.cluster.hearing import Ear, Message, listening
from upnext.cluster.shipping import packed, unpacked
from upnext.cluster.start import check_is_seen
from upnext.errors import ConfigError, UpnextError
from upnext.training.crew import OnEpoch
from upnext.training.group import Group
from upnext.training.logbook import Logbook
from upnext.training.loop import TrainingError

T = TypeVar("T")

BACKENDS = {False: "gloo", True: "cpu:gloo,cuda:nccl"}
"""By whether workers have accelerators; counts and flags go over gloo all the same."""
SILENT_AT_MOST_S = 600
"""A worker that waits so long for another takes it for lost."""
LOOK_EVERY_S = 0.2
SHIPPED, RAYS_OWN = "shipped", "ray"
"""Folders beside the stages' while workers are at it."""


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
    """Cores that a worker is given, and threads."""
    use_gpu: bool = False
    """Whether each worker is given an accelerator."""
    shard_above_rows: int | None = None
    """Tables of more rows that are updated by row are dealt out over the workers."""
    max_failures: int = 30
    """Times, at most, that a worker is lost or fails until a run gives up."""
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
            TrainingError: more workers were lost, or failed otherwise, than a run bears.
            KeyboardInterrupt: Ctrl-C; workers end when this process leaves the cluster.
        """
        if logbook.directory is None:
            raise ConfigError("training on Ray", expected="a directory for checkpoints", got="none")
        directory = logbook.directory.resolve()
        content = packed(train, directory / SHIPPED)
        kept = Logbook(
            directory=directory,
            checkpoint_every_s=self.checkpoint_every_s,
            progress_every_s=logbook.progress_every_s,
        )
        with listening(on_epoch, logbook) as ear:
            self._fit({"train": content, "logbook": kept, "queue": ear.queue}, ear)
        if ear.failures:
            raise ear.failures[0]
        for folder in (SHIPPED, RAYS_OWN):
            shutil.rmtree(directory / folder, ignore_errors=True)
        no_more_steps = replace(
            logbook, on_progress=_not_finished, progress_every_s=0.0, say=lambda _: None
        )
        return train(on_epoch=_not_finished, logbook=no_more_steps)

    def _fit(self, told: dict[str, Any], ear: Ear) -> None:
        """Runs the workers to their end, in a thread, as Ray would take Ctrl-C for itself."""
        trainer, ended = self._trainer(told), list[Exception]()

        def fit() -> None:
            try:
                trainer.fit()
            except Exception as error:
                ended.append(error)

        fitting = threading.Thread(target=fit, daemon=True)
        fitting.start()
        try:
            while fitting.is_alive():
                fitting.join(LOOK_EVERY_S)
        except KeyboardInterrupt:
            ear.logbook.say("stopped; the same call goes on from the last checkpoint")
            raise
        if ended and not ear.failures:
            raise TrainingError(
                "training on Ray",
                expected=f"no more than {self.max_failures} failures",
                got=f"{type(ended[0]).__name__}: {ended[0]}".partition("\n")[0],
                hint="what each worker failed of was told above; the same call goes on from here.",
            ) from ended[0]

    def _trainer(self, told: dict[str, Any]) -> TorchTrainer:
        least = self.min_workers
        elastic = self.num_workers if least is None else (least, self.num_workers)
        return TorchTrainer(
            _work,
            train_loop_config={
                **told,
                "shard_above_rows": self.shard_above_rows,
                "use_gpu": self.use_gpu,
            },
            scaling_config=ScalingConfig(
                num_workers=elastic,  # type: ignore[arg-type]
                use_gpu=self.use_gpu,
                resources_per_worker={"CPU": self.cpus_per_worker},
            ),
            torch_config=TorchConfig(backend=BACKENDS[self.use_gpu], timeout_s=SILENT_AT_MOST_S),
            run_config=RunConfig(
                name=f"{os.getpid()}-{os.urandom(4).hex()}",
                storage_path=str(told["logbook"].directory / RAYS_OWN),
                failure_config=FailureConfig(max_failures=self.max_failures),
            ),
        )


def _work(told: dict[str, Any]) -> None:
    """What each worker does, from the beginning and again after any of them was lost."""
    context = get_context()
    group = Group(context.get_world_rank(), context.get_world_size(), told["shard_above_rows"])
    logbook: Logbook = told["logbook"]
    tell: Callable[[Message], None] = told["queue"].put
    first_tells = tell if group.is_first else lambda _: None
    try:
        assert logbook.directory is not None
        check_is_seen(logbook.directory / SHIPPED)
        if told["use_gpu"]:
            torch.cuda.set_device(get_device())
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # of those on its node none is its own
        unpacked(told["train"])(
            on_epoch=first_tells,
            logbook=replace(logbook, on_progress=first_tells, say=first_tells),
            group=group,
        )
    except UpnextError as error:
        # Another attempt would end the same way.
        tell(error)
    except Exception as error:
        tell(f"worker {group.rank} of {group.size} failed: {type(error).__name__}: {error}")
        raise


def _not_finished(_: object) -> Never:
    """Who only takes over what workers have learned has nothing to learn."""
    raise TrainingError(
        "training on Ray",
        expected="a finished checkpoint of the workers",
        got="none that the driver can read",
        hint="do all nodes see the registry? The same call goes on from what is there.",
    )
