"""One, two and four workers learn the same retrieval, their tables whole or dealt out."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.training.workers import together

from upnext.examples.encoder import Encoder
from upnext.examples.history import History
from upnext.examples.watches import WatchTargets
from upnext.retrieval.attention import AttentionConfig
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import RetrievalNetworkConfig
from upnext.retrieval.sampling import negative_sampler
from upnext.retrieval.train import train_retrieval
from upnext.training.group import ALONE, Group
from upnext.training.logbook import Logbook, Progress
from upnext.training.loop import TrainingError
from upnext.training.tables import new_table

NETWORK = RetrievalNetworkConfig(
    vector_size=8, embedding_size=8, search_embedding_size=4, hidden_sizes=(16,)
)
CONFIG = RetrievalConfig(
    network=NETWORK, batch_size=61, num_negatives=30, num_epochs=8, patience=99, precision="float32"
)
ATTENTION = replace(NETWORK, history="attention", attention=AttentionConfig(dropout=0.0))


@pytest.fixture(scope="module")
def targets(encoder: Encoder, history: History) -> WatchTargets:
    """Each user's last watch, and one of an item that training does not know."""
    starts = history.watches.starts
    users = np.flatnonzero(np.diff(starts))
    last = starts[users + 1] - 1
    item_rows = history.watches.rows[last].copy()
    item_rows[0] = 1
    return WatchTargets(history, users, history.watches.at_ms[last], item_rows)


Told = tuple[list[float], list[dict[str, float]], NDArray[np.float32]]


def trained(
    encoder: Encoder, history: History, targets: WatchTargets | None, config: RetrievalConfig
) -> Callable[[Group], Told]:
    """Losses step by step, metrics of each epoch, and user vectors of the end."""

    def work(group: Group) -> Told:
        losses = list[float]()

        def note(progress: Progress) -> None:
            losses.append(progress.loss)

        logbook = Logbook(on_progress=note, progress_every_s=0.0)
        outcome = train_retrieval(encoder, history, targets, config, logbook=logbook, group=group)
        metrics = [dict(epoch.metrics) for epoch in outcome.epochs]
        return losses, metrics, outcome.typical_user_vectors(history)

    return work


BY_ROW = replace(CONFIG, optimizer="row_adam")
RUNS: dict[str, tuple[RetrievalConfig, int | None]] = {
    "adam": (CONFIG, None),
    "by row": (replace(BY_ROW, skipped_watches=1.0), None),
    "nce": (replace(CONFIG, loss="noise_contrastive"), None),
    "sharded": (BY_ROW, 10),
    "sharded, learned": (
        replace(BY_ROW, sampler="learned_unigram", network=replace(NETWORK, tied=True)),
        10,
    ),
    "sharded, mixed": (replace(BY_ROW, sampler="mixed", unique_negatives=True), 10),
    "sharded, full": (replace(BY_ROW, loss="full_softmax"), 10),
}


@pytest.mark.parametrize(
    ("run", "num_workers"),
    [*zip(RUNS, itertools.cycle([2, 4])), ("adam", 4), ("sharded", 2)],
)
def test_workers_have_the_losses_of_one(
    encoder: Encoder,
    history: History,
    targets: WatchTargets,
    num_workers: int,
    run: str,
) -> None:
    config, shard_above_rows = RUNS[run]
    work = trained(encoder, history, targets, config)
    alone, metrics, vectors = work(ALONE)
    assert len(alone) >= 100
    for losses, their_metrics, their_vectors in together(
        num_workers, work, shard_above_rows=shard_above_rows
    ):
        np.testing.assert_allclose(losses[:100], alone[:100], atol=1e-4)
        for theirs, ours in zip(their_metrics, metrics, strict=True):
            assert theirs == pytest.approx(ours, abs=0.03)
        np.testing.assert_allclose(their_vectors, vectors, atol=0.05)


def test_attention_differs_only_by_the_passes_that_borders_of_shares_cut(
    encoder: Encoder, history: History
) -> None:
    """The first examples of a pass see fewer watches, and each share begins a pass."""
    config = replace(CONFIG, network=ATTENTION)
    work = trained(encoder, history, None, config)
    alone = work(ALONE)[0]
    for losses, _, _ in together(2, work):
        np.testing.assert_allclose(losses[:100], alone[:100], rtol=0.03)


@pytest.mark.parametrize("shard_above_rows", [None, 10])
def test_shares_without_any_past_learn_along(
    encoder: Encoder, history: History, shard_above_rows: int | None
) -> None:
    """Fewer examples than workers, and first watches, which attention has nothing to attend to."""
    config = replace(
        CONFIG, network=ATTENTION, optimizer="row_adam", batch_size=3, skipped_watches=3.0
    )
    work = trained(encoder, history, None, replace(config, num_epochs=1))
    alone = work(ALONE)[0]
    for losses, _, _ in together(4, work, shard_above_rows=shard_above_rows):
        np.testing.assert_allclose(losses[:60], alone[:60], rtol=0.05)


def test_workers_that_see_different_checkpoints_do_not_go_on(
    encoder: Encoder, history: History, tmp_path: Path
) -> None:
    def part(stop_after: int, rank_without: int | None) -> Callable[[Group], None]:
        def work(group: Group) -> None:
            directory = tmp_path / ("away" if group.rank == rank_without else "here")
            logbook = Logbook(directory=directory)
            train_retrieval(
                encoder, history, None, CONFIG, stop_after=stop_after, logbook=logbook, group=group
            )

        return work

    together(2, part(1, None))
    with pytest.raises(RuntimeError, match="checkpoints of different steps"):
        together(2, part(2, 1))


def test_ranks_found_by_shards_are_those_found_whole(
    encoder: Encoder, history: History, targets: WatchTargets
) -> None:
    """Rank by rank and before any learning, so that no sum differs in its last bit for long."""
    config = replace(CONFIG, num_epochs=1, learning_rate=1e-9)
    work = trained(encoder, history, targets, config)
    metrics = work(ALONE)[1]
    for size in (2, 3):
        for _, theirs, _ in together(size, work):
            assert theirs == [pytest.approx(one, abs=1e-9) for one in metrics]


@pytest.mark.parametrize("shard_above_rows", [None, 10])
def test_fewer_workers_go_on_where_more_stopped(
    encoder: Encoder,
    history: History,
    targets: WatchTargets,
    shard_above_rows: int | None,
    tmp_path: Path,
) -> None:
    config = replace(CONFIG, optimizer="row_adam", network=replace(NETWORK, dropout=0.1))

    def part(num_epochs: int) -> Callable[[Group], float]:
        def work(group: Group) -> float:
            outcome = train_retrieval(
                encoder,
                history,
                targets,
                config,
                stop_after=num_epochs,
                logbook=Logbook(directory=tmp_path),
                group=group,
            )
            assert len(outcome.epochs) == num_epochs
            return outcome.epochs[-1].loss

        return work

    plain = train_retrieval(encoder, history, targets, config).epochs
    for size, num_epochs in ((4, 2), (2, 5), (3, 7), (1, 8)):
        loss = together(size, part(num_epochs), shard_above_rows=shard_above_rows)[0]
        assert loss == pytest.approx(plain[num_epochs - 1].loss, abs=0.1)


def test_a_loss_that_runs_away_ends_all_workers_alike(encoder: Encoder, history: History) -> None:
    config = replace(CONFIG, learning_rate=1e30, num_epochs=2)
    with pytest.raises(RuntimeError, match=TrainingError.__name__):
        together(2, trained(encoder, history, None, config))


@dataclass(frozen=True)
class Estimates:
    """Of every draw: Σ exp(u · v) / E; and this worker's rows of the mean gradient of its log."""

    partitions: list[float]
    gradient: NDArray[np.float32]
    num_own_rows: int


def test_negatives_drawn_over_shards_estimate_the_full_softmax() -> None:
    """Σ_j exp(s_j) / E_j over a draw, its vectors read from four workers, and the gradient that
    goes back to them, have the full softmax as their expectation."""
    num_rows, size, num_draws = 42, 6, 600
    counts = np.random.default_rng(3).integers(1, 50, num_rows)
    user = torch.randn(size, generator=torch.Generator().manual_seed(4))

    def work(group: Group) -> Estimates:
        torch.manual_seed(5)
        table = new_table(num_rows, size, is_sparse=True, group=group)
        sampler = negative_sampler("unigram", num_watches=counts, power=0.75, num_negatives=20)
        generator = torch.Generator().manual_seed(6)
        partitions, gradient = list[float](), torch.zeros_like(table.weight)
        for _ in range(num_draws):
            rows, log_expected = sampler.draw(torch.tensor([2]), generator)
            part = (table(rows) @ user - log_expected).exp().sum()
            partitions.append(part.item())
            (part / (num_draws * group.size)).backward()
            places, of_rows = table.take_gradient()
            gradient.index_add_(0, places, of_rows)
        return Estimates(partitions, gradient.numpy(), len(table.weight))

    torch.manual_seed(5)
    whole = new_table(num_rows, size, is_sparse=False, group=ALONE)
    full = (whole.weight[2:] @ user).exp().sum()
    full.backward()  # type: ignore[no-untyped-call]
    assert whole.weight.grad is not None
    told: list[Estimates] = together(4, work, shard_above_rows=10)
    assert [one.num_own_rows for one in told] == [11, 11, 10, 10]
    for rank, one in enumerate(told):
        error = np.std(one.partitions) / num_draws**0.5
        assert np.mean(one.partitions) == pytest.approx(full.item(), abs=4 * error)
        expected = whole.weight.grad[rank::4].numpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(one.gradient, expected, atol=0.25 * scale)
