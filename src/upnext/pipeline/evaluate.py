"""How good is a release? Measures the published object itself, beside baselines, on later days."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from upnext.config import config_of_release
from upnext.errors import DataError
from upnext.evaluation.calibration import calibration_by_quantile, calibration_by_value
from upnext.evaluation.compare import Freshness, compare_retrieval, ranking_metrics
from upnext.evaluation.off_policy import OffPolicyValue
from upnext.evaluation.ranks import RankedTargets, SeenRows, rank_targets
from upnext.evaluation.report import (
    Difference,
    EvaluationReport,
    FeatureImportance,
    FunnelStep,
    PolicyValue,
    SystemResult,
)
from upnext.evaluation.slices import ranking_slices
from upnext.examples.encoder import user_vocabulary
from upnext.examples.history import History
from upnext.examples.impressions import build_impression_examples
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import WatchTargets, watch_targets
from upnext.index import ExactIndex
from upnext.logs.read import read_logs
from upnext.logs.split import Split
from upnext.pipeline.baselines import SLOTS, Baseline, best_baselines
from upnext.pipeline.config import RunConfig
from upnext.pipeline.first_slot import FirstSlots, first_slot_values
from upnext.pipeline.importance import feature_importance
from upnext.pipeline.learning_logs import split_logs
from upnext.pipeline.policies import Oracle, policy_values
from upnext.pipeline.shown import score_shown
from upnext.recommender import Recommender
from upnext.registry.release import Release, open_release
from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Floats, Logs, Rows

Say = Callable[[str], None]

RETRIEVAL = "retrieval"
BATCH_SIZE = 256
PAGE_SIZE = 10


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A release, the logs it is measured on, and what its users really went on to watch."""

    config: RunConfig
    recommender: Recommender
    logs: Logs
    split: Split
    users: Vocabulary
    history: History
    targets: WatchTargets
    validation: WatchTargets
    num_rewatches: int

    @classmethod
    def prepare(cls, logs_directory: Path, registry: Path, version: int) -> "Bench":
        """Opens the release and encodes the logs with *its* encoder."""
        release = open_release(registry, version, verify=False)
        where = f"release {version}, config.json"
        config = config_of_release(release.json("config.json"), RunConfig, where=where)
        recommender = Recommender.open(registry, version, num_threads=2)
        logs, _ = read_logs(logs_directory, config.logs)
        split = split_logs(logs, config.split)
        users = user_vocabulary(logs)
        history = recommender.encoder.history(logs, users)
        encoder, masked = recommender.encoder, config.evaluation.mask_watched
        validation = watch_targets(encoder, history, users, split.validation.watches)
        every_target = watch_targets(encoder, history, users, split.test.watches)
        targets = every_target.first_watches() if masked else every_target
        if not len(targets):
            raise DataError(
                f"{logs_directory}, test",
                expected="watches of items that their users had not watched before",
                got=f"{len(every_target)} watches, all of them again",
                hint="[evaluation] mask_watched = false makes these the targets.",
            )
        _require_later_test(release, split)
        return cls(
            config=config,
            recommender=recommender,
            logs=logs,
            split=split,
            users=users,
            history=history,
            targets=targets.sample(config.evaluation.num_targets, seed=0),
            validation=validation.first_watches() if masked else validation,
            num_rewatches=len(every_target) - len(targets),
        )

    @property
    def fitted_on(self) -> Logs:
        """What the release was trained on."""
        return self.split.train_and_validation if self.config.refit else self.split.train

    def baselines(self) -> tuple[Baseline, ...]:
        """What the release has to beat, fitted on the logs that it was trained on."""
        return best_baselines(
            self.split.train,
            self.fitted_on,
            self.recommender.encoder,
            self.users,
            self.validation,
            self.config.evaluation,
        )


def evaluate(
    logs_directory: Path, registry: Path, version: int, *, say: Say = lambda _: None
) -> EvaluationReport:
    """Measures a release on the part of the logs that its training held out.

    Stage 1 ranks the whole catalogue for each later watch; stage 2 orders the impressions that
    were really shown, in parts and as seconds too, and with one input after another shuffled; the
    funnel tells where targets are lost; logged propensities tell what other choices would have
    brought, and on simulated logs the truth is told beside it, and that of whole pages. Histories
    are those of the moment: all events strictly before it.

    Raises:
        DataError: the logs cannot be used, or a part of the split is empty.
        ReleaseError: there is no such release, or it is damaged.
    """
    bench = Bench.prepare(logs_directory, registry, version)
    say(f"evaluation: retrieval, {len(bench.targets):,} watches")
    baselines = bench.baselines()
    systems, differences = _retrieval(bench, baselines)
    say("evaluation: ranking")
    ranking = _ranking(bench)
    say("evaluation: feature importance")
    importance = _importance(bench)
    say("evaluation: funnel")
    funnel, without_ranking = _funnel(bench)
    say("evaluation: policies")
    oracle = Oracle.open(logs_directory, bench.logs, bench.recommender, bench.users)
    policies = _policies(bench, oracle, baselines)
    say("evaluation: off-policy")
    off_policy = _off_policy(bench, oracle)
    targets = bench.targets
    return EvaluationReport(
        protocol=_protocol(bench),
        from_ms=int(targets.at_ms.min()),
        until_ms=int(targets.at_ms.max()) + 1,
        counts={
            "targets": len(targets),
            "targets unknown to the vocabulary": int((targets.item_rows <= UNKNOWN_ROW).sum()),
            "watches of items watched before, left out": bench.num_rewatches,
            "users": len(np.unique(targets.user_rows)),
            "items": bench.recommender.encoder.catalogue.num_rows - NUM_RESERVED_ROWS,
        },
        retrieval=systems,
        differences=differences,
        feature_importance=importance,
        funnel=funnel,
        off_policy=off_policy,
        policies=policies,
        notes=(*_notes(bench), without_ranking) if bench.recommender.ranker else (),
        **ranking,
    )


def _require_later_test(release: Release, split: Split) -> None:
    """Other logs, or the same ones grown, are cut elsewhere than training cut them."""
    if split.test_from_ms is None:
        return
    learned_until = datetime.fromisoformat(release.metadata["train_until"])
    begins = datetime.fromtimestamp(split.test_from_ms / 1000, UTC)
    if learned_until >= begins:
        raise DataError(
            f"release {release.version}",
            expected=f"training that ended before the test, which begins {begins}",
            got=f"training up to {learned_until}",
            hint="evaluate with the logs that it was trained on, or with longer ones.",
        )


def _retrieval(
    bench: Bench, baselines: tuple[Baseline, ...]
) -> tuple[tuple[SystemResult, ...], tuple[Difference, ...]]:
    targets, recommender = bench.targets, bench.recommender
    user_vectors = _user_vectors(bench, targets)
    rows = targets.history_rows(SLOTS)
    seen = SeenRows(*targets.watched_before()) if bench.config.evaluation.mask_watched else None

    def ranked(scores: Callable[[slice], Floats]) -> RankedTargets:
        return rank_targets(
            scores,
            targets.item_rows,
            num_rows=recommender.encoder.catalogue.num_rows,
            seen=seen,
            batch_size=BATCH_SIZE,
        )

    by_name = {
        RETRIEVAL: ranked(lambda part: user_vectors[part] @ recommender.retriever.item_vectors.T)
    }
    for baseline in baselines:
        by_name[baseline.name] = ranked(lambda part, one=baseline: one.scores(rows[part]))  # type: ignore[misc]
    return compare_retrieval(
        by_name,
        targets.user_rows,
        num_rows=recommender.encoder.catalogue.num_rows,
        baseline_names=[baseline.name for baseline in baselines],
        freshness=Freshness(
            published_at_ms=recommender.encoder.catalogue.published_at_ms,
            at_ms=targets.at_ms,
            fresh_days=bench.config.evaluation.fresh_days,
        ),
    )


def _ranking(bench: Bench) -> Mapping[str, Any]:
    """What the report says of the order of the impressions that were really shown, by field."""
    impressions, has_ranking = bench.split.test.impressions, bench.recommender.ranker is not None
    if impressions is None or impressions.frame.is_empty() or not has_ranking:
        return {}
    encoder, config = bench.recommender.encoder, bench.config.evaluation
    scored = score_shown(
        bench.recommender,
        bench.history,
        bench.users,
        bench.logs.items,
        impressions,
        num_requests=config.num_requests,
    )
    shown, facts, expected_s = scored.shown, scored.facts, scored.expected_watch_time_s
    popularity = encoder.catalogue.num_watches[scored.item_rows].astype(np.float32)
    constant = np.full(len(expected_s), _mean_watch_time_s(bench.fitted_on), np.float32)
    systems = {"ranking": expected_s, "most watched": popularity, "the mean, always": constant}
    outcome = (expected_s, shown.watch_time_s, shown.user_rows)
    return {
        "ranking": tuple(
            SystemResult(
                name=name,
                metrics=ranking_metrics(shown, scores, scores_are_seconds=name != "most watched"),
                is_baseline=name != "ranking",
            )
            for name, scores in systems.items()
        ),
        "ranking_slices": ranking_slices(
            shown,
            facts,
            expected_s,
            num_new_user_watches=config.num_new_user_watches,
            fresh_days=config.fresh_days,
        ),
        "calibration_overall": calibration_by_quantile(expected_s, *outcome, num_bins=1)[0],
        "calibration": calibration_by_quantile(expected_s, *outcome),
        "calibration_by_duration": calibration_by_quantile(facts.duration_s, *outcome),
        "calibration_by_position": calibration_by_value(facts.position, *outcome),
    }


def _importance(bench: Bench) -> tuple[FeatureImportance, ...]:
    """Of the same impressions."""
    impressions, config = bench.split.test.impressions, bench.config.evaluation
    if impressions is None or impressions.frame.is_empty():
        return ()
    return feature_importance(
        bench.recommender,
        bench.history,
        bench.users,
        impressions,
        num_requests=config.num_importance_requests,
    )


def _off_policy(bench: Bench, oracle: Oracle | None) -> tuple[OffPolicyValue, ...]:
    """Other choices for the first slot, where the logs of the test days hold propensities."""
    impressions, recommender = bench.split.test.impressions, bench.recommender
    if impressions is None:
        return ()
    slots = FirstSlots.of_impressions(
        impressions,
        recommender.encoder.catalogue.items,
        bench.users,
        num_slots=bench.config.evaluation.num_off_policy_slots,
    )
    if slots is None:
        return ()
    mask_watched = bench.config.evaluation.mask_watched
    return first_slot_values(
        recommender, bench.history, slots, mask_watched=mask_watched, oracle=oracle
    )


def _funnel(bench: Bench) -> tuple[tuple[FunnelStep, ...], str]:
    """How many of the targets come through each stage, as a request would; and without stage 2."""
    recommender = bench.recommender
    targets = bench.targets.sample(bench.config.evaluation.num_funnel_targets, seed=1)
    exact = ExactIndex.build(recommender.retriever.item_vectors)
    in_exact = in_index = proposed = before_ranking = on_page = 0
    for start in range(0, len(targets), BATCH_SIZE):
        part = targets[start : start + BATCH_SIZE]
        wanted = np.where(part.item_rows > UNKNOWN_ROW, part.item_rows, -2)[:, None]
        excluded = _excluded(bench, part)
        user_vectors, k = _user_vectors(bench, part), recommender.config.num_candidates
        nearest, _ = exact.search(user_vectors, k, excluded_rows=excluded)
        found, _ = recommender.retriever.nearest(user_vectors, k, excluded)
        candidates = recommender.candidates_of(bench.history, part.user_rows, part.at_ms, excluded)
        ranked = recommender.ranked(bench.history, part.user_rows, part.at_ms, candidates)
        in_exact += int((nearest == wanted).any(axis=1).sum())
        in_index += int((found == wanted).any(axis=1).sum())
        proposed += int((candidates == wanted).any(axis=1).sum())
        before_ranking += int((candidates[:, :PAGE_SIZE] == wanted).any(axis=1).sum())
        on_page += int((ranked[:, :PAGE_SIZE] == wanted).any(axis=1).sum())
    steps = (
        FunnelStep(name="watches to be predicted", num_events=len(targets)),
        FunnelStep(name="item is known", num_events=int((targets.item_rows > UNKNOWN_ROW).sum())),
        FunnelStep(name="among the candidates of all sources", num_events=proposed),
        FunnelStep(name=f"in the first {PAGE_SIZE} after ranking", num_events=on_page),
    )
    note = (
        f"Of {len(targets):,} watches, retrieval's index finds {in_index:,} among its "
        f"{recommender.config.num_candidates:,} candidates, an exact search {in_exact:,}. "
        f"In the order of retrieval, {before_ranking:,} of {len(targets):,} watches would stand in "
        f"the first {PAGE_SIZE}."
    )
    return steps, note


def _policies(
    bench: Bench, oracle: Oracle | None, baselines: tuple[Baseline, ...]
) -> tuple[PolicyValue, ...]:
    """Moments are those of the logged requests of the test days."""
    impressions = bench.split.test.impressions
    if oracle is None or impressions is None:
        return ()
    examples = build_impression_examples(
        bench.recommender.encoder, bench.history, bench.users, impressions
    )
    moments = WatchTargets(
        bench.history,
        examples.user_rows,
        examples.at_ms,
        np.full(examples.num_requests, UNKNOWN_ROW, np.int32),
    ).sample(bench.config.evaluation.num_policy_moments, seed=2)
    rows = moments.history_rows(SLOTS)
    return policy_values(
        oracle,
        bench.recommender,
        moments,
        {one.name: (lambda part, one=one: one.scores(rows[part])) for one in baselines},  # type: ignore[misc]
    )


def _user_vectors(bench: Bench, targets: WatchTargets) -> Floats:
    return bench.recommender.retriever.user_vectors(bench.history, targets.user_rows, targets.at_ms)


def _excluded(bench: Bench, targets: WatchTargets) -> list[Rows] | None:
    if not bench.config.evaluation.mask_watched:
        return None
    starts, rows = targets.watched_before()
    return list(np.split(rows, starts[1:-1]))


def _protocol(bench: Bench) -> str:
    masked = "left out" if bench.config.evaluation.mask_watched else "not left out"
    match bench.config.split.protocol:
        case "time":
            held_out = (
                f"Training ended before the test; the test is the last "
                f"{bench.config.split.test_days:g} days."
            )
        case "last-event":
            held_out = "Each user's last watch is the test, the one before it validation."
    return f"{held_out} All items are ranked; items watched before are {masked}."


def _notes(bench: Bench) -> tuple[str, ...]:
    if bench.logs.impressions is None:
        return (
            "The logs have no impressions: ranking learned from watches beside unwatched "
            "candidates, so its expected watch times are true of that mixture only.",
        )
    if bench.split.test.impressions is None:
        return ("The test holds watches alone, so that no order of impressions is measured.",)
    return ()


def _mean_watch_time_s(logs: Logs) -> float:
    """Mean seconds of an impression; 0 where the logs have none."""
    if logs.impressions is None:
        return 0.0
    shown = logs.impressions.frame
    return float((shown["watch_time_s"] * shown["watched"]).to_numpy().mean())
