from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch

from upnext.config import config_from_table
from upnext.errors import ConfigError, DataError
from upnext.evaluation.metrics import recall_at_k
from upnext.evaluation.ranks import SeenRows, rank_targets
from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import History, Indices
from upnext.examples.watches import WatchTargets, watch_targets
from upnext.logs.read import read_logs
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.world import SimulationConfig
from upnext.logs.split import split_by_time
from upnext.retrieval import step as room
from upnext.retrieval.config import Objective, RetrievalConfig
from upnext.retrieval.model import RetrievalNetworkConfig
from upnext.retrieval.sampling import SamplerName
from upnext.retrieval.train import train_retrieval
from upnext.retrieval.trained import TrainedRetrieval, user_vectors
from upnext.schema import Floats, Logs, Rows
from upnext.sources import most_watched
from upnext.training.logbook import Epoch
from upnext.training.loop import TrainingError

NETWORK = RetrievalNetworkConfig(
    vector_size=8,
    embedding_size=8,
    search_embedding_size=4,
    context_embedding_size=2,
    hidden_sizes=(16,),
)
TINY = RetrievalConfig(
    network=NETWORK, batch_size=64, num_negatives=30, learning_rate=0.01, num_epochs=3
)


def weights(trained: TrainedRetrieval) -> dict[str, torch.Tensor]:
    return trained.model.state_dict()


@pytest.mark.skipif(torch.cuda.is_available(), reason="an accelerator adds up in any order")
def test_one_seed_gives_one_model(encoder: Encoder, history: History) -> None:
    config = replace(TINY, network=replace(NETWORK, dropout=0.2), num_epochs=2)
    first, again, other = (
        weights(train_retrieval(encoder, history, None, replace(config, seed=seed)))
        for seed in (3, 3, 4)
    )
    assert all(first[name].equal(again[name]) for name in first)
    assert not any(first[name].equal(other[name]) for name in first)


@pytest.mark.parametrize("sampler", get_args(SamplerName))
def test_sampled_training_learns_and_leaves_reserved_rows_alone(
    encoder: Encoder, history: History, sampler: SamplerName
) -> None:
    config = replace(TINY, sampler=sampler, num_negatives=60, num_epochs=6, weight_decay=0.1)
    trained = train_retrieval(encoder, history, None, config)
    losses = [epoch.loss for epoch in trained.epochs]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.1
    item_vectors = trained.item_vectors()
    assert item_vectors.shape == (encoder.catalogue.num_rows, 8)
    assert item_vectors.dtype == np.float32
    assert not item_vectors[:2].any()
    assert not trained.model.watch_table.weight[:2].any()


@pytest.mark.parametrize("loss", get_args(Objective))
def test_every_objective_learns(encoder: Encoder, history: History, loss: Objective) -> None:
    config = replace(TINY, loss=loss, num_negatives=40, num_epochs=5, unique_negatives=True)
    losses = [epoch.loss for epoch in train_retrieval(encoder, history, None, config).epochs]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.05


def test_row_by_row_training_learns_what_whole_tables_learn(
    encoder: Encoder, history: History
) -> None:
    config = replace(TINY, num_epochs=6, num_negatives=60)
    whole = train_retrieval(encoder, history, None, replace(config, optimizer="adam"))
    rows = train_retrieval(encoder, history, None, replace(config, optimizer="row_adam"))
    assert rows.epochs[-1].loss < rows.epochs[0].loss - 0.1
    assert rows.epochs[-1].loss == pytest.approx(whole.epochs[-1].loss, abs=0.3)
    assert not rows.item_vectors()[:2].any()


def test_declared_features_are_learned_row_by_row_too(tiny_logs: Logs) -> None:
    described = build_encoder(
        tiny_logs, ExamplesConfig(num_watches=10, item_features=("channel_id", "tags"))
    )
    history = described.history(tiny_logs, user_vocabulary(tiny_logs))
    config = replace(TINY, network=replace(NETWORK, item_dropout=0.3), optimizer="row_adam")
    trained = train_retrieval(described, history, None, config)
    assert trained.epochs[-1].loss < trained.epochs[0].loss
    assert not trained.item_vectors()[:2].any()


def test_items_without_features_cannot_be_told_by_them(encoder: Encoder, history: History) -> None:
    config = replace(TINY, network=replace(NETWORK, item_dropout=0.3))
    with pytest.raises(ConfigError, match="item_dropout: expected 0 without"):
        train_retrieval(encoder, history, None, config)


@pytest.mark.parametrize("num_watches", [1, 2])
def test_attention_over_the_shortest_histories(tiny_logs: Logs, num_watches: int) -> None:
    encoder = build_encoder(tiny_logs, ExamplesConfig(num_watches=num_watches, recent_watches=()))
    history = encoder.history(tiny_logs, user_vocabulary(tiny_logs))
    config = replace(TINY, network=replace(NETWORK, history="attention"), num_epochs=1)
    trained = train_retrieval(encoder, history, None, config)
    assert np.isfinite(trained.typical_user_vectors(history)).all()


def test_low_precision_learns_as_well(encoder: Encoder, history: History) -> None:
    config = replace(TINY, num_epochs=5)
    full, half = (
        train_retrieval(encoder, history, None, replace(config, precision=precision))
        for precision in get_args(Literal["float32", "bfloat16"])
    )
    assert half.epochs[-1].loss == pytest.approx(full.epochs[-1].loss, abs=0.05)
    assert half.item_vectors().dtype == np.float32


def test_a_catalogue_no_larger_than_the_draw_takes_the_full_softmax(
    encoder: Encoder, history: History
) -> None:
    sampled = train_retrieval(encoder, history, None, replace(TINY, num_negatives=500))
    full = train_retrieval(encoder, history, None, replace(TINY, loss="full_softmax"))
    assert [epoch.loss for epoch in sampled.epochs] == [epoch.loss for epoch in full.epochs]
    assert full.epochs[-1].loss < full.epochs[0].loss - 0.1


def test_without_validation_the_last_epoch_is_kept(encoder: Encoder, history: History) -> None:
    told: list[Epoch] = []
    trained = train_retrieval(encoder, history, None, TINY, on_epoch=told.append)
    assert tuple(told) == trained.epochs
    assert [epoch.epoch for epoch in told] == [0, 1, 2]
    assert not any(epoch.metrics for epoch in told)
    assert trained.best_epoch == 2
    assert not trained.model.training


def test_a_validation_without_watches_is_none(encoder: Encoder, history: History) -> None:
    no_rows = np.zeros(0, np.int64)
    nothing = WatchTargets(history, no_rows, no_rows, no_rows.astype(np.int32))
    trained = train_retrieval(encoder, history, nothing, replace(TINY, num_epochs=2))
    assert trained.epochs[0].metrics == {}
    assert trained.best_epoch == 1


def test_user_vectors_do_not_depend_on_the_order_of_queries(
    encoder: Encoder, history: History
) -> None:
    """The moments just after each watch and each search, so that either kind may repeat."""
    trained = train_retrieval(encoder, history, None, replace(TINY, num_epochs=1))
    logs = (history.watches, history.searches)
    user_rows = np.concatenate([log.user_rows() for log in logs])
    at_ms = np.concatenate([log.at_ms + 1 for log in logs])
    queries = trained.query_encoder.queries(history, user_rows, at_ms)
    vectors = trained.user_vectors(history, queries)
    shuffled = np.random.default_rng(5).permutation(len(queries))
    in_disorder = trained.user_vectors(history, queries[shuffled])
    np.testing.assert_allclose(in_disorder, vectors[shuffled], rtol=1e-5, atol=1e-6)
    for place in (0, 700, len(queries) - 1):
        alone = trained.user_vectors(history, queries[place : place + 1])
        np.testing.assert_allclose(alone[0], vectors[place], rtol=1e-4, atol=1e-5)
    assert trained.user_vectors(history, queries[:0]).shape == (0, 8)


def test_user_vectors_are_the_tower_on_averages_at_age_zero(
    encoder: Encoder, history: History
) -> None:
    trained = train_retrieval(encoder, history, None, replace(TINY, num_epochs=1))
    model, config = trained.model, encoder.config
    user_rows = np.arange(2, 12)
    at_ms = np.full(10, history.watches.at_ms.max())
    queries = trained.query_encoder.queries(history, user_rows, at_ms)

    def mean(weight: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Zeros are at rows 0 and 1; so only the divisor must know them."""
        num_known = torch.from_numpy((rows > 1).sum(axis=1, keepdims=True)).clamp(min=1)
        return weight[torch.from_numpy(rows)].sum(dim=1) / num_known

    watched = history.watches.rows_in(queries.watch_lo, queries.watch_hi, config.num_watches)
    searched = history.searches.rows_in(queries.search_lo, queries.search_hi, config.num_searches)
    means = [mean(model.watch_table.weight, watched[:, -w:]) for w in config.watch_windows]
    with torch.inference_mode():
        expected = model.tower(
            torch.cat(means, dim=1),
            mean(model.search_table.weight, searched),
            torch.from_numpy(queries.context_rows),
            torch.from_numpy(queries.context_values),
            torch.zeros(10),
        )
    np.testing.assert_allclose(
        trained.user_vectors(history, queries), expected, rtol=1e-4, atol=1e-5
    )


def test_typical_user_vectors_are_some_users_latest(encoder: Encoder, history: History) -> None:
    trained = train_retrieval(encoder, history, None, replace(TINY, num_epochs=1))
    num_active = np.count_nonzero(np.diff(history.watches.starts))
    everyone = trained.typical_user_vectors(history)
    assert everyone.shape == (num_active, 8)
    some = trained.typical_user_vectors(history, num_vectors=10)
    assert 10 <= len(some) < 20
    assert all(np.isclose(everyone, one, atol=1e-4).all(axis=1).any() for one in some)


def test_examples_skip_newest_watches_and_validation_none(
    monkeypatch: pytest.MonkeyPatch, encoder: Encoder, history: History
) -> None:
    skipped: list[Indices] = []

    def noted(*inputs: Any, **options: Any) -> torch.Tensor:
        skipped.append(options["skipped"])
        return user_vectors(*inputs, **options)

    monkeypatch.setattr(room, "user_vectors", noted)
    train_retrieval(encoder, history, None, replace(TINY, skipped_watches=1.5, num_epochs=4))
    num_skipped = np.concatenate(skipped)
    # A geometric law with mean 1.5 has the deviation √(1.5 · 2.5).
    standard_error = np.sqrt(1.5 * 2.5 / len(num_skipped))
    assert num_skipped.min() == 0
    assert abs(num_skipped.mean() - 1.5) < 4 * standard_error


def test_frequent_items_become_examples_more_rarely(
    monkeypatch: pytest.MonkeyPatch, encoder: Encoder, history: History
) -> None:
    """Of an item with share f of the watches a share √(t/f) + t/f is kept, at most all."""
    seen: list[Rows] = []

    def noted(model: Any, query_encoder: Any, past: Any, queries: Any, *rest: Any, **options: Any):  # type: ignore[no-untyped-def]
        rows = past.watches.rows[queries.watch_hi]
        seen.append(rows)
        return user_vectors(model, query_encoder, past, queries, *rest, **options)

    monkeypatch.setattr(room, "user_vectors", noted)
    threshold = 0.002
    config = replace(TINY, subsampling=threshold, num_epochs=8, examples_per_user=0)
    train_retrieval(encoder, history, None, config)
    counts = np.bincount(history.watches.rows, minlength=encoder.catalogue.num_rows)[2:]
    share = counts / counts.sum()
    expected = 8 * counts * np.minimum(np.sqrt(threshold / share) + threshold / share, 1)
    kept = sum(len(rows) for rows in seen)
    assert expected.sum() < 0.8 * 8 * counts.sum()
    assert abs(kept - expected.sum()) < 5 * np.sqrt(expected.sum())


def test_the_learning_rate_falls_in_a_straight_line_to_zero(
    monkeypatch: pytest.MonkeyPatch, encoder: Encoder, history: History
) -> None:
    rates: list[float] = []
    truly = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW) -> None:
        rates.append(self.param_groups[0]["lr"])
        truly(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    config = replace(TINY, batch_size=100_000, num_epochs=4)
    train_retrieval(encoder, history, None, config)
    np.testing.assert_allclose(rates, config.learning_rate * np.array([1.0, 0.75, 0.5, 0.25]))


def test_no_completed_watch_is_an_error(encoder: Encoder, history: History) -> None:
    with pytest.raises(DataError, match="completed watches of known items, got none"):
        train_retrieval(encoder, history, None, replace(TINY, completed_share=1e6))


def test_a_loss_that_runs_away_is_an_error(encoder: Encoder, history: History) -> None:
    with pytest.raises(TrainingError, match=r"a lower .* learning_rate usually helps"):
        train_retrieval(encoder, history, None, replace(TINY, learning_rate=1e30))


@pytest.mark.parametrize(
    ("name", "least"),
    [("batch_size", 1), ("num_negatives", 1), ("patience", 1), ("examples_per_user", 0)],
)
def test_counts_that_make_no_sense_are_refused(name: str, least: int) -> None:
    with pytest.raises(ConfigError, match=f"{name}: expected {least} or more, got {least - 1}"):
        config_from_table({name: least - 1}, RetrievalConfig, where="run.toml [retrieval]")


@dataclass(frozen=True)
class Platform:
    """Two weeks of a platform, split in time: learn from the first, be measured on the last."""

    encoder: Encoder
    history: History
    validation: WatchTargets
    test: WatchTargets

    def recall(self, scores: Floats, targets: WatchTargets, k: int) -> float:
        """Mean Recall@k over the whole catalogue, watched items left out."""
        ranked = rank_targets(
            lambda part: scores[part],
            targets.item_rows,
            num_rows=self.encoder.catalogue.num_rows,
            seen=SeenRows(*targets.watched_before()),
        )
        return float(recall_at_k(ranked.ranks, k).mean())

    def scores(self, trained: TrainedRetrieval, targets: WatchTargets) -> Floats:
        past = targets.history
        queries = trained.query_encoder.queries(past, targets.user_rows, targets.at_ms)
        scores: Floats = trained.user_vectors(past, queries) @ trained.item_vectors().T
        return scores


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    directory: Path = tmp_path_factory.mktemp("platform") / "logs"
    simulate(
        SimulationConfig(num_users=800, num_items=250, num_days=14, num_channels=12), directory
    )
    logs: Logs = read_logs(directory)[0]
    split = split_by_time(logs, validation_days=1, test_days=1)
    encoder = build_encoder(split.train, ExamplesConfig(num_watches=20, num_searches=10))
    users = user_vocabulary(logs)
    history = encoder.history(logs, users)
    validation, test = (
        watch_targets(encoder, history, users, part.watches).first_watches()
        for part in (split.validation, split.test)
    )
    return Platform(encoder, encoder.history(split.train, users), validation, test)


LEARNER = RetrievalConfig(
    network=replace(
        NETWORK, vector_size=16, embedding_size=16, hidden_sizes=(32,), tied=True, dropout=0.2
    ),
    batch_size=256,
    num_negatives=100,
    learning_rate=0.005,
    weight_decay=0.1,
    num_epochs=4,
)


def test_it_finds_far_more_of_the_next_days_than_most_watched(platform: Platform) -> None:
    trained = train_retrieval(platform.encoder, platform.history, platform.validation, LEARNER)
    assert trained.epochs[-1].loss < trained.epochs[0].loss - 0.2
    num_rows = platform.encoder.catalogue.num_rows
    baseline = most_watched(platform.history.watches.rows).scores_of_all(num_rows)
    for targets in (platform.validation, platform.test):
        recall = platform.recall(platform.scores(trained, targets), targets, 20)
        popular = np.broadcast_to(baseline, (len(targets), num_rows))
        assert recall > 1.3 * platform.recall(popular, targets, 20)


def test_the_best_epoch_is_kept_and_patience_ends_training(platform: Platform) -> None:
    """A learning rate far too high soon makes things worse."""
    config = replace(
        LEARNER,
        learning_rate=0.1,
        num_epochs=40,
        patience=2,
        examples_per_user=10,
        num_negatives=50,
    )
    trained = train_retrieval(platform.encoder, platform.history, platform.validation, config)
    recalls = [epoch.metrics["recall_at_50"] for epoch in trained.epochs]
    assert trained.best_epoch == int(np.argmax(recalls))
    assert len(recalls) == trained.best_epoch + 1 + 2 < 40
    recall = platform.recall(platform.scores(trained, platform.validation), platform.validation, 50)
    assert recall == pytest.approx(max(recalls))
