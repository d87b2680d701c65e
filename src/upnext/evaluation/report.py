"""What an evaluation found: numbers with intervals beside the baselines, as text and as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from upnext.evaluation.metrics import CalibrationBin

METRICS_A_TABLE = 4
SHORT_WORDS = {
    "auc": "AUC",
    "ndcg": "NDCG",
    "average precision": "MAP",
    "per user loss": "per-user loss",
    "per user AUC": "per-user AUC",
}
LOWER_IS_BETTER = frozenset({"weighted_per_user_loss", "mean_absolute_error_s"})


@dataclass(frozen=True, slots=True)
class MetricValue:
    """A number and its 95% interval; nan for what is not defined, or has no interval."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        """For instance `0.437 [0.405, 0.469]`, or `–` for what is not defined."""
        if math.isnan(self.value):
            return "–"
        if math.isnan(self.low):
            return short_number(self.value)
        low, high = short_number(self.low), short_number(self.high)
        return f"{short_number(self.value)} [{low}, {high}]"


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
    calibration: Sequence[CalibrationBin] = ()
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
            _calibration(self.calibration),
            _policies(self.policies),
            "\n".join(f"Note: {note}" for note in self.notes),
        ]
        return "\n\n".join(section for section in sections if section) + "\n"


def short_number(number: float) -> str:
    """Three decimals for shares and ratios, one for what is ten or more, such as seconds.

    >>> short_number(0.43659), short_number(100.997)
    ('0.437', '101.0')
    """
    return f"{number:.3f}" if abs(number) < 10 else f"{number:.1f}"


def metric_label(name: str) -> str:
    """How a metric is called in text and plots, with its unit and, if lower is better, a sign.

    >>> metric_label("recall_at_50"), metric_label("mean_absolute_error_s"), metric_label("auc")
    ('recall@50', 'mean absolute error, s ↓', 'AUC')
    """
    label = name.removesuffix("_s").replace("_at_", "@").replace("_", " ")
    for word, short in SHORT_WORDS.items():
        label = label.replace(word, short)
    if name.endswith("_s"):
        label = f"{label}, s"
    return f"{label} ↓" if name in LOWER_IS_BETTER else label


def _head(report: EvaluationReport) -> str:
    start, end = (
        datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        for ms in (report.from_ms, report.until_ms)
    )
    sizes = " · ".join(f"{count:,} {name}" for name, count in report.counts.items())
    window = f"{start} to {end} UTC · {sizes}"
    return f"{report.protocol}\n{window}\nIntervals: 95%, by user. ↓ lower is better."


def _systems(title: str, systems: Sequence[SystemResult]) -> str:
    names = list(dict.fromkeys(name for system in systems for name in system.metrics))
    undefined = MetricValue(math.nan)
    tables = []
    for start in range(0, len(names), METRICS_A_TABLE):
        shown = names[start : start + METRICS_A_TABLE]
        header = ["", *(metric_label(name) for name in shown)]
        rows = [
            [
                f"{system.name} (baseline)" if system.is_baseline else system.name,
                *(str(system.metrics.get(name, undefined)) for name in shown),
            ]
            for system in systems
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


def _calibration(calibration: Sequence[CalibrationBin]) -> str:
    if not calibration:
        return ""
    rows = [["predicted, s", "actual, s", "impressions"]]
    rows += [
        [f"{part.predicted_s:.2f}", f"{part.actual_s:.2f}", f"{part.num_impressions:,}"]
        for part in calibration
    ]
    return f"Calibration: expected and actual watch time by decile\n{_aligned(rows)}"


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
