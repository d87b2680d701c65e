"""The benchmarks of swaps, overload and kills see what went wrong: each fault is made, and told."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from benchmarks.label_moves import Move
from benchmarks.open_loop import RECORD
from benchmarks.serving_kills import Ledger, store_faults
from benchmarks.serving_overload import recovery_s
from benchmarks.serving_swaps import Faults, faults_of, in_windows

MOVES = [Move(began_s=10.0, acknowledged_s=11.0, version=2, kind="move")]
PAGES = {1: np.array([101, 102], np.uint32), 2: np.array([201, 202], np.uint32)}


def answers(*sent_and_release: tuple[float, int]) -> np.ndarray:
    records = np.zeros(len(sent_and_release), RECORD)
    records["sent_s"], records["release"] = np.array(sent_and_release).T
    records["scheduled_s"] = records["sent_s"]
    records["done_s"] = records["sent_s"] + 0.01
    records["status"], records["is_right"] = 200, True
    records["page"] = [PAGES[int(release)][0] for release in records["release"]]
    return records


def test_either_release_may_answer_while_the_label_moves() -> None:
    records = answers((9.0, 1), (10.2, 1), (10.4, 2), (10.6, 1), (11.5, 2))
    assert faults_of(records, MOVES, PAGES, 1) == Faults(num_errors=0, num_late=0, num_mixed=0)
    assert in_windows(records, MOVES).tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(("sent_s", "release"), [(11.1, 1), (9.0, 2)])
def test_the_other_release_before_or_after_is_late(sent_s: float, release: int) -> None:
    assert faults_of(answers((sent_s, release)), MOVES, PAGES, 1).num_late == 1


def test_a_page_of_another_release_or_user_is_mixed_and_a_degraded_one_is_not() -> None:
    records = answers((9.0, 1), (9.1, 1), (9.2, 1))
    records["page"] = [201, 102, 999]
    records["is_degraded"][2] = True
    assert faults_of(records, MOVES, PAGES, 1).num_mixed == 2


def test_what_is_no_answer_is_an_error_and_nothing_else() -> None:
    records = answers((11.1, 1))
    records["status"] = 503
    assert faults_of(records, MOVES, PAGES, 1) == Faults(num_errors=1, num_late=0, num_mixed=0)


def test_recovery_ends_with_the_last_slow_or_refused_probe() -> None:
    probes = answers((9.0, 1), (11.0, 1), (13.0, 1), (15.0, 1))
    assert recovery_s(probes, 10.0) == 0
    probes["done_s"][2] += 1.0
    assert recovery_s(probes, 10.0) == 3.0
    probes["status"][3] = 429
    assert recovery_s(probes, 10.0) == 5.0


def test_lost_doubled_and_made_up_events_are_told(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "events.sqlite") as store:
        store.execute("CREATE TABLE happened (event_id TEXT)")
        store.executemany("INSERT INTO happened VALUES (?)", [("a",), ("b",), ("b",), ("x",)])
    store.close()
    ledger = Ledger(sent={"a", "b", "c", "d"}, acknowledged={"a", "b", "c"})
    assert store_faults(tmp_path / "events.sqlite", ledger) == [
        "1 events acknowledged and lost",
        "1 events counted twice",
        "1 events never sent",
    ]
    assert store_faults(tmp_path / "events.sqlite", Ledger(sent={"a", "b", "x"})) == [
        "1 events counted twice"
    ]
