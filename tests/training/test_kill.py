"""Training is killed with `kill -9` wherever it may be, again and again, and loses nothing."""

import itertools
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.impressions import build_impression_examples
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import watch_targets
from upnext.logs.read import read_logs
from upnext.logs.split import Split, split_by_time
from upnext.ranking.config import RankingConfig, RankingNetworkConfig
from upnext.ranking.train import TrainedRanking, train_ranking
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import RetrievalNetworkConfig
from upnext.retrieval.train import train_retrieval
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import Logs
from upnext.training.logbook import Logbook

NUM_KILLS = 5
CALLS_BETWEEN_KILLS = (3, 30)
"""Reports and calls that touch files until the next kill, at least and at most."""

Weights = dict[str, NDArray[Any]]


def ranking_weights(logs_directory: Path, logbook: Logbook) -> Weights:
    """Of a small network; validation chooses the epoch."""
    logs, split, users, encoder = read(logs_directory)
    assert split.train.impressions is not None
    assert split.validation.impressions is not None
    examples, validation = (
        build_impression_examples(encoder, encoder.history(seen, users), users, shown)
        for seen, shown in (
            (split.train, split.train.impressions),
            (logs, split.validation.impressions),
        )
    )
    config = RankingConfig(
        network=RankingNetworkConfig(hidden_sizes=(16, 8)), requests_per_batch=60, num_epochs=3
    )
    return outcome(train_ranking(encoder, examples, validation, config, logbook=logbook))


def retrieval_weights(logs_directory: Path, logbook: Logbook) -> Weights:
    """With drawn negatives, whose sampler learns, tables updated by rows, and skipped watches."""
    logs, split, users, encoder = read(logs_directory)
    targets = watch_targets(encoder, encoder.history(logs, users), users, split.validation.watches)
    config = RetrievalConfig(
        network=RetrievalNetworkConfig(vector_size=8, embedding_size=8, hidden_sizes=(16,)),
        sampler="learned_unigram",
        optimizer="row_adam",
        num_negatives=20,
        skipped_watches=1.0,
        batch_size=50,
        num_epochs=3,
    )
    history = encoder.history(split.train, users)
    return outcome(train_retrieval(encoder, history, targets, config, logbook=logbook))


def read(logs_directory: Path) -> tuple[Logs, Split, Vocabulary, Encoder]:
    logs = read_logs(logs_directory)[0]
    split = split_by_time(logs, validation_days=1, test_days=0.01)
    encoder = build_encoder(split.train, ExamplesConfig(num_watches=10, num_searches=5))
    return logs, split, user_vocabulary(logs), encoder


def outcome(trained: TrainedRanking | TrainedRetrieval) -> Weights:
    """Weights, and what each epoch gave."""
    weights = {name: value.numpy() for name, value in trained.model.state_dict().items()}
    told = [[epoch.loss, *epoch.metrics.values()] for epoch in trained.epochs]
    return {**weights, "epochs": np.array(told), "best_epoch": np.array(trained.best_epoch)}


TRAINERS: dict[str, Callable[[Path, Logbook], Weights]] = {
    "ranking": ranking_weights,
    "retrieval": retrieval_weights,
}


def test_runs_that_are_killed_end_with_the_same_bits(tiny_logs_dir: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    run = subprocess.run(
        [sys.executable, __file__, tiny_logs_dir, tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for trainer in TRAINERS:
        assert run.stdout.splitlines().count(f"{trainer} was killed") == NUM_KILLS
        unbroken, killed = tmp_path / f"{trainer}-unbroken.npz", tmp_path / f"{trainer}-killed.npz"
        with np.load(unbroken) as first, np.load(killed) as second:
            assert first.keys() == second.keys()
            different = [name for name in first if first[name].tobytes() != second[name].tobytes()]
            assert different == [], trainer


def main(logs_directory: Path, directory: Path) -> None:
    """Trains each once without and once with kills.

    Each life is a fork of this process, which only imports, so that none waits for imports.
    """
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # the first one imports a lot
    rng = np.random.default_rng(11)
    for trainer, train in TRAINERS.items():
        at_ease = partial(train, logs_directory, Logbook())
        live(at_ease, directory / f"{trainer}-unbroken.npz", Doom(math.inf))
        logbook = Logbook(
            directory=directory / "training",
            checkpoint_every_s=14.0,
            progress_every_s=0.0,
            clock=itertools.count().__next__,
        )
        for num_calls in [*rng.integers(*CALLS_BETWEEN_KILLS, NUM_KILLS).tolist(), math.inf]:
            doom = Doom(num_calls)
            in_danger = partial(train, logs_directory, replace(logbook, on_progress=doom))
            if not live(in_danger, directory / f"{trainer}-killed.npz", doom):
                print(f"{trainer} was killed")


@dataclass
class Doom:
    """Kills its process when it is called for the last time."""

    num_calls: float

    def __call__(self, *_: object) -> None:
        self.num_calls -= 1
        if self.num_calls <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, then: Callable[..., Any]) -> Callable[..., Any]:
        def both(*arguments: Any, **options: Any) -> Any:
            self()
            return then(*arguments, **options)

        return both


def live(train: Callable[[], Weights], result: Path, doom: Doom) -> bool:
    """Trains in a process of its own. Whether it came to its end, and not to that by a kill."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        for name in ("fsync", "replace", "unlink"):
            setattr(os, name, doom.before(getattr(os, name)))
        np.savez(result, allow_pickle=False, **train())
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), "it failed by itself"
    return status == 0


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
