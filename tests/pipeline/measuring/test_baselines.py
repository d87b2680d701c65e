"""Each baseline stands in the setting that did best on validation, fitted on all it may see."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from upnext.examples.encoder import ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.watches import watch_targets
from upnext.pipeline.config import EvaluationConfig
from upnext.pipeline.measuring.baselines import Baseline, best_baselines
from upnext.schema import Logs, Watches

MakeLogs = Callable[..., Logs]
HOUR_MS = 3_600_000
OLD = [f"old {number}" for number in range(120)]
NEW = [f"new {number}" for number in range(60)]


@dataclass(frozen=True)
class Days:
    """Five days ago everybody watched the old items, an hour ago a few watched the new ones."""

    train: Logs
    validation: Logs
    later: Logs


@pytest.fixture
def days(make_logs: MakeLogs, request: pytest.FixtureRequest) -> Days:
    watched = [(f"u{user}", item, HOUR_MS, 60.0) for item in OLD for user in range(3)]
    watched += [("u3", item, 119 * HOUR_MS, 60.0) for item in NEW]
    train = make_logs(watches=watched, items=[])
    validation = [
        ("u4", item, 120 * HOUR_MS + step, 9.0) for step, item in enumerate(request.param)
    ]
    later = [("u4", "old 7", 121 * HOUR_MS + step, 9.0) for step in range(50)]
    return Days(train, make_logs(watches=validation), make_logs(watches=[*watched, *later]))


def fitted(days: Days, fitted_on: Logs, lately_days: tuple[float, ...]) -> tuple[Baseline, ...]:
    everything = Logs(
        watches=Watches(days.train.watches.frame.vstack(days.validation.watches.frame)),
        items=days.train.items,
    )
    encoder, users = build_encoder(days.train, ExamplesConfig()), user_vocabulary(everything)
    history = encoder.history(everything, users)
    return best_baselines(
        days.train,
        fitted_on,
        encoder,
        users,
        watch_targets(encoder, history, users, days.validation.watches),
        EvaluationConfig(lately_days=lately_days),
    )


@pytest.mark.parametrize(
    ("days", "name"),
    [(NEW, "most watched in 0.25 days"), (OLD[:40], "most watched in 7 days")],
    indirect=["days"],
)
def test_the_window_that_predicts_validation_best_is_taken(days: Days, name: str) -> None:
    most_watched, lately, together = fitted(days, days.train, (7.0, 0.25))
    assert most_watched.name == "most watched"
    assert lately.name == name
    assert together.name.startswith("watched together")


@pytest.mark.parametrize("days", [NEW], indirect=True)
def test_scores_are_fitted_on_the_logs_that_the_model_saw(days: Days) -> None:
    histories = np.zeros((2, 50), np.int32)
    encoder = build_encoder(days.train, ExamplesConfig())
    before, after = (
        fitted(days, logs, (7.0,))[0].scores(histories) for logs in (days.train, days.later)
    )
    row = encoder.catalogue.items.row("old 7")
    assert before.shape == after.shape == (2, encoder.catalogue.num_rows)
    assert before[0, row] == before[0, 2:].max() == before[0, encoder.catalogue.items.row("old 8")]
    assert after[0].argmax() == row
