"""The baselines that must be beaten, each in the setting that does best on validation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from upnext.evaluation.metrics import recall_at_k
from upnext.evaluation.ranks import SeenRows, rank_targets
from upnext.examples.encoder import Encoder
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import WatchTargets
from upnext.pipeline.config import EvaluationConfig
from upnext.schema import Floats, Logs, Rows
from upnext.sources import (
    MostWatched,
    WatchedTogetherConfig,
    most_watched,
    most_watched_lately,
    watched_together,
)

SLOTS = 50
VALIDATION_TARGETS = 2_000
TOGETHER = {
    "watched together": WatchedTogetherConfig(),
    "watched together in 6 hours": WatchedTogetherConfig(days=0.25, popularity_weight=0.3),
}


@dataclass(frozen=True)
class Baseline:
    """A name that tells the setting, and scores [b, N] from history rows [b, H]."""

    name: str
    scores: Callable[[Rows], Floats]

    def scores_at(self, moments: WatchTargets) -> Floats:
        """[b, N] from what each user had watched before."""
        return self.scores(moments.history_rows(SLOTS))


Family = Mapping[str, Callable[[Rows], Floats]]


def best_baselines(
    train: Logs,
    fitted_on: Logs,
    encoder: Encoder,
    users: Vocabulary,
    validation: WatchTargets,
    config: EvaluationConfig,
) -> tuple[Baseline, ...]:
    """Most watched, most watched lately, watched together: fitted on what the model was.

    Where a baseline has a setting, that with the best Recall@50 on validation is taken, fitted on
    `train`; what is returned is fitted on `fitted_on`, and sees the same histories as the model.
    """
    sample = validation.sample(VALIDATION_TARGETS, seed=0)
    candidates = _fitted(train, encoder, users, config)
    final = _fitted(fitted_on, encoder, users, config)
    chosen = [_best(family, sample, encoder.catalogue.num_rows, config) for family in candidates]
    return tuple(Baseline(name, family[name]) for name, family in zip(chosen, final, strict=True))


def _fitted(
    logs: Logs, encoder: Encoder, users: Vocabulary, config: EvaluationConfig
) -> tuple[Family, ...]:
    watches = logs.watches.frame
    item_rows = encoder.catalogue.items.rows(watches["item_id"])
    user_rows = users.rows(watches["user_id"])
    at_ms = watches["started_at_ms"].to_numpy()
    num_rows = encoder.catalogue.num_rows
    lately = {
        f"most watched in {days:g} days": _for_everybody(
            most_watched_lately(item_rows, at_ms, days=days), num_rows
        )
        for days in config.lately_days
    }
    together = {
        name: watched_together(
            user_rows, item_rows, at_ms, num_rows=num_rows, config=setting
        ).scores_of_all
        for name, setting in TOGETHER.items()
    }
    always = {"most watched": _for_everybody(most_watched(item_rows), num_rows)}
    return always, lately, together


def _for_everybody(popular: MostWatched, num_rows: int) -> Callable[[Rows], Floats]:
    """The same scores whatever the history: a read-only view of one row."""
    one_row = popular.scores_of_all(num_rows)
    return lambda history_rows: np.broadcast_to(one_row, (len(history_rows), num_rows))


def _best(family: Family, validation: WatchTargets, num_rows: int, config: EvaluationConfig) -> str:
    rows = validation.history_rows(SLOTS)
    seen = SeenRows(*validation.watched_before()) if config.mask_watched else None

    def recall(name: str) -> float:
        ranked = rank_targets(
            lambda part: family[name](rows[part]),
            validation.item_rows,
            num_rows=num_rows,
            seen=seen,
        )
        return float(np.mean(recall_at_k(ranked.ranks, 50)))

    return max(family, key=recall)
