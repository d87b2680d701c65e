"""Times as people and programs write them, and how a terminal is told of progress."""

import io

import pytest
from rich.console import Console

from upnext.cli import terminal
from upnext.cli.terminal import time_ms
from upnext.errors import RequestError

NOON_MS = 1_767_960_000_000


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2026-01-09T12:00", NOON_MS),
        ("2026-01-09 12:00:00.001", NOON_MS + 1),
        ("2026-01-09T14:00+02:00", NOON_MS),
        ("2026-01-09T12:00Z", NOON_MS),
        ("20260109", NOON_MS - 12 * 3_600_000),
        (str(NOON_MS), NOON_MS),
        ("1969-12-31T23:59:59.999", -1),
        ("100000000", 100_000_000),
    ],
)
def test_iso_times_and_milliseconds(text: str, at_ms: int) -> None:
    assert time_ms(text) == at_ms


def test_no_millisecond_is_lost_to_rounding() -> None:
    for after in range(1000):
        assert time_ms(f"2026-01-09T12:00:00.{after:03}") == NOON_MS + after


@pytest.mark.parametrize(
    "text", ["noon", "", "12345", "-5", "9" * 30, "9" * 5000, "2026-13-01", "٣" * 13]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--at: expected an ISO time, got"):
        time_ms(text)


def test_progress_writes_over_itself_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        terminal, "stderr", Console(file=screen, force_terminal=True, highlight=False)
    )
    line = terminal.ProgressLine()
    line.tell("10% done")
    line.tell("20% done")
    terminal.say("epoch 0")
    clear = terminal.CLEAR_LINE
    assert screen.getvalue() == f"{clear}10% done{clear}20% done{clear}epoch 0\n"


def test_progress_is_a_line_a_minute_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(terminal, "stderr", Console(file=file, highlight=False))
    times_s = iter([0.0, 1.0, 61.0, 61.0, 62.0, 150.0, 150.0])
    line = terminal.ProgressLine(lambda: next(times_s))
    for share in (1, 40, 41, 99):
        line.tell(f"{share}% done")
    assert file.getvalue() == "40% done\n99% done\n"
