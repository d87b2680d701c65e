"""Stages trained by workers on the nodes of a real Ray cluster."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ray = pytest.importorskip("ray", reason="training on Ray needs the extra `ray`")
from upnext.cluster.training import RayCrew
from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.watches import watch_targets
from upnext.logs.split import split_by_time
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import RetrievalNetworkConfig
from upnext.retrieval.train import train_retrieval
from upnext.schema import Logs
from upnext.training.crew import this_process
from upnext.training.logbook import Epoch, Logbook, Progress
from upnext.training.loop import TrainingError

# Ray warns of its own settings when it reads them for the first time.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.")

CONFIG = RetrievalConfig(
    network=RetrievalNetworkConfig(vector_size=8, embedding_size=8, hidden_sizes=(16,)),
    optimizer="row_adam",
    batch_size=16,
    num_negatives=20,
    num_epochs=4,
    patience=99,
    precision="float32",
)
SMALL = {"object_store_memory": 100 << 20}
WORKER = b"ray::RayTrainWorker"


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, **SMALL},
    )
    cluster.add_node(num_cpus=1, object_store_memory=SMALL["object_store_memory"])
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()  # type: ignore[no-untyped-call]


@dataclass
class Told:
    """What a run tells, and something to do at a step."""

    directory: Path
    epochs: list[Epoch] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    kills_at: list[int] = field(default_factory=list)
    num_killed: int = 0

    @property
    def logbook(self) -> Logbook:
        return Logbook(directory=self.directory, on_progress=self.note, progress_every_s=0.0)

    def note(self, progress: Progress) -> None:
        self.steps.append(progress.step)
        if self.kills_at and progress.step >= self.kills_at[0]:
            self.kills_at.pop(0)
            os.kill(train_workers()[0], signal.SIGKILL)
            self.num_killed += 1


def train_workers() -> list[int]:
    """Processes of the workers that train."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if WORKER in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return sorted(found)


@pytest.fixture(scope="module")
def training(tiny_logs: Logs) -> "partial[Any]":
    split = split_by_time(tiny_logs, validation_days=1, test_days=0.01)
    encoder: Encoder = build_encoder(split.train, ExamplesConfig(num_watches=10, num_searches=5))
    users = user_vocabulary(tiny_logs)
    targets = watch_targets(
        encoder, encoder.history(tiny_logs, users), users, split.validation.watches
    )
    return partial(train_retrieval, encoder, encoder.history(split.train, users), targets, CONFIG)


@pytest.mark.parametrize(("shard_above_rows", "kills_at"), [(None, []), (10, [60])])
def test_workers_learn_what_one_machine_learns_even_if_one_is_killed(
    training: "partial[Any]",
    two_nodes: Any,
    shard_above_rows: int | None,
    kills_at: list[int],
    tmp_path: Path,
) -> None:
    """As every epoch's loss is the same to the last digits, every example counted just once."""
    plain = this_process(training, on_epoch=lambda _: None, logbook=Logbook())
    told = Told(tmp_path, kills_at=[*kills_at])
    crew = RayCrew(num_workers=2, shard_above_rows=shard_above_rows, checkpoint_every_s=0.0)
    trained = crew(training, on_epoch=told.epochs.append, logbook=told.logbook)
    assert told.num_killed == len(kills_at)
    assert [epoch.epoch for epoch in told.epochs] == list(range(CONFIG.num_epochs))
    assert told.steps[-1] == max(told.steps)
    losses = [epoch.loss for epoch in trained.epochs]
    np.testing.assert_allclose(losses, [epoch.loss for epoch in plain.epochs], atol=1e-3)
    np.testing.assert_allclose(trained.item_vectors(), plain.item_vectors(), atol=0.02)
    assert trained.best_epoch == plain.best_epoch
    assert sorted(path.name for path in tmp_path.iterdir()) == ["retrieval"]


def test_an_error_that_another_attempt_would_meet_again_is_raised_at_once(
    training: "partial[Any]", two_nodes: Any, tmp_path: Path
) -> None:
    encoder, history, targets, config = training.args
    too_fast = replace(config, learning_rate=1e30)
    hopeless = partial(train_retrieval, encoder, history, targets, too_fast)
    with pytest.raises(TrainingError, match="a lower \\[retrieval\\] learning_rate"):
        RayCrew(num_workers=2)(hopeless, on_epoch=print, logbook=Logbook(directory=tmp_path))
