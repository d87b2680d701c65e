"""Counters as curves: what is drawn is what each window counted."""

from itertools import pairwise

from tests.console.measured import BOUNDS_S, histogram

from upnext.console.counters import Reading, Window
from upnext.console.over_time import (
    A_SECOND,
    WAITED,
    in_turn,
    over_time,
    rate,
    recall_picture,
    time_to_answer,
    traffic_pictures,
)
from upnext.pictures.numbers import milliseconds, percent, short

AT_S = 1_795_619_337.0


def windows(*texts: str, length_s: float = 10.0) -> list[Window]:
    """One between each two readings."""
    readings = [Reading.of(text, AT_S + length_s * place) for place, text in enumerate(texts)]
    return [Window(a, b) for a, b in pairwise(readings)]


def served(
    *times_s: float, stage: str = "served", release: str = "2", label: str = "stable"
) -> str:
    about = {"stage": stage, "release": release, "label": label}
    return histogram("upnext_stage_seconds", times_s, BOUNDS_S, **about)


def test_a_curve_has_a_point_for_each_window() -> None:
    told = windows(*(f"upnext_answers_total {num}\n" for num in (0, 40, 45, 145)))
    picture = over_time("Answers", "all", told, A_SECOND, {"a": rate("upnext_answers_total")})
    assert picture is not None
    assert [row[1] for row in picture.table.rows] == ["4", "0.5", "10"]
    assert "Last 30 s" in picture.about


def test_the_time_to_answer_is_that_of_each_window() -> None:
    first, then = (0.003, 0.003, 0.003), (0.05,)
    told = windows(served(), served(*first), served(*first, *then))
    picture = time_to_answer(told)
    assert picture is not None
    for row, window in zip(picture.table.rows, told, strict=True):
        median_s = window.quantile(0.5, "upnext_stage_seconds", stage="served")
        assert median_s is not None
        assert row[1] == milliseconds(1e3 * median_s)


def test_a_moment_in_which_nobody_asked_is_a_gap() -> None:
    told = windows(served(), served(0.003), served(0.003), served(0.003, 0.004))
    picture = time_to_answer(told)
    assert picture is not None
    assert picture.table.rows[1][1] == "–"


def test_before_two_windows_there_is_nothing_to_draw() -> None:
    assert traffic_pictures([]) == []
    assert traffic_pictures(windows(served(), served(0.1))) == []
    assert recall_picture([]) is None
    assert recall_picture(windows("", "")) is None


def test_each_release_has_its_own_recall() -> None:
    def text(*recalls: float) -> str:
        of_3 = histogram("upnext_index_recall", [0.5] * len(recalls), (0.9, 1.0), release="3")
        return histogram("upnext_index_recall", recalls, (0.9, 1.0), release="2") + of_3

    picture = recall_picture(windows(text(), text(1.0, 0.9), text(1.0, 0.9, 0.8)))
    assert picture is not None
    assert [row[1:] for row in picture.table.rows] == [
        [percent(0.95), percent(0.5)],
        [percent(0.8), percent(0.5)],
    ]
    assert "6 requests" in picture.about


def test_all_that_traffic_does_is_drawn() -> None:
    def text(num: int) -> str:
        lines = [histogram(WAITED, [0.001] * num)]
        for release, label, of in (("2", "stable", num), ("3", "canary", num // 2)):
            told = f'release="{release}",label="{label}"'
            lines.append(f"upnext_answers_total{{{told}}} {of}\n")
            lines.append(f'upnext_degraded_total{{cause="late",{told}}} {of // 4}\n')
            for stage in ("served", "ranking", "past"):
                times_s = [0.01] * of
                lines.append(served(*times_s, stage=stage, release=release, label=label))
        return "".join([*lines, f"upnext_refused_total {num // 5}\n"])

    pictures = {one.title: one for one in traffic_pictures(windows(text(0), text(20), text(60)))}
    assert list(pictures) == [
        "Time to answer",
        "p99 of each stage",
        "p99 by label",
        "Answers by label",
        "Waiting for a thread",
        "Refused and degraded",
    ]
    stages = [name for _, name in pictures["p99 of each stage"].legend]
    assert stages == ["past", "ranking"]
    rates = [row[1:] for row in pictures["Answers by label"].table.rows]
    assert rates == [[short(2.0), short(1.0)], [short(4.0), short(2.0)]]
    assert [row[1:] for row in pictures["Refused and degraded"].table.rows] == [
        [short(0.4), short(0.7)],
        [short(0.8), short(1.5)],
    ]


def test_stages_follow_each_other_as_in_a_request() -> None:
    stages = ["ranking", "zebra", "past", "served", "apple"]
    assert sorted(stages, key=in_turn) == ["served", "past", "ranking", "apple", "zebra"]
