"""One, two and three workers learn the same ranking, their tables whole or dealt out."""

from dataclasses import replace

import numpy as np
import pytest
from tests.training.workers import together

from upnext.examples.encoder import Encoder
from upnext.examples.impressions import ImpressionExamples
from upnext.ranking.config import RankingConfig, RankingNetworkConfig
from upnext.ranking.train import train_ranking
from upnext.training.group import ALONE, Group
from upnext.training.logbook import Logbook

NETWORK = RankingNetworkConfig(hidden_sizes=(8,), embedding_scale=1.0, context_embedding_size=2)
CONFIG = RankingConfig(
    network=replace(NETWORK, dropout=0.0),
    requests_per_batch=7,
    learning_rate=0.005,
    num_epochs=4,
    patience=99,
    precision="float32",
)


@pytest.mark.parametrize(
    ("config", "shard_above_rows"),
    [
        (CONFIG, None),
        (replace(CONFIG, optimizer="row_adam", weight_decay=0.01), None),
        (replace(CONFIG, optimizer="row_adam"), 10),
        (replace(CONFIG, network=replace(CONFIG.network, kind="wide-and-deep")), None),
        (replace(CONFIG, network=replace(CONFIG.network, kind="din"), objective="d2q"), None),
    ],
    ids=["mlp", "by row", "sharded", "wide-and-deep", "din"],
)
@pytest.mark.parametrize("num_workers", [2, 3])
def test_workers_have_the_losses_of_one(
    encoder: Encoder,
    examples: ImpressionExamples,
    num_workers: int,
    config: RankingConfig,
    shard_above_rows: int | None,
) -> None:
    few = examples.take(np.arange(0, examples.num_requests, 5))
    validation = examples.take(np.arange(1, examples.num_requests, 20))

    def work(group: Group) -> tuple[list[float], list[list[float]]]:
        losses = list[float]()
        logbook = Logbook(
            on_progress=lambda progress: losses.append(progress.loss), progress_every_s=0.0
        )
        trained = train_ranking(encoder, few, validation, config, logbook=logbook, group=group)
        return losses, [[*epoch.metrics.values()] for epoch in trained.epochs]

    alone, metrics = work(ALONE)
    assert len(alone) >= 100
    for losses, theirs in together(num_workers, work, shard_above_rows=shard_above_rows):
        np.testing.assert_allclose(losses[:100], alone[:100], rtol=1e-4)
        np.testing.assert_allclose(theirs, metrics, rtol=0.02)


def test_up_sampling_draws_anew_at_each_worker_and_learns(
    encoder: Encoder, examples: ImpressionExamples
) -> None:
    config = replace(CONFIG, weighting="up-sampling", network=replace(NETWORK, dropout=0.1))

    def work(group: Group) -> list[float]:
        return [
            epoch.loss
            for epoch in train_ranking(encoder, examples, None, config, group=group).epochs
        ]

    first, second = together(2, work)
    assert first == second
    assert first[-1] < first[0]
