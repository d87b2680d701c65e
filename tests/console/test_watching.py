"""The last hour of counters: what is kept of it, and what came over a restart of the server."""

import asyncio
from collections.abc import Sequence

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.console.client import Server
from upnext.console.watching import EVERY_S, Watch


class Telling:
    """A server that answers what it is set to, and the clock of who asks it."""

    def __init__(self) -> None:
        self.at_s, self.num_answers, self.is_up = 1_000.0, 0, True
        transport = httpx.MockTransport(self._answer)
        server = Server("http://server", "http://server", transport=transport)
        self.watch = Watch(server, clock=lambda: self.at_s)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if not self.is_up:
            raise httpx.ConnectError("refused")
        if request.url.path == "/readyz":
            return httpx.Response(200, json={"ready": True})
        return httpx.Response(200, text=f"upnext_answers_total {self.num_answers}\n")

    def read_every(self, *counts: int, every_s: float = EVERY_S) -> None:
        """One reading for each count."""

        async def read() -> None:
            for num in counts:
                self.at_s += every_s
                self.num_answers = num
                await self.watch.read()

        asyncio.run(read())

    def problem(self) -> str:
        return "" if self.watch.problem is None else str(self.watch.problem)

    def came_in(self, last_s: float) -> float:
        window = self.watch.window(last_s)
        assert window is not None
        return window.increase("upnext_answers_total")


@given(lives=st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=5), min_size=1, max_size=5))
def test_what_came_over_restarts_is_counted(lives: list[list[int]]) -> None:
    server = Telling()
    server.read_every(0)
    came, before = 0, 0
    for steps in lives:
        counts = [sum(steps[: place + 1]) for place in range(len(steps))]
        server.read_every(*counts)
        # A server that counts at least as much as the one before cannot be told from it.
        is_seen = counts[0] < before
        came += counts[-1] if is_seen else counts[-1] - before
        before = counts[-1]
    assert server.came_in(600.0) == came


@pytest.mark.parametrize("last_s", [60.0, 300.0, 3_600.0])
def test_a_window_is_as_long_as_asked_and_windows_fill_it(last_s: float) -> None:
    server = Telling()
    server.read_every(*range(900))
    window = server.watch.window(last_s)
    assert window is not None
    assert window.length_s == pytest.approx(last_s, abs=60.0 if last_s > 300 else EVERY_S / 2)
    assert window.increase("upnext_answers_total") == window.length_s / EVERY_S
    parts = server.watch.windows(last_s, 12)
    assert len(parts) in (11, 12)
    assert [one.last for one in parts[:-1]] == [one.first for one in parts[1:]]
    assert parts[-1].last is server.watch.latest
    total = sum(one.increase("upnext_answers_total") for one in parts)
    assert total == sum(one.length_s for one in parts) / EVERY_S


def test_an_hour_is_kept_in_few_readings() -> None:
    server = Telling()
    server.read_every(*range(2_000))
    watch = server.watch
    assert len(watch.windows(10_000.0, 10_000)) < 140
    window = watch.window(10_000.0)
    assert window is not None
    assert 3_500 < window.length_s <= 3_700


def test_before_two_readings_there_is_no_window() -> None:
    server = Telling()
    windows: list[Sequence[object]] = [server.watch.windows(60.0, 10)]
    assert server.watch.window(60.0) is None
    server.read_every(5)
    windows.append(server.watch.windows(60.0, 10))
    assert server.watch.window(60.0) is None
    assert windows == [[], []]


def test_a_server_that_is_away_is_said_to_be_and_what_came_meanwhile_counts() -> None:
    server = Telling()
    server.read_every(1, 2)
    server.is_up = False
    server.read_every(3)
    assert server.problem().startswith("http://server")
    server.is_up = True
    server.read_every(9)
    assert server.problem() == ""
    assert server.came_in(60.0) == 8


def test_whoever_waits_for_the_first_reading_asks_for_no_second() -> None:
    server = Telling()

    async def both() -> None:
        await asyncio.gather(server.watch.read(), *(server.watch.read_first() for _ in range(3)))

    asyncio.run(both())
    assert server.watch.latest is not None
    assert server.watch.window(60.0) is None
