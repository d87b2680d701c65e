"""How good is a release? Measures the published object itself, beside baselines, on later days."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from upnext.evaluation.calibration import calibration_by_quantile, calibration_by_value
from upnext.evaluation.compare import Freshness, compare_retrieval, ranking_metrics
from upnext.evaluation.report import EvaluationReport, SystemResult
from upnext.evaluation.slices import ranking_slices
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.first_slot import FirstSlotChoices
from upnext.pipeline.measuring.funnel import TargetFunnel
from upnext.pipeline.measuring.importance import InputImportance
from upnext.pipeline.measuring.parts import WHOLE, Arrays, Measurement, Part, joined, measure_part
from upnext.pipeline.measuring.policies import PolicyPages
from upnext.pipeline.measuring.shown import ScoredImpressions, ShownScores
from upnext.pipeline.measuring.targets import TargetRanks
from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Logs

Say = Callable[[str], None]
Found = Mapping[str, Arrays]
"""What each measurement found, by its name."""


def evaluate(
    logs_directory: Path, registry: Path, version: int, *, say: Say = lambda _: None
) -> EvaluationReport:
    """Measures a release on the part of the logs that its training held out.

    Stage 1 ranks the whole catalogue for each later watch; stage 2 orders the impressions that
    were really shown, in parts and as seconds too, and with one input after another shuffled; the
    funnel tells where targets are lost; logged propensities tell what other choices would have
    brought, and on simulated logs the truth is told beside it, and that of whole pages. Histories
    are those of the moment: all events strictly before it.

    `cluster.evaluating` finds the same on several machines.

    Raises:
        DataError: the logs cannot be used, or a part of the split is empty.
        ReleaseError: there is no such release, or it is damaged.
    """
    evaluation = Evaluation.of(Bench.prepare(logs_directory, registry, version))
    return evaluation.report([evaluation.measure(say=say)])


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that is measured of a release; None where logs or release give no occasion for it."""

    bench: Bench
    retrieval: TargetRanks
    ranking: ShownScores | None
    importance: InputImportance | None
    funnel: TargetFunnel
    policies: PolicyPages | None
    off_policy: FirstSlotChoices | None

    @classmethod
    def of(cls, bench: Bench) -> Self:
        """What there is to be measured."""
        return cls(
            bench=bench,
            retrieval=TargetRanks.of(bench),
            ranking=ShownScores.of(bench),
            importance=InputImportance.of(bench),
            funnel=TargetFunnel.of(bench),
            policies=PolicyPages.of(bench),
            off_policy=FirstSlotChoices.of(bench),
        )

    def measure(self, part: Part = WHOLE, *, say: Say = lambda _: None) -> Found:
        """What is found of one part of the events of every measurement."""
        measurements: Mapping[str, Measurement | None] = {
            "retrieval": self.retrieval,
            "ranking": self.ranking,
            "feature importance": self.importance,
            "funnel": self.funnel,
            "policies": self.policies,
            "off-policy": self.off_policy,
        }
        found = {}
        for name, one in measurements.items():
            if one is not None:
                say(f"evaluation: {name}, {one.num_events:,} events")
                found[name] = measure_part(one, part)
        return found

    def report(self, parts: Sequence[Found]) -> EvaluationReport:
        """The report, from all parts in their order; how many there were makes no difference."""
        found = {name: joined([part[name] for part in parts]) for name in parts[0]}
        bench, targets = self.bench, self.bench.targets
        systems, differences = compare_retrieval(
            self.retrieval.by_system(found["retrieval"]),
            targets.user_rows,
            num_rows=bench.recommender.encoder.catalogue.num_rows,
            baseline_names=[baseline.name for baseline in bench.baselines],
            freshness=Freshness(
                published_at_ms=bench.recommender.encoder.catalogue.published_at_ms,
                at_ms=targets.at_ms,
                fresh_days=bench.config.evaluation.fresh_days,
            ),
        )
        ranking, importance = self.ranking, self.importance
        policies, off_policy = self.policies, self.off_policy
        without_ranking = self.funnel.note(found["funnel"])
        return EvaluationReport(
            protocol=_protocol(bench),
            from_ms=int(targets.at_ms.min()),
            until_ms=int(targets.at_ms.max()) + 1,
            counts=_counts(bench),
            retrieval=systems,
            differences=differences,
            feature_importance=importance.importance(found["feature importance"])
            if importance
            else (),
            funnel=self.funnel.steps(found["funnel"]),
            off_policy=off_policy.values(found["off-policy"]) if off_policy else (),
            policies=policies.values(found["policies"]) if policies else (),
            notes=(*_notes(bench), without_ranking) if bench.recommender.ranker else (),
            **(_ranking(bench, ranking.scored(found["ranking"])) if ranking else {}),
        )


def _counts(bench: Bench) -> Mapping[str, int]:
    targets = bench.targets
    return {
        "targets": len(targets),
        "targets unknown to the vocabulary": int((targets.item_rows <= UNKNOWN_ROW).sum()),
        "watches of items watched before, left out": bench.num_rewatches,
        "users": len(np.unique(targets.user_rows)),
        "items": bench.recommender.encoder.catalogue.num_rows - NUM_RESERVED_ROWS,
    }


def _ranking(bench: Bench, scored: ScoredImpressions) -> Mapping[str, Any]:
    """What the report says of the order of the impressions that were really shown, by field."""
    encoder, config = bench.recommender.encoder, bench.config.evaluation
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
    if not bench.recommender.kept.metadata.get("has_impressions", True):
        return (
            "Training had no impressions: ranking learned from watches beside unwatched "
            "candidates, so its expected watch times are true of that mixture only.",
        )
    if bench.split.test.impressions is None:
        return ("The test holds watches alone, so that no order of impressions is measured.",)
    return ()


def _mean_watch_time_s(logs: Logs) -> float:
    """Mean seconds of an impression; 0 where the logs have none."""
    if logs.impressions is None or logs.impressions.frame.is_empty():
        return 0.0
    shown = logs.impressions.frame
    return float((shown["watch_time_s"] * shown["watched"]).to_numpy().mean())
