"""Retrieval trained by 1, 2 and 4 workers on as many real Ray nodes, beside one plain process.

    python -m benchmarks.ray_training LOGS                     # losses, quality, speed, traffic
    python -m benchmarks.ray_training LOGS --kills 20          # one run in which workers are killed

LOGS as `upnext simulate` or `upnext import` writes them. Every node has one core, plain training
one thread. Losses are compared step by step over the first hundred steps, with dropout off and one
seed: of a tower of SiLU, and of one of ReLU, whose kinks make much of the last bit of a sum, as
plain training with two threads beside one shows. Recall@50 over the last day's watches, with an
interval by user; traffic is counted in the calls of torch.distributed, what one worker sends the
others a step. A line of JSON each.
"""

import argparse
import json
import logging
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray
import torch
from ray.cluster_utils import Cluster
from torch import distributed

from upnext.cluster.training import RayCrew
from upnext.evaluation.intervals import bootstrap_interval, sum_by_user
from upnext.evaluation.metrics import recall_at_k
from upnext.examples.encoder import ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.watches import WatchTargets, watch_targets
from upnext.logs.read import read_logs
from upnext.logs.split import split_by_time
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.train import train_retrieval
from upnext.retrieval.trained import TrainedRetrieval
from upnext.retrieval.validation import ranks_of
from upnext.training.crew import Crew, this_process
from upnext.training.group import ALONE, Group
from upnext.training.logbook import Epoch, Logbook, Progress
from upnext.training.tables import EmbeddingTable

NUM_COMPARED = 100
CONFIG = RetrievalConfig(
    optimizer="row_adam", num_epochs=4, patience=99, batch_size=1_024, precision="float32"
)
Training = partial[TrainedRetrieval]


@dataclass
class Told:
    """What a run tells."""

    losses: list[float] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    step: int = 0

    def note(self, progress: Progress) -> None:
        """Takes down where a run stands."""
        self.losses.append(progress.loss)
        self.step = progress.step


def main() -> None:
    """Prints a line of JSON for each crew."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("logs", type=Path)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    training, targets = prepared(arguments.logs)
    if arguments.kills:
        with nodes(2):
            with_kills(training, targets, arguments.kills, random.Random(arguments.seed))
        return
    for _ in range(arguments.rounds):
        plain = measured("plain", this_process, training, targets, None)
        torch.set_num_threads(2)
        measured("plain, 2 threads", this_process, training, targets, plain)
        torch.set_num_threads(1)
        for number in (1, 2, 4):
            with nodes(number):
                crew = RayCrew(num_workers=number)
                measured(f"{number} workers", crew, training, targets, plain)
                if number == 4:
                    sharded = replace(crew, shard_above_rows=100)
                    measured("4 workers, sharded", sharded, training, targets, plain)


def prepared(logs_directory: Path) -> tuple[Training, WatchTargets]:
    """A training on all but the last day, and that day's watches."""
    logs = read_logs(logs_directory)[0]
    split = split_by_time(logs, validation_days=1, test_days=0.001)
    encoder, users = build_encoder(split.train, ExamplesConfig()), user_vocabulary(logs)
    targets = watch_targets(encoder, encoder.history(logs, users), users, split.validation.watches)
    history = encoder.history(split.train, users)
    return partial(train_retrieval, encoder, history, None, CONFIG), targets.first_watches()


@contextmanager
def nodes(number: int) -> Iterator[None]:
    """A cluster of so many nodes of one core each, real processes all."""
    small = 100 << 20
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": small},
    )
    for _ in range(number - 1):
        cluster.add_node(num_cpus=1, object_store_memory=small)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


def measured(
    name: str,
    crew: Crew,
    training: Training,
    targets: WatchTargets,
    plain: dict[str, list[float]] | None,
) -> dict[str, list[float]]:
    """Losses of the first steps by activation; all else is printed."""
    with tempfile.TemporaryDirectory() as directory:
        losses = {
            activation: first_losses(crew, training, activation, Path(directory) / activation)
            for activation in ("silu", "relu")
        }
        told = Told()
        logbook = Logbook(directory=Path(directory) / "whole", on_progress=told.note)
        counted = partial(counting, training, Path(directory) / "traffic.json")
        began_s = time.perf_counter()
        trained = crew(counted, on_epoch=told.epochs.append, logbook=logbook)
        wall_s = time.perf_counter() - began_s
        traffic = json.loads((Path(directory) / "traffic.json").read_text(encoding="utf-8"))
    line = {
        "crew": name,
        **quality(trained, targets),
        "examples_per_s": [round(epoch.examples_per_s) for epoch in told.epochs],
        "wall_s": round(wall_s, 1),
        **traffic,
    }
    if plain is not None:
        line["max_loss_difference"] = {
            name: float(np.abs(np.subtract(losses[name], plain[name])).max()) for name in plain
        }
    print(json.dumps(line), flush=True)
    return losses


def first_losses(
    crew: Crew, training: Training, activation: Literal["silu", "relu"], directory: Path
) -> list[float]:
    """Step by step, of one epoch."""
    encoder, history, _, config = training.args
    network = replace(config.network, activation=activation)
    short = replace(config, num_epochs=1, network=network)
    told = Told()
    logbook = Logbook(directory=directory, on_progress=told.note, progress_every_s=0.0)
    crew(
        partial(train_retrieval, encoder, history, None, short),
        on_epoch=told.epochs.append,
        logbook=logbook,
    )
    return told.losses[:NUM_COMPARED]


def counting(
    training: Training, path: Path, *, on_epoch: Any, logbook: Logbook, group: Group = ALONE
) -> TrainedRetrieval:
    """Trains; the first worker writes what it sends a step and how many rows its tables hold."""
    sent, steps, rows = [0.0], [0], [0]
    others_share = (group.size - 1) / group.size

    def watching(call: Callable[..., Any], which: int, times: int) -> Callable[..., Any]:
        def both(*arguments: Any, **options: Any) -> Any:
            sent[0] += times * others_share * arguments[which].nbytes
            return call(*arguments, **options)

        return both

    if path.exists():  # the driver only reads what workers have learned
        return training(on_epoch=on_epoch, logbook=logbook, group=group)
    distributed.all_reduce = watching(distributed.all_reduce, 0, 2)
    distributed.all_to_all_single = watching(distributed.all_to_all_single, 1, 1)

    def note(progress: Progress) -> None:
        steps[0] = progress.step
        logbook.on_progress(progress)

    trained = training(on_epoch=on_epoch, logbook=replace(logbook, on_progress=note), group=group)
    rows[0] = len(trained.model.item_table.weight)
    if group.is_first:
        told = {"sent_kib_per_step": round(sent[0] / max(steps[0], 1) / 1024, 1)}
        told |= {"rows_held": rows[0], "num_rows": trained.model.item_table.num_rows}
        path.write_text(json.dumps(told), encoding="utf-8")
    return trained


def quality(trained: TrainedRetrieval, targets: WatchTargets) -> dict[str, Any]:
    """Recall@50 and its interval by user."""
    assert isinstance(trained.model.item_table, EmbeddingTable)
    hits = recall_at_k(ranks_of(trained, targets, mask_watched=True, group=ALONE), 50)
    by_user = [sum_by_user(targets.user_rows, each) for each in (hits, np.ones_like(hits))]
    low, high = bootstrap_interval(*by_user)
    return {
        "recall_at_50": round(float(hits.mean()), 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }


def with_kills(
    training: Training, targets: WatchTargets, num_kills: int, rng: random.Random
) -> None:
    """A run in which random workers are killed after random numbers of steps, and one unbroken.

    Equal losses of all epochs tell that every example was counted, and just once.
    """
    encoder, history, _, config = training.args
    longer = partial(train_retrieval, encoder, history, None, replace(config, num_epochs=10))
    with tempfile.TemporaryDirectory() as directory:
        unbroken = RayCrew(num_workers=2)(
            longer, on_epoch=lambda _: None, logbook=Logbook(directory=Path(directory))
        )
    told, killed_at, ends = Told(), list[int](), threading.Event()

    def kill() -> None:
        while len(killed_at) < num_kills and not ends.wait(0.05):
            after = killed_at[-1] if killed_at else 0
            if told.step > after + rng.randrange(5, 60) and (pids := train_workers()):
                killed_at.append(told.step)
                os.kill(rng.choice(pids), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    with tempfile.TemporaryDirectory() as directory:
        logbook = Logbook(directory=Path(directory), on_progress=told.note, progress_every_s=0.1)
        crew = RayCrew(num_workers=2, checkpoint_every_s=1.0)
        began_s = time.perf_counter()
        trained = crew(longer, on_epoch=told.epochs.append, logbook=logbook)
        wall_s = time.perf_counter() - began_s
    ends.set()
    losses = np.subtract(
        [epoch.loss for epoch in trained.epochs], [epoch.loss for epoch in unbroken.epochs]
    )
    line = {
        "kills": len(killed_at),
        "killed_at_steps": killed_at,
        "epochs": len(trained.epochs),
        "max_difference_of_epoch_losses": float(np.abs(losses).max()),
        "wall_s": round(wall_s, 1),
        "unbroken": quality(unbroken, targets),
        "killed": quality(trained, targets),
    }
    print(json.dumps(line), flush=True)


def train_workers() -> list[int]:
    """Processes of the workers that train."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::RayTrainWorker" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main()
