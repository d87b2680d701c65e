"""A label is taken back when its answers are worse than those of stable, and only then."""

import pytest

from upnext.serving.gate import Gate, GateConfig, Seen

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
