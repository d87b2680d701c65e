"""A label is taken back when its answers are worse than those of stable, and only then."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from upnext.registry.labels import read_labels, read_moves
from upnext.registry.moves import move_label
from upnext.registry.release import publish
from upnext.serving.gate import ACTOR, Gate, GateConfig, Seen, take_back

CONFIG = GateConfig(num_answers=50)


def seen(
    gate: Gate, label: str, *, num_less: int = 0, took_ms: float = 5.0, count: int = 50
) -> None:
    for number in range(count):
        gate.see(label, Seen(version=2, took_ms=took_ms, is_less=number < num_less))


def test_a_label_as_good_as_stable_is_trusted() -> None:
    gate = Gate(CONFIG)
    seen(gate, "stable", num_less=10)
    seen(gate, "canary", num_less=12, took_ms=14.0)
    assert gate.verdict("canary") is None


def test_a_label_whose_stages_fail_is_not() -> None:
    gate = Gate(CONFIG)
    seen(gate, "stable")
    seen(gate, "canary", num_less=4)
    verdict = gate.verdict("canary")
    assert verdict is not None
    assert "8% of its answers" in verdict


def test_a_label_that_answers_slowly_is_not() -> None:
    gate = Gate(CONFIG)
    seen(gate, "stable", took_ms=10.0)
    seen(gate, "canary", took_ms=31.0)
    verdict = gate.verdict("canary")
    assert verdict is not None
    assert "31 ms" in verdict


def test_too_little_is_no_verdict() -> None:
    gate = Gate(CONFIG)
    seen(gate, "stable")
    seen(gate, "canary", num_less=49, count=49)
    assert gate.verdict("canary") is None


def test_slowness_is_not_judged_without_stable_to_compare_with() -> None:
    gate = Gate(CONFIG)
    seen(gate, "canary", took_ms=900.0)
    assert gate.verdict("canary") is None


def test_a_label_that_moved_is_judged_anew() -> None:
    gate = Gate(CONFIG)
    seen(gate, "canary", num_less=50)
    assert gate.verdict("canary")
    gate.see("canary", Seen(version=3, took_ms=5.0, is_less=True))
    assert gate.verdict("canary") is None


@pytest.mark.parametrize("label", ["stable", "canary"])
def test_stable_is_never_taken_back_and_nothing_where_the_gate_is_off(label: str) -> None:
    gate = Gate(CONFIG if label == "stable" else GateConfig(is_on=False, num_answers=50))
    seen(gate, label, num_less=50)
    assert gate.verdict(label) is None


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "a.txt").touch()
    return {}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Three releases; `stable` stands at the first."""
    for _ in range(3):
        publish(tmp_path, _write)
    move_label(tmp_path, "stable", 1)
    return tmp_path


def test_a_label_goes_back_to_where_it_was_and_the_journal_says_why(registry: Path) -> None:
    for version in (2, 3):
        move_label(registry, "canary", version)
    take_back(registry, "canary", 3, "8% of its answers failed")
    assert read_labels(registry) == {"stable": 1, "canary": 2}
    last = read_moves(registry)[-1]
    assert (last.kind, last.actor, last.reason) == ("rollback", ACTOR, "8% of its answers failed")


def test_a_label_without_a_past_goes_where_stable_is(registry: Path) -> None:
    move_label(registry, "canary", 2)
    take_back(registry, "canary", 2, "slow")
    assert read_labels(registry) == {"stable": 1, "canary": 1}
    last = read_moves(registry)[-1]
    assert (last.kind, last.actor, last.reason) == ("move", ACTOR, "slow")


def test_a_label_that_moved_meanwhile_stays_where_it_is(registry: Path) -> None:
    for version in (2, 3):
        move_label(registry, "canary", version)
    moves = read_moves(registry)
    take_back(registry, "canary", 2, "slow")
    assert read_moves(registry) == moves


def test_of_many_processes_that_saw_the_same_one_takes_back(registry: Path) -> None:
    for version in (1, 2, 3):
        move_label(registry, "canary", version)
    num_moves = len(read_moves(registry))
    threads = [
        threading.Thread(target=take_back, args=(registry, "canary", 3, "slow")) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_labels(registry)["canary"] == 2
    assert len(read_moves(registry)) == num_moves + 1


def test_what_cannot_be_taken_back_is_told_and_raises_nothing(
    registry: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for version in (2, 3):
        move_label(registry, "canary", version)
    (registry / "releases/2/a.txt").chmod(0o644)
    (registry / "releases/2/a.txt").write_text("damaged", encoding="utf-8")
    take_back(registry, "canary", 3, "slow")
    assert read_labels(registry)["canary"] == 3
    assert "label canary could not be taken back from release 3" in caplog.text


def test_a_label_with_neither_a_past_nor_a_stable_stays_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, _write)
    move_label(tmp_path, "canary", 1)
    take_back(tmp_path, "canary", 1, "slow")
    assert read_labels(tmp_path) == {"canary": 1}
    assert "label canary could not be taken back from release 1" in caplog.text
