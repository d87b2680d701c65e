import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from upnext.config import config_from_table
from upnext.errors import ConfigError, DataError
from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import Indices
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.ranking_inputs import RankingInputs
from upnext.logs.read import read_logs
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.world import SimulationConfig
from upnext.logs.split import split_by_time
from upnext.ranking.calibration import Calibration, CalibrationKind
from upnext.ranking.config import Guide, ObjectiveName, RankingConfig, RankingNetworkConfig
from upnext.ranking.loss import (
    WeightedLogisticVariant,
    watch_time_weights,
    weighted_logistic_loss,
)
from upnext.ranking.model import RankingModel
from upnext.ranking.train import TrainedRanking, train_ranking
from upnext.schema import Floats
from upnext.training.logbook import Epoch, Logbook, Progress
from upnext.training.loop import TrainingError
from upnext.training.schedule import LearningRate, ScheduleName

NETWORK = RankingNetworkConfig(hidden_sizes=(16, 8), embedding_scale=1.0, context_embedding_size=2)
TINY = RankingConfig(
    network=NETWORK,
    requests_per_batch=100,
    learning_rate=0.003,
    num_epochs=1,
    precision="float32",
)


def weights(trained: TrainedRanking) -> dict[str, torch.Tensor]:
    return trained.model.state_dict()


def loss_of(examples: ImpressionExamples, logits: Floats) -> float:
    """The exact variant's loss of logits for all impressions."""
    outcomes = (torch.from_numpy(array) for array in (examples.watched, examples.watch_time_s))
    watched, watch_time_s = (tensor.float() for tensor in outcomes)
    weights = watch_time_weights(watched, watch_time_s, variant="exact")
    return weighted_logistic_loss(torch.from_numpy(logits), *weights).item()


def uncalibrated_s(
    model: RankingModel, encoder: Encoder, examples: ImpressionExamples, requests: Indices
) -> Floats:
    """What is expected of the impressions of some requests, before calibration."""
    with torch.inference_mode():
        inputs = model.inputs(examples.inputs(encoder, requests)[0])
        seconds: Floats = model.scoring.uncalibrated(inputs).numpy()
    return seconds


def calibrated_s(trained: TrainedRanking, encoder: Encoder, examples: ImpressionExamples) -> Floats:
    with torch.inference_mode():
        raw, _ = examples.inputs(encoder, np.arange(examples.num_requests))
        seconds: Floats = trained.model(raw).numpy()
    return seconds


def mean_watch_time_s(examples: ImpressionExamples) -> float:
    """Seconds per impression, those that were not watched included."""
    return float(examples.watch_time_s[examples.watched].sum() / len(examples.watched))


def test_one_seed_gives_one_model(encoder: Encoder, examples: ImpressionExamples) -> None:
    first, again, other = (
        weights(train_ranking(encoder, examples, None, replace(TINY, seed=seed)))
        for seed in (3, 3, 4)
    )
    assert all(first[name].equal(again[name]) for name in first)
    moved = [name for name in first if name.endswith("weight")]
    assert moved
    assert not any(first[name].equal(other[name]) for name in moved)


@pytest.mark.parametrize("hidden_sizes", [(), (8,)])
def test_training_begins_at_the_mean_watch_time(
    encoder: Encoder, examples: ImpressionExamples, hidden_sizes: tuple[int, ...]
) -> None:
    config = replace(TINY, network=replace(NETWORK, hidden_sizes=hidden_sizes), learning_rate=0.0)
    trained = train_ranking(encoder, examples, None, config)
    expected = np.log(mean_watch_time_s(examples))
    assert trained.model.scoring.network.output_bias.item() == pytest.approx(expected, rel=1e-5)


def test_quantiles_are_those_of_the_training_impressions(
    encoder: Encoder, examples: ImpressionExamples
) -> None:
    """So each normalised feature's mean is near 1/2, whatever its unit."""
    model = train_ranking(encoder, examples, None, TINY).model
    raw, _ = examples.inputs(encoder, np.arange(examples.num_requests))
    scales = (model.features.queries, model.features.candidates)
    for scale, features in zip(scales, model.features.raw(raw), strict=True):
        levels = scale.levels(features, powers=False, logs=False)
        assert levels.min() >= 0
        assert levels.max() <= 1 + 1e-6
        for values, known in zip(levels.T, np.isfinite(features), strict=True):
            assert values[known].mean() == pytest.approx(0.5, abs=0.03)


def test_an_epoch_holds_each_request_once_in_a_new_order(
    monkeypatch: pytest.MonkeyPatch, encoder: Encoder, examples: ImpressionExamples
) -> None:
    read: list[Indices] = []
    truly = ImpressionExamples.inputs

    def noted(
        self: ImpressionExamples, encoder: Encoder, requests: Indices
    ) -> tuple[RankingInputs, Indices]:
        read.append(requests)
        return truly(self, encoder, requests)

    monkeypatch.setattr(ImpressionExamples, "inputs", noted)
    train_ranking(encoder, examples, None, replace(TINY, num_epochs=2))
    *ordered, first, second = np.concatenate(read).reshape(-1, examples.num_requests)
    in_order = np.arange(examples.num_requests).tolist()
    assert [np.sort(one).tolist() for one in (*ordered, first, second)] == [in_order] * 4
    assert (first != np.arange(examples.num_requests)).any()
    assert (first != second).any()


def test_unknown_ids_keep_the_zero_vector(encoder: Encoder, examples: ImpressionExamples) -> None:
    item_rows = examples.item_rows.copy()
    item_rows[::5] = 1
    trained = train_ranking(encoder, replace(examples, item_rows=item_rows), None, TINY)
    for name in trained.model.items.tables:
        assert not trained.model.items.get_parameter(f"tables.{name}.weight")[:2].any()
    raw, _ = replace(examples, item_rows=np.ones_like(item_rows)).inputs(encoder, np.arange(5))
    assert not trained.model.inputs(raw)["item_vectors"].any()


def test_scores_do_not_depend_on_what_is_scored_beside(
    encoder: Encoder, examples: ImpressionExamples
) -> None:
    model = train_ranking(encoder, examples, None, TINY).model
    requests = np.array([7, 30, 12])
    together = uncalibrated_s(model, encoder, examples, requests)
    alone = [uncalibrated_s(model, encoder, examples, requests[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(np.concatenate(alone), together, rtol=1e-4)
    assert len(uncalibrated_s(model, encoder, examples, requests[:0])) == 0


def test_without_validation_the_last_epoch_is_kept(
    encoder: Encoder, examples: ImpressionExamples
) -> None:
    told: list[Epoch] = []
    config = replace(TINY, num_epochs=3)
    trained = train_ranking(encoder, examples, None, config, on_epoch=told.append)
    assert tuple(told) == trained.epochs
    assert [epoch.epoch for epoch in told] == [0, 1, 2]
    assert not any(epoch.metrics for epoch in told)
    assert trained.best_epoch == 2
    assert not trained.model.training


@pytest.mark.parametrize(("variant", "expected_s"), [("exact", 10.0), ("paper", 20.0)])
def test_the_odds_are_those_that_the_variant_promises(
    encoder: Encoder,
    examples: ImpressionExamples,
    variant: WeightedLogisticVariant,
    expected_s: float,
) -> None:
    """Half of all impressions, whichever, are watched for 20 s: E[T], and E[T] / (1 − P)."""
    by_chance = np.random.default_rng(6).random(len(examples.watched)) < 0.5
    seconds = np.full(len(by_chance), 20.0, np.float32)
    alike = replace(examples, watched=by_chance, watch_time_s=seconds)
    config = replace(TINY, variant=variant, learning_rate=0.01, num_epochs=5)
    model = train_ranking(encoder, alike, None, config).model
    seconds = uncalibrated_s(model, encoder, alike, np.arange(alike.num_requests))
    assert np.log(seconds).mean() == pytest.approx(np.log(expected_s), abs=0.15)


def test_nothing_watched_is_an_error(encoder: Encoder, examples: ImpressionExamples) -> None:
    unwatched = replace(examples, watched=np.zeros_like(examples.watched))
    with pytest.raises(DataError, match="impressions: expected some that were watched, got none"):
        train_ranking(encoder, unwatched, None, TINY)


def test_a_loss_that_runs_away_is_an_error(encoder: Encoder, examples: ImpressionExamples) -> None:
    with pytest.raises(TrainingError, match=r"a lower .* learning_rate usually helps"):
        train_ranking(encoder, examples, None, replace(TINY, learning_rate=1e30))


@pytest.mark.parametrize(
    ("schedule", "warmup_share"), [("linear", 0.0), ("cosine", 0.3), ("constant", 0.5)]
)
def test_the_learning_rate_follows_the_schedule_over_all_planned_epochs(
    encoder: Encoder, examples: ImpressionExamples, schedule: ScheduleName, warmup_share: float
) -> None:
    told: list[Progress] = []
    config = replace(TINY, num_epochs=3, learning_rate_schedule=schedule, warmup_share=warmup_share)
    logbook = Logbook(on_progress=told.append, progress_every_s=0.0)
    train_ranking(encoder, examples, None, config, stop_after=2, logbook=logbook)
    rate = LearningRate(peak=TINY.learning_rate, schedule=schedule, warmup_share=warmup_share)
    num_steps = 3 * -(-examples.num_requests // TINY.requests_per_batch)
    assert len(told) == num_steps * 2 // 3
    expected = [rate.at(step / num_steps) for step in range(len(told))]
    np.testing.assert_allclose([progress.learning_rate for progress in told], expected, rtol=1e-9)


def test_a_checkpoint_of_other_settings_or_impressions_is_refused(
    encoder: Encoder, examples: ImpressionExamples, tmp_path: Path
) -> None:
    logbook = Logbook(directory=tmp_path)
    train_ranking(encoder, examples, None, TINY, logbook=logbook)
    smaller = replace(TINY, network=replace(NETWORK, hidden_sizes=(8,)))
    with pytest.raises(ConfigError, match=r"config\.network\.hidden_sizes: .*\[8\], got \[16, 8\]"):
        train_ranking(encoder, examples, None, smaller, logbook=logbook)
    longer = examples.watch_time_s.copy()
    longer[examples.watched.argmax()] += 1.0
    for shown, held_out in ((replace(examples, watch_time_s=longer), None), (examples, examples)):
        with pytest.raises(DataError, match="data: expected that of this run"):
            train_ranking(encoder, shown, held_out, TINY, logbook=logbook)


@pytest.mark.parametrize("name", ["requests_per_batch", "num_epochs", "patience"])
def test_counts_below_one_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: expected 1 or more, got 0"):
        config_from_table({name: 0}, RankingConfig, where="run.toml [ranking]")


def test_a_warmup_that_never_ends_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[ranking\] warmup_share: expected a share below 1"):
        RankingConfig(warmup_share=1.0)


@dataclass(frozen=True)
class Platform:
    """Five days to learn from and the two that followed."""

    encoder: Encoder
    train: ImpressionExamples
    validation: ImpressionExamples


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    directory = tmp_path_factory.mktemp("platform") / "logs"
    simulate(SimulationConfig(num_users=300, num_items=150, num_days=7, num_channels=12), directory)
    logs = read_logs(directory)[0]
    split = split_by_time(logs, validation_days=2, test_days=0.01)
    config = ExamplesConfig(num_watches=10, num_searches=5, num_shown=20)
    encoder, users = build_encoder(split.train, config), user_vocabulary(logs)
    assert split.train.impressions is not None
    assert split.validation.impressions is not None
    return Platform(
        encoder,
        build_impression_examples(
            encoder, encoder.history(split.train, users), users, split.train.impressions
        ),
        build_impression_examples(
            encoder, encoder.history(logs, users), users, split.validation.impressions
        ),
    )


@pytest.fixture(scope="module")
def small(platform: Platform) -> Platform:
    """Every third request of it."""
    parts = (platform.train, platform.validation)
    train, validation = (part.take(np.arange(0, part.num_requests, 3)) for part in parts)
    return Platform(platform.encoder, train, validation)


def test_it_foretells_watch_time_better_than_the_mean(platform: Platform) -> None:
    config = replace(TINY, requests_per_batch=50, num_epochs=3)
    trained = train_ranking(platform.encoder, platform.train, platform.validation, config)
    assert trained.epochs[-1].loss < trained.epochs[0].loss
    validation = platform.validation
    constant = np.log(mean_watch_time_s(platform.train)) * np.ones(len(validation.watched))
    best = trained.epochs[trained.best_epoch].metrics
    assert best["validation_loss"] < loss_of(validation, constant.astype(np.float32)) - 0.2
    # A constant ranks half of the watch time wrongly.
    assert best["validation_weighted_per_user_loss"] < 0.35


@pytest.mark.parametrize("guide", get_args(Guide))
def test_the_guides_best_epoch_is_kept_and_patience_ends_training(
    platform: Platform, guide: Guide
) -> None:
    """A learning rate far too high soon makes things worse."""
    config = replace(TINY, guide=guide, learning_rate=0.05, num_epochs=20, patience=2)
    trained = train_ranking(platform.encoder, platform.train, platform.validation, config)
    told = [epoch.metrics[guide] for epoch in trained.epochs]
    assert trained.best_epoch == int(np.argmin(told))
    assert len(told) == trained.best_epoch + 1 + 2 < 20
    raw, _ = platform.validation.inputs(
        platform.encoder, np.arange(platform.validation.num_requests)
    )
    with torch.inference_mode():
        logits = trained.model.scoring.outputs(trained.model.inputs(raw))[:, 0].numpy()
    found = loss_of(platform.validation, logits)
    best = trained.epochs[trained.best_epoch].metrics
    assert found == pytest.approx(best["validation_loss"], rel=1e-5)


def test_pages_of_one_slot_are_chosen_by_the_loss_as_nothing_stands_beside_a_watch(
    small: Platform,
) -> None:
    counts = np.diff(small.validation.starts)
    one_slot_each = replace(
        small.validation,
        user_rows=np.repeat(small.validation.user_rows, counts),
        at_ms=np.repeat(small.validation.at_ms, counts),
        starts=np.arange(counts.sum() + 1),
    )
    config = replace(TINY, learning_rate=0.05, num_epochs=20, patience=1)
    trained = train_ranking(small.encoder, small.train, one_slot_each, config)
    metrics = [epoch.metrics for epoch in trained.epochs]
    assert all(math.isnan(one["validation_weighted_per_user_loss"]) for one in metrics)
    losses = [one["validation_loss"] for one in metrics]
    assert trained.best_epoch == int(np.argmin(losses))
    assert len(losses) == trained.best_epoch + 2 < 20


@pytest.mark.parametrize("objective", get_args(ObjectiveName))
def test_every_objective_ranks_better_than_chance_and_foretells_the_sum(
    small: Platform, objective: ObjectiveName
) -> None:
    config = replace(TINY, objective=objective, requests_per_batch=50, num_epochs=2)
    trained = train_ranking(small.encoder, small.train, small.validation, config)
    best = trained.epochs[trained.best_epoch].metrics
    assert best["validation_weighted_per_user_loss"] < 0.45
    seconds = calibrated_s(trained, small.encoder, small.validation)
    assert seconds.sum() == pytest.approx(small.validation.watch_time_s.sum(), rel=0.05)


@pytest.mark.parametrize("kind", ["isotonic", "scale", "none"])
def test_calibration_is_fitted_on_validation_and_keeps_its_order(
    small: Platform, kind: CalibrationKind
) -> None:
    config = replace(TINY, calibration=kind, variant="paper")
    trained = train_ranking(small.encoder, small.train, small.validation, config)
    seconds = calibrated_s(trained, small.encoder, small.validation)
    requests = np.arange(small.validation.num_requests)
    before = uncalibrated_s(trained.model, small.encoder, small.validation, requests)
    assert (np.diff(seconds[np.argsort(before, kind="stable")]) >= 0).all()
    actual_s = small.validation.watch_time_s.sum()
    if kind == "none":
        assert seconds.tobytes() == before.tobytes()
    else:
        assert seconds.sum() == pytest.approx(actual_s, rel=0.05)
        assert abs(before.sum() - actual_s) > 2 * abs(seconds.sum() - actual_s)


def test_a_refit_takes_calibration_over(encoder: Encoder, examples: ImpressionExamples) -> None:
    """There is no validation left to fit one on."""
    chosen = train_ranking(encoder, examples, examples.take(np.arange(200)), TINY)
    again = train_ranking(encoder, examples, None, TINY, calibration=chosen.calibration)
    alone = train_ranking(encoder, examples, None, TINY)
    state, nothing = chosen.calibration.state_dict(), Calibration().state_dict()
    assert any(not state[name].equal(value) for name, value in nothing.items())
    assert all(again.calibration.state_dict()[name].equal(state[name]) for name in state)
    assert all(alone.calibration.state_dict()[name].equal(nothing[name]) for name in state)
