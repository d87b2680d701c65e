"""What an evaluation found: numbers with intervals beside the baselines, as text and as JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upnext.evaluation.calibration import CalibrationBin
from upnext.evaluation.intervals import MetricValue
from upnext.evaluation.off_policy import OffPolicyValue
from upnext.metric_names import metric_label

METRICS_A_TABLE = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemResult:
    """One system, a model or a baseline, and its metrics by name."""

    name: str
    metrics: Mapping[str, MetricValue]
    is_baseline: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How far a system is above the baseline that is best at this metric, on the same events."""

    system: str
    baseline: str
    metric: str
    difference: MetricValue


@dataclass(frozen=True, kw_only=True, slots=True)
class FunnelStep:
    """How many of the targets are still there after this step."""

    name: str
    num_events: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyValue:
    """A way to choose what to show: expected watch time a slot, true because simulated.

    `share_of_best`: of what the best possible choice among the candidates would bring.
    """

    name: str
    expected_watch_time_s: float
    low: float
    high: float
    share_of_best: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RankingSlice:
    """The ranker's metrics by name on a part of what was shown, such as new items."""

    name: str
    num_impressions: int
    metrics: Mapping[str, MetricValue]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationReport:
    """All that is known of how good a release is. Parts that were not measured are empty."""

    protocol: str
    """What was measured on what, in a sentence or two."""
    from_ms: int
    until_ms: int
    """The test window: from_ms ≤ time < until_ms."""
    counts: Mapping[str, int]
    """Size of the test: events, users, items and so on."""
    retrieval: Sequence[SystemResult] = ()
    """Every system ranks all items; one target an event."""
    differences: Sequence[Difference] = ()
    ranking: Sequence[SystemResult] = ()
    """Every system orders the impressions that were shown."""
    ranking_slices: Sequence[RankingSlice] = ()
    """The ranker on parts of those, the first being all of them."""
    calibration: Sequence[CalibrationBin] = ()
    """By decile of the expected watch time."""
    calibration_overall: CalibrationBin | None = None
    calibration_by_duration: Sequence[CalibrationBin] = ()
    calibration_by_position: Sequence[CalibrationBin] = ()
    off_policy: Sequence[OffPolicyValue] = ()
    """What other choices would have brought, estimated from logged propensities."""
    funnel: Sequence[FunnelStep] = ()
    policies: Sequence[PolicyValue] = ()
    notes: Sequence[str] = field(default=())
    """What a reader must know to read the numbers right."""

    def to_table(self) -> dict[str, Any]:
        """Plain values for JSON; nan becomes None, which JSON can hold."""
        table: dict[str, Any] = _without_nan(asdict(self))
        return table

    def to_text(self) -> str:
        """The report as aligned text; lists what was measured, in the order of the stages."""
        sections = [
            _head(self),
            _systems("Retrieval: the target among all items", self.retrieval),
            _differences(self.differences),
            _funnel(self.funnel),
            _systems("Ranking: impressions in the right order", self.ranking),
            _slices(self.ranking_slices),
            _calibration(self),
            _off_policy(self.off_policy),
            _policies(self.policies),
            "\n".join(f"Note: {note}" for note in self.notes),
        ]
        return "\n\n".join(section for section in sections if section) + "\n"


def write_report(report: EvaluationReport, directory: Path) -> None:
    """Writes report.json and report.txt."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report.to_table(), indent=2, ensure_ascii=False, allow_nan=False)
    (directory / "report.json").write_text(text + "\n", encoding="utf-8")
    (directory / "report.txt").write_text(report.to_text(), encoding="utf-8")


def _head(report: EvaluationReport) -> str:
    start, end = (
        datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        for ms in (report.from_ms, report.until_ms)
    )
    sizes = " · ".join(f"{count:,} {name}" for name, count in report.counts.items())
    window = f"{start} to {end} UTC · {sizes}"
    return f"{report.protocol}\n{window}\nIntervals: 95%, by user. ↓ lower is better."


def _systems(title: str, systems: Sequence[SystemResult]) -> str:
    return _metrics(
        title,
        [
            (f"{one.name} (baseline)" if one.is_baseline else one.name, one.metrics)
            for one in systems
        ],
    )


def _slices(slices: Sequence[RankingSlice]) -> str:
    return _metrics(
        "Ranking by slice, pairs and pages within it; number of impressions",
        [(f"{one.name} · {one.num_impressions:,}", one.metrics) for one in slices],
    )


def _metrics(title: str, lines: Sequence[tuple[str, Mapping[str, MetricValue]]]) -> str:
    """A line for each name and its metrics, a few metrics a table."""
    names = list(dict.fromkeys(name for _, metrics in lines for name in metrics))
    undefined = MetricValue(math.nan)
    tables = []
    for start in range(0, len(names), METRICS_A_TABLE):
        shown = names[start : start + METRICS_A_TABLE]
        header = ["", *(metric_label(name) for name in shown)]
        rows = [
            [line, *(str(metrics.get(name, undefined)) for name in shown)]
            for line, metrics in lines
        ]
        tables.append(_aligned([header, *rows]))
    return "\n\n".join([f"{title}\n{tables[0]}", *tables[1:]]) if tables else ""


def _differences(differences: Sequence[Difference]) -> str:
    rows = []
    for line in differences:
        above = line.difference
        text = f"{above.value:+.3f} [{above.low:+.3f}, {above.high:+.3f}]"
        rows.append([line.system, "above", line.baseline, metric_label(line.metric), text])
    return f"Difference to the best baseline, paired by user\n{_aligned(rows)}" if rows else ""


def _funnel(funnel: Sequence[FunnelStep]) -> str:
    if not funnel:
        return ""
    total = max(1, funnel[0].num_events)
    rows = [["", "targets", "of all", "lost here"]]
    before = funnel[0].num_events
    for step in funnel:
        lost = f"{before - step.num_events:,}" if step is not funnel[0] else ""
        rows.append([step.name, f"{step.num_events:,}", f"{step.num_events / total:.1%}", lost])
        before = step.num_events
    return f"Funnel: where targets get lost\n{_aligned(rows)}"


def _calibration(report: EvaluationReport) -> str:
    overall = () if report.calibration_overall is None else (report.calibration_overall,)
    parts = [
        ("Calibration: expected and actual watch time, all", "expected, s", overall),
        ("Calibration by decile of the expected watch time", "expected, s", report.calibration),
        ("Calibration by duration", "duration, s", report.calibration_by_duration),
        ("Calibration by position", "position", report.calibration_by_position),
    ]
    return "\n\n".join(_calibration_table(*part) for part in parts if part[2])


def _calibration_table(title: str, quantity: str, bins: Sequence[CalibrationBin]) -> str:
    rows = [[quantity, "predicted, s", "actual, s", "predicted / actual", "impressions"]]
    for part in bins:
        bounds = dict.fromkeys(f"{bound:.4g}" for bound in (part.low, part.high))
        seconds = [f"{part.predicted_s:.2f}", f"{part.actual_s:.2f}"]
        rows.append([" to ".join(bounds), *seconds, str(part.ratio), f"{part.num_impressions:,}"])
    return f"{title}\n{_aligned(rows)}"


def _off_policy(values: Sequence[OffPolicyValue]) -> str:
    if not values:
        return ""
    estimates = [["", "IPS", "SNIPS", "doubly robust", "truth"]]
    support = [["", "mean weight", "greatest", "effective slots", "clipped"]]
    for one in values:
        found = (one.ips_s, one.snips_s, one.doubly_robust_s, MetricValue(one.truth_s))
        estimates.append([one.policy, *map(str, found)])
        sizes = (f"{one.max_weight:,.0f}", f"{one.effective_num_slots:,.0f}")
        support.append([one.policy, str(one.mean_weight), *sizes, f"{one.num_clipped:,}"])
    title = (
        f"Off-policy: what other choices for a slot would have brought, s, from "
        f"{values[0].num_slots:,} logged ones, which brought {values[0].logged_s}"
    )
    return f"{title}\n{_aligned(estimates)}\n\n{_aligned(support)}"


def _policies(policies: Sequence[PolicyValue]) -> str:
    if not policies:
        return ""
    rows = [["", "watch time a slot, s", "of the best"]]
    for policy in policies:
        seconds = MetricValue(policy.expected_watch_time_s, policy.low, policy.high)
        rows.append([policy.name, str(seconds), f"{policy.share_of_best:.1%}"])
    return f"Policies: true expected watch time\n{_aligned(rows)}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell.

    >>> print(_aligned([["", "recall"], ["most watched", "0.1"]]))
                    recall
      most watched  0.1
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
