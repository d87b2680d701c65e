"""A report says all that was measured, in text and in JSON, and nothing that was not."""

import json
import math
from pathlib import Path

import pytest

from upnext.evaluation.calibration import CalibrationBin
from upnext.evaluation.intervals import MetricValue
from upnext.evaluation.off_policy import OffPolicyValue
from upnext.evaluation.report import (
    Difference,
    EvaluationReport,
    FunnelStep,
    PolicyValue,
    RankingSlice,
    SystemResult,
    write_report,
)

HIT = MetricValue(0.25, 0.2, 0.31)
EMPTY = EvaluationReport(
    protocol="Next day, all items ranked.", from_ms=0, until_ms=86_400_000, counts={"events": 1200}
)


def _bin(low: float, high: float) -> CalibrationBin:
    return CalibrationBin(
        low=low,
        high=high,
        num_impressions=1500,
        predicted_s=2.0,
        actual_s=1.75,
        ratio=MetricValue(1.143, 1.05, 1.25),
    )


@pytest.fixture
def report() -> EvaluationReport:
    return EvaluationReport(
        protocol="Next day, all items ranked.",
        from_ms=0,
        until_ms=86_400_000,
        counts={"events": 1200},
        retrieval=[
            SystemResult(name="retrieval", metrics={"recall_at_50": HIT}),
            SystemResult(
                name="most watched",
                metrics={"recall_at_50": MetricValue(math.nan), "coverage_at_50": MetricValue(1)},
                is_baseline=True,
            ),
        ],
        differences=[
            Difference(
                system="retrieval",
                baseline="most watched",
                metric="recall_at_50",
                difference=MetricValue(0.1, -0.02, 0.22),
            )
        ],
        ranking=[SystemResult(name="ranker", metrics={"mean_absolute_error_s": MetricValue(31.5)})],
        ranking_slices=[
            RankingSlice(name="all", num_impressions=1500, metrics={"xauc": HIT}),
            RankingSlice(name="new items", num_impressions=70, metrics={"per_user_xauc": HIT}),
        ],
        calibration_overall=_bin(0.5, 4.0),
        calibration=[_bin(0.5, 2.0), _bin(2.0, 4.0)],
        calibration_by_duration=[_bin(10.0, 7200.0)],
        calibration_by_position=[_bin(0.0, 0.0), _bin(9.0, 9.0)],
        off_policy=[
            OffPolicyValue(
                policy="any candidate",
                num_slots=5000,
                logged_s=MetricValue(29.1, 26.5, 31.8),
                ips_s=MetricValue(33.0, 27.4, 39.2),
                snips_s=MetricValue(31.8, 26.7, 37.6),
                doubly_robust_s=MetricValue(math.nan),
                mean_weight=MetricValue(1.04, 0.95, 1.13),
                max_weight=39.6,
                effective_num_slots=443.2,
                truth_s=33.3,
            )
        ],
        funnel=[
            FunnelStep(name="targets", num_events=1200),
            FunnelStep(name="among the final 10", num_events=300),
        ],
        policies=[
            PolicyValue(
                name="upnext", expected_watch_time_s=45.0, low=44.0, high=46.5, share_of_best=0.9
            )
        ],
        notes=["no impressions in the logs."],
    )


def test_text_shows_every_part(report: EvaluationReport) -> None:
    lines = [" ".join(line.split()) for line in report.to_text().splitlines()]
    for expected in [
        "1970-01-01 00:00 to 1970-01-02 00:00 UTC · 1,200 events",
        "recall@50 coverage@50",
        "retrieval 0.250 [0.200, 0.310] –",
        "most watched (baseline) – 1.000",
        "retrieval above most watched recall@50 +0.100 [-0.020, +0.220]",
        "among the final 10 300 25.0% 900",
        "ranker 31.5",
        "XAUC per-user XAUC",
        "all · 1,500 0.250 [0.200, 0.310] –",
        "new items · 70 – 0.250 [0.200, 0.310]",
        "0.5 to 2 2.00 1.75 1.143 [1.050, 1.250] 1,500",
        "10 to 7200 2.00 1.75 1.143 [1.050, 1.250] 1,500",
        "9 2.00 1.75 1.143 [1.050, 1.250] 1,500",
        "any candidate 33.0 [27.4, 39.2] 31.8 [26.7, 37.6] – 33.3",
        "any candidate 1.040 [0.950, 1.130] 40 443 0",
        "upnext 45.0 [44.0, 46.5] 90.0%",
        "Note: no impressions in the logs.",
    ]:
        assert expected in lines


def test_what_was_not_measured_is_not_mentioned() -> None:
    assert EMPTY.to_text().splitlines()[0] == EMPTY.protocol
    assert len(EMPTY.to_text().splitlines()) == 3


def test_written_json_reads_back_as_the_table(report: EvaluationReport, tmp_path: Path) -> None:
    write_report(report, tmp_path / "report")
    text = (tmp_path / "report" / "report.json").read_text(encoding="utf-8")
    table = json.loads(text, parse_constant=pytest.fail)
    assert table == report.to_table()
    assert table["retrieval"][0]["metrics"]["recall_at_50"] == {
        "value": 0.25,
        "low": 0.2,
        "high": 0.31,
    }
    assert table["retrieval"][1]["metrics"]["recall_at_50"]["value"] is None
    assert (tmp_path / "report" / "report.txt").read_text(encoding="utf-8") == report.to_text()


def test_a_funnel_without_targets_is_still_a_report(tmp_path: Path) -> None:
    report = EvaluationReport(
        protocol="An empty day.",
        from_ms=0,
        until_ms=1,
        counts={"events": 0},
        retrieval=[SystemResult(name="retrieval", metrics={"recall_at_50": MetricValue(math.nan)})],
        funnel=[FunnelStep(name="targets", num_events=0)],
    )
    write_report(report, tmp_path)
    assert "targets  0" in report.to_text()
