"""The report holds every section, and its numbers are those that requests would have met."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from upnext.errors import DataError, ReleaseError
from upnext.evaluation.report import EvaluationReport
from upnext.pipeline.evaluate import Evaluation, evaluate
from upnext.pipeline.learning_logs import split_logs
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.first_slot import POWERS
from upnext.pipeline.measuring.parts import Part
from upnext.schema import Logs, RecommendationRequest

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


@pytest.fixture(scope="module")
def report(tiny_release: TrainedRelease) -> EvaluationReport:
    return evaluate(tiny_release.logs_dir, tiny_release.registry, 1)


@pytest.fixture(scope="module")
def plain_report(plain_release: TrainedRelease) -> EvaluationReport:
    return evaluate(plain_release.logs_dir, plain_release.registry, 1)


def test_every_section_is_there(report: EvaluationReport) -> None:
    systems = {system.name: system.is_baseline for system in report.retrieval}
    assert systems.pop("retrieval") is False
    assert len(systems) == 3
    assert all(systems.values())
    assert [system.name for system in report.ranking] == [
        "ranking",
        "most watched",
        "the mean, always",
    ]
    assert report.differences
    assert report.funnel
    assert report.policies
    (note,) = report.notes
    assert "In the order of retrieval" in note
    assert [one.policy for one in report.off_policy] == list(POWERS)
    titles = [
        "Retrieval:",
        "Difference to",
        "Funnel:",
        "Ranking:",
        "Ranking by slice",
        "Feature importance:",
        "Calibration:",
        "Calibration by position",
        "Off-policy:",
        "Policies:",
    ]
    text = report.to_text()
    assert [title for title in titles if title not in text] == []


def test_the_report_is_json(report: EvaluationReport) -> None:
    table = json.loads(json.dumps(report.to_table(), allow_nan=False))
    assert table["retrieval"][0]["metrics"].keys() >= {"recall_at_10", "recall_at_50"}


@pytest.mark.parametrize("num_parts", [2, 5])
def test_in_parts_the_report_is_the_same_to_the_last_bit(
    report: EvaluationReport, tiny_release: TrainedRelease, num_parts: int
) -> None:
    """Each part with a release and logs that it opened itself; the last of five has no batch."""
    parts = []
    for number in range(num_parts):
        bench = Bench.prepare(tiny_release.logs_dir, tiny_release.registry, 1)
        evaluation = Evaluation.of(bench)
        parts.append(evaluation.measure(Part(number, num_parts)))
    assert json.dumps(evaluation.report(parts).to_table()) == json.dumps(report.to_table())


def test_parts_of_other_logs_make_no_report(
    tiny_release: TrainedRelease, plain_release: TrainedRelease
) -> None:
    one, other = (
        Evaluation.of(Bench.prepare(trained.logs_dir, trained.registry, 1))
        for trained in (plain_release, tiny_release)
    )
    with pytest.raises(DataError, match="one and the same directory of logs"):
        one.report([other.measure()])


def test_the_test_is_the_last_day(
    report: EvaluationReport, tiny_release: TrainedRelease, tiny_logs: Logs
) -> None:
    split = split_logs(tiny_logs, tiny_release.config.split)
    assert split.test_from_ms is not None
    assert split.test_from_ms <= report.from_ms < report.until_ms
    counts = dict(report.counts)
    left_out = counts["watches of items watched before, left out"]
    assert counts["targets"] + left_out == split.test.watches.frame.height
    assert counts["items"] == tiny_release.release.metadata["num_items"]


def test_recall_is_what_requests_at_those_moments_get(
    report: EvaluationReport, tiny_release: TrainedRelease
) -> None:
    bench = Bench.prepare(tiny_release.logs_dir, tiny_release.registry, 1)
    items, users = bench.recommender.encoder.catalogue.items, bench.users
    hits = []
    for user, at_ms, row in zip(
        bench.targets.user_rows, bench.targets.at_ms, bench.targets.item_rows, strict=True
    ):
        request = RecommendationRequest(user_id=users.id(int(user)), at_ms=int(at_ms), k=500)
        ranks = {
            items.row(item.item_id): item.retrieval_rank
            for item in bench.recommender.recommend(request).items
        }
        hits.append((ranks.get(int(row)) or 11) <= 10)
    (retrieval,) = (system for system in report.retrieval if system.name == "retrieval")
    assert np.mean(hits) == pytest.approx(retrieval.metrics["recall_at_10"].value)
    assert sum(hits) > 0


def test_the_funnel_only_narrows(report: EvaluationReport) -> None:
    left = [step.num_events for step in report.funnel]
    assert len(left) == 4
    assert left == sorted(left, reverse=True)
    assert left[0] - left[1] == report.counts["targets unknown to the vocabulary"]


def test_calibration_covers_the_impressions_that_were_shown(
    report: EvaluationReport, tiny_release: TrainedRelease, tiny_logs: Logs
) -> None:
    shown = split_logs(tiny_logs, tiny_release.config.split).test.impressions
    assert shown is not None
    assert sum(part.num_impressions for part in report.calibration) == shown.frame.height
    mean_s = np.average(
        [part.actual_s for part in report.calibration],
        weights=[part.num_impressions for part in report.calibration],
    )
    assert mean_s == pytest.approx(shown.frame["watch_time_s"].to_numpy().mean(), rel=1e-5)


def test_the_first_slice_is_all_that_was_ranked(report: EvaluationReport) -> None:
    ranking = next(system for system in report.ranking if system.name == "ranking")
    whole, *parts = report.ranking_slices
    assert whole.metrics == ranking.metrics
    assert all(part.num_impressions < whole.num_impressions for part in parts)
    assert report.calibration_overall is not None
    assert report.calibration_overall.ratio == ranking.metrics["calibration_ratio"]


def test_calibration_by_position_has_a_bin_for_each_slot_of_a_page(
    report: EvaluationReport,
) -> None:
    bins = report.calibration_by_position
    assert [part.low for part in bins] == list(range(10))
    assert len({part.num_impressions for part in bins}) == 1
    num_shown = sum(part.num_impressions for part in bins)
    assert num_shown == sum(part.num_impressions for part in report.calibration_by_duration)


def test_without_impressions_the_report_says_what_its_numbers_are_worth(
    plain_report: EvaluationReport,
) -> None:
    assert "no impressions" in plain_report.notes[0]
    assert "Note: Training had no impressions" in plain_report.to_text()
    assert not plain_report.ranking
    assert not plain_report.calibration
    assert not plain_report.ranking_slices
    assert not plain_report.feature_importance
    assert not plain_report.off_policy
    assert not plain_report.policies


def test_each_users_last_watch_is_the_test_where_only_the_order_is_known(
    plain_report: EvaluationReport, plain_release: TrainedRelease
) -> None:
    users = plain_release.recommender.users
    assert plain_report.counts["targets"] == plain_report.counts["users"] == users.num_rows - 2
    assert (plain_report.from_ms, plain_report.until_ms) == (11, 12)
    assert "Each user's last watch is the test" in plain_report.protocol


def test_a_missing_release_cannot_be_measured(tiny_release: TrainedRelease) -> None:
    with pytest.raises(ReleaseError, match="no such directory"):
        evaluate(tiny_release.logs_dir, tiny_release.registry, 7)
