"""What an evaluation, a training, data, releases and an item tell, drawn; whatever is missing."""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.pictures import Picture
from upnext.pictures.calibration import calibration_pictures
from upnext.pictures.data import quarantine_pictures, volume_pictures
from upnext.pictures.evaluation import (
    difference_pictures,
    funnel_pictures,
    importance_pictures,
    ranking_pictures,
    retrieval_pictures,
    slice_pictures,
)
from upnext.pictures.policies import off_policy_pictures, policy_pictures
from upnext.pictures.popularity import item_picture, probability_picture
from upnext.pictures.releases import metrics_over_releases, release_picture
from upnext.pictures.training import curve_pictures

Law = Callable[[Picture], None]
Told = dict[str, Any]

OF_A_REPORT: Mapping[str, Callable[[Told], list[Picture]]] = {
    "retrieval": retrieval_pictures,
    "differences": difference_pictures,
    "funnel": funnel_pictures,
    "ranking": ranking_pictures,
    "feature_importance": importance_pictures,
    "ranking_slices": slice_pictures,
    "calibration": calibration_pictures,
    "off_policy": off_policy_pictures,
    "policies": policy_pictures,
}
PLACES = {"step", "epoch", "version", "day_ms"}
"""Numbers that say which line it is; these are never missing."""
DAY = 86_400_000


def without_numbers(value: Any, draw: Callable[[], bool]) -> Any:
    """The same with some numbers missing."""
    if isinstance(value, dict):
        return {k: v if k in PLACES else without_numbers(v, draw) for k, v in value.items()}
    if isinstance(value, list):
        return [without_numbers(one, draw) for one in value]
    return None if isinstance(value, (int, float)) and draw() else value


def all_texts(value: Any, text: str) -> Any:
    """The same with every name replaced, and keys as they are."""
    if isinstance(value, dict):
        return {k: all_texts(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [all_texts(one, text) for one in value]
    return text if isinstance(value, str) else value


@pytest.mark.parametrize("part", OF_A_REPORT)
def test_each_part_of_a_report_is_drawn_with_its_window_and_counts(
    holds_laws: Law, report: Told, part: str
) -> None:
    pictures = OF_A_REPORT[part](report)
    assert pictures
    for picture in pictures:
        holds_laws(picture)
        assert "2026-02-03 00:03 to 2026-02-04 00:02 UTC" in picture.about
        assert re.search("[0-9] (targets|users|impressions|logged slots)", picture.about) or (
            part in {"differences", "policies"}
        )
    assert OF_A_REPORT[part]({**report, part: [], "calibration_by_duration": None}) == [] or (
        part == "calibration"
    )
    assert OF_A_REPORT[part]({}) == []


@settings(max_examples=25)
@given(data=st.data())
def test_missing_numbers_of_a_report_are_no_error(
    holds_laws: Law, report: Told, data: st.DataObject
) -> None:
    told = without_numbers(report, lambda: data.draw(st.booleans()))
    for draw in OF_A_REPORT.values():
        for picture in draw(told):
            holds_laws(picture)


def test_of_nothing_but_missing_numbers_it_says_not_measured(report: Told) -> None:
    told = without_numbers(report, lambda: True)
    pictures = [picture for draw in OF_A_REPORT.values() for picture in draw(told)]
    assert len(pictures) > 10
    assert all("not measured" in picture.svg for picture in pictures)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a\"b'c & d", "視聴 👩‍🚀 видео"])
def test_names_are_text(holds_laws: Law, report: Told, training: Told, text: str) -> None:
    told = all_texts(report, text)
    pictures = [picture for draw in OF_A_REPORT.values() for picture in draw(told)]
    pictures += curve_pictures(all_texts(training["curves"][0], text))
    for picture in pictures:
        holds_laws(picture)


def test_differences_name_the_baseline_and_say_what_is_sure(report: Told) -> None:
    (picture,) = difference_pictures(report)
    assert picture.title == "Retrieval above the best baseline"
    assert [row[1:] for row in picture.table.rows] == [
        ["+0.1 [+0.02, +0.22]", "most watched"],
        ["−0.1 [−0.2, −0.01]", "watched together"],
    ]
    assert 'class="bar model"' in picture.svg
    assert 'class="bar bad"' in picture.svg


def test_a_funnel_tells_what_each_step_loses(report: Told) -> None:
    (picture,) = funnel_pictures(report)
    assert picture.table.rows[1] == ["among the final 10", "300", "1,200", "25%, −900"]


def test_calibration_is_told_in_full(report: Told) -> None:
    by_decile, by_duration, by_position = calibration_pictures(report)
    assert by_decile.table.rows[0][0] == "0.5 to 2"
    assert by_decile.table.rows[0][3] == "1.14 [1.05, 1.25]"
    assert by_position.table.rows[1][0] == "9"
    assert by_duration.svg.count("<circle") == 2


def test_a_curve_marks_the_best_and_the_last_epoch_and_resumes(
    holds_laws: Law, training: Told
) -> None:
    curve, empty = training["curves"]
    pictures = {picture.title: picture for picture in curve_pictures(curve)}
    assert list(pictures) == [
        "chosen/retrieval: loss",
        "chosen/retrieval: examples a second",
        "chosen/retrieval: learning rate",
        "chosen/retrieval: recall@50",
    ]
    for picture in pictures.values():
        holds_laws(picture)
        assert "199 steps, 3 epochs" in picture.about
        assert "resumed 2 ×" in picture.about
    by_epoch = pictures["chosen/retrieval: recall@50"].table
    assert [row[-1] for row in by_epoch.rows] == ["", "best", "last"]
    by_step = pictures["chosen/retrieval: loss"]
    assert [row[-1] for row in by_step.table.rows].count("resumed") == 2
    assert curve_pictures(empty) == []


@settings(max_examples=25)
@given(data=st.data())
def test_missing_numbers_of_a_curve_are_no_error(
    holds_laws: Law, training: Told, data: st.DataObject
) -> None:
    curve = copy.deepcopy(training["curves"][0])
    curve["points"] = curve["points"][:3]
    for picture in curve_pictures(without_numbers(curve, lambda: data.draw(st.booleans()))):
        holds_laws(picture)


def test_data_by_day_and_by_reason(holds_laws: Law) -> None:
    watches = {
        "num_read": 110,
        "num_accepted": 100,
        "quarantined": {"duplicate": 1, "negative <watch_time_s>": 9},
        "first_ms": 0,
        "last_ms": 3 * DAY - 1,
        "per_day": [{"day_ms": DAY * k, "num_rows": n} for k, n in enumerate((60, 0, 40))],
    }
    items = {"num_read": 5, "num_accepted": 5, "quarantined": {}, "first_ms": None}
    data = {"tables": {"watches": watches, "items": items}}
    (by_day,), (by_reason,) = volume_pictures(data), quarantine_pictures(data)
    for picture in (by_day, by_reason):
        holds_laws(picture)
        assert "100 of 110 rows accepted, 1970-01-01 00:00 to 1970-01-03 23:59" in picture.about
    assert [row[0] for row in by_day.table.rows] == ["1970-01-01", "1970-01-02", "1970-01-03"]
    assert by_reason.table.rows[0] == ["negative <watch_time_s>", "9", "8.18%"]
    assert volume_pictures({}) == quarantine_pictures({"tables": {}}) == []


def test_a_metric_over_releases_with_the_best_baseline(holds_laws: Law) -> None:
    releases = [
        {
            "version": version,
            "metrics": {"retrieval": {"recall_at_50": {"value": value, "low": 0.1, "high": 0.2}}},
            "baselines": {"retrieval": {"recall_at_50": {"name": "most watched", "value": 0.12}}},
        }
        for version, value in ((3, 0.15), (1, 0.14), (2, None))
    ]
    releases.append({"version": 4, "metrics": {}})
    assert metrics_over_releases(releases, "retrieval") == ["recall_at_50"]
    picture = release_picture(releases, "retrieval", "recall_at_50")
    holds_laws(picture)
    assert "2 of 4 releases" in picture.about
    assert picture.table.rows == [
        ["1", "0.14 [0.1, 0.2]", "0.12"],
        ["3", "0.15 [0.1, 0.2]", "0.12"],
    ]
    holds_laws(release_picture([], "ranking", "auc"))


def test_an_item_by_day_and_as_it_ages(holds_laws: Law) -> None:
    per_day = [
        {"day_ms": DAY * k, "num_impressions": 10 * k, "num_watches": k, "watch_time_s": 60.0}
        for k in range(4)
    ]
    item = {"item_id": "v1", "title": "<b>", "published_at_ms": DAY + 1}
    by_day = item_picture({"item": item, "known_until_ms": 4 * DAY, "per_day": per_day})
    holds_laws(by_day)
    assert "1970-01-01 to 1970-01-04: 60 impressions, 6 watches" in by_day.about
    assert "published" in [row[-1] for row in by_day.table.rows]
    told = {
        "published_at_ms": DAY,
        "num_users": 200,
        "example_age_days": 0.0,
        "days": [-2.0, 0.0, 1.5],
        "as_trained": [0.0, 0.01, None],
        "at_age": [0.02, 0.02, 0.02],
        "watched_share": [0.0, 0.03, 0.01],
        "num_watches": [0, 3, 1],
    }
    ageing = probability_picture(told)
    holds_laws(ageing)
    assert "200 users" in ageing.about
    assert "4 watches" in ageing.about
    assert ageing.table.rows[1] == ["0", "1%", "2%", "3%", "published"]
    holds_laws(item_picture({"item": item, "per_day": []}))
    holds_laws(probability_picture({"days": [], "as_trained": []}))
