"""One step of stage 2, and a run of steps that is cut short."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from upnext.examples.encoder import Encoder
from upnext.examples.impressions import ImpressionExamples
from upnext.ranking.config import RankingConfig, RankingNetworkConfig
from upnext.ranking.loss import WeightedLogisticVariant
from upnext.ranking.step import RankingTask, outcomes_of
from upnext.ranking.train import TrainedRanking, train_ranking
from upnext.training.logbook import Logbook, Progress

NETWORK = RankingNetworkConfig(hidden_sizes=(8,), embedding_scale=1.0, context_embedding_size=2)
TINY = RankingConfig(network=NETWORK, requests_per_batch=40, learning_rate=0.01, num_epochs=2)
RUNS = {
    "mlp": TINY,
    "dropout": replace(TINY, network=replace(NETWORK, dropout=0.2)),
    "wide-and-deep": replace(TINY, network=replace(NETWORK, kind="wide-and-deep")),
    "adagrad": replace(
        TINY, network=replace(NETWORK, kind="wide-and-deep", wide_optimizer="adagrad")
    ),
    "din": replace(TINY, network=replace(NETWORK, kind="din"), objective="d2q"),
    "by row": replace(TINY, optimizer="row_adam", weight_decay=0.01),
    "up-sampling": replace(TINY, weighting="up-sampling"),
}


@pytest.fixture(scope="module")
def few(examples: ImpressionExamples) -> ImpressionExamples:
    return examples.take(np.arange(0, examples.num_requests, 5))


@pytest.fixture(scope="module")
def validation(examples: ImpressionExamples) -> ImpressionExamples:
    return examples.take(np.arange(1, examples.num_requests, 20))


class CrashError(Exception):
    pass


def crash_after(num_steps: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.step > num_steps:
            raise CrashError

    return report


def outcome(trained: TrainedRanking) -> dict[str, bytes]:
    """All that a training ends with, bit for bit."""
    weights = {name: value.numpy().tobytes() for name, value in trained.model.state_dict().items()}
    told = [[epoch.loss, *epoch.metrics.values()] for epoch in trained.epochs]
    return weights | {"epochs": np.array(told).tobytes(), "best": bytes([trained.best_epoch])}


@pytest.mark.parametrize("run", RUNS)
def test_a_run_that_was_cut_short_ends_with_the_same_bits(
    encoder: Encoder,
    few: ImpressionExamples,
    validation: ImpressionExamples,
    tmp_path: Path,
    run: str,
) -> None:
    config = RUNS[run]
    unbroken = outcome(train_ranking(encoder, few, validation, config))
    num_steps = -(-few.num_requests // config.requests_per_batch)
    assert num_steps >= 3
    for until in (1, num_steps + 1):
        logbook = Logbook(
            directory=tmp_path,
            checkpoint_every_s=0.0,
            progress_every_s=0.0,
            clock=itertools.count().__next__,
            on_progress=crash_after(until),
        )
        with pytest.raises(CrashError):
            train_ranking(encoder, few, validation, config, logbook=logbook)
    said: list[str] = []
    logbook = Logbook(directory=tmp_path, say=said.append)
    again = outcome(train_ranking(encoder, few, validation, config, logbook=logbook))
    assert "going on from a checkpoint, epoch 1" in said[0]
    assert [name for name in unbroken if unbroken[name] != again[name]] == []


def test_features_are_fitted_alike_by_whoever_goes_on(
    encoder: Encoder, few: ImpressionExamples, validation: ImpressionExamples
) -> None:
    """They are in no checkpoint: each worker, and who takes over from them, fits them anew."""
    first = RankingTask(encoder, few, validation, TINY)
    for batch in first.batches(0):
        first.step(batch, learning_rate=0.01)
    again = RankingTask(encoder, few, validation, TINY)
    ours, theirs = (task.model.features.to_arrays() for task in (first, again))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()] == []


def test_every_weight_that_there_is_learns(
    encoder: Encoder, few: ImpressionExamples, validation: ImpressionExamples
) -> None:
    """In each network, by whichever optimiser; dense tables and those updated by row."""
    for run, config in RUNS.items():
        task = RankingTask(encoder, few, validation, config)
        before = {name: value.clone() for name, value in task.model.named_parameters()}
        for batch in task.batches(0):
            task.step(batch, learning_rate=0.01)
        still = [name for name, value in task.model.named_parameters() if value.equal(before[name])]
        assert still == [], run


@pytest.mark.parametrize("variant", ["exact", "paper"])
def test_up_sampling_costs_on_average_what_weights_in_the_loss_cost(
    encoder: Encoder, few: ImpressionExamples, variant: WeightedLogisticVariant
) -> None:
    """And moves the outputs alike: the mean of many draws is near the weighted loss and slope."""
    config = replace(TINY, variant=variant, weighting="up-sampling")
    task = RankingTask(encoder, few, None, config)
    outcomes = outcomes_of(encoder, few, slice(0, 300), torch.device("cpu"))
    outputs = torch.linspace(-3, 5, 300)[:, None].requires_grad_()
    weighted = task.objective.loss(outputs, outcomes)
    (slopes,) = torch.autograd.grad(weighted, outputs)
    num_draws = 2_000
    losses, sums, squares = [], torch.zeros(300), torch.zeros(300)
    for _ in range(num_draws):
        loss = task.objective.loss(outputs, task._drawn(outcomes))
        (slope,) = torch.autograd.grad(loss, outputs)
        losses.append(loss.item())
        sums += slope[:, 0]
        squares += slope[:, 0] ** 2
    error = np.std(losses) / num_draws**0.5
    assert abs(np.mean(losses) - weighted.item()) < 4 * error
    mean = sums / num_draws
    errors = ((squares / num_draws - mean**2) / num_draws).clamp(min=0).sqrt()
    assert ((mean - slopes[:, 0]).abs() <= 5 * errors + 1e-7).all()
    assert (errors > 0).sum() > 200


def test_an_impression_is_drawn_once_on_average(encoder: Encoder, few: ImpressionExamples) -> None:
    task = RankingTask(encoder, few, None, replace(TINY, weighting="up-sampling"))
    outcomes = outcomes_of(encoder, few, slice(None), torch.device("cpu"))
    counts = []
    for _ in range(50):
        drawn = task._drawn(outcomes).drawn
        assert drawn is not None
        copies = (drawn[0] + drawn[1]) * task.draw_rate
        torch.testing.assert_close(copies, copies.round(), atol=1e-3, rtol=1e-4)
        assert not drawn[0][outcomes.watched == 0].any()
        counts.append(copies.mean().item())
    assert np.mean(counts) == pytest.approx(1.0, abs=0.05)


def test_a_table_updated_by_row_learns_from_the_same_first_loss(
    encoder: Encoder, few: ImpressionExamples
) -> None:
    losses = []
    for optimizer in ("adam", "row_adam"):
        config = replace(TINY, optimizer=optimizer, num_epochs=3)
        task = RankingTask(encoder, few, None, config)
        assert bool(task.descent.tables) == (optimizer == "row_adam")
        first = [task.step(batch, learning_rate=0.01).item() for batch in task.batches(0)]
        last = [task.step(batch, learning_rate=0.01).item() for batch in task.batches(0)]
        assert np.mean(last) < np.mean(first)
        losses.append(first)
    assert losses[0][0] == losses[1][0]
    assert losses[0][1:] != losses[1][1:]


def test_large_catalogues_are_updated_by_row(encoder: Encoder, few: ImpressionExamples) -> None:
    num_rows = encoder.catalogue.num_rows
    for most, is_sparse in ((num_rows, False), (num_rows - 1, True)):
        config = replace(TINY, max_dense_items=most)
        assert bool(RankingTask(encoder, few, None, config).descent.tables) == is_sparse


def test_low_precision_learns_as_well(
    encoder: Encoder, few: ImpressionExamples, validation: ImpressionExamples
) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        config = replace(TINY, precision=precision)
        trained = train_ranking(encoder, few, validation, config)
        losses.append(trained.epochs[trained.best_epoch].metrics["validation_loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_batches_are_the_same_whenever_they_are_asked_for(
    encoder: Encoder, few: ImpressionExamples
) -> None:
    task = RankingTask(encoder, few, None, TINY)
    first, second = task.batches(0), task.batches(1)
    for batch in first:
        task.step(batch, learning_rate=0.01)
    for expected, epoch in ((first, 0), (second, 1)):
        assert [one.tolist() for one in task.batches(epoch)] == [one.tolist() for one in expected]
    assert [len(one) for one in first[:-1]] == [40] * (len(first) - 1)
    counts = np.diff(few.starts)
    assert [task.num_examples(one) for one in first] == [counts[one].sum() for one in first]
