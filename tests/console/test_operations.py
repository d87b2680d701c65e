"""What was set in motion goes on, and its end is told whoever asks."""

import asyncio

from upnext.console.client import Json
from upnext.console.operations import KEPT, Operations
from upnext.errors import ReleaseError


def test_an_operation_is_told_while_it_runs_and_when_it_is_done() -> None:
    async def check() -> None:
        seconds = iter([10.0, 12.5])
        operations, may_end = Operations(clock=lambda: next(seconds)), asyncio.Event()

        async def work() -> Json:
            await may_end.wait()
            return {"steps": [{"what": "verified", "after_s": 0.5}]}

        started = operations.start("load release 3", work())
        await asyncio.sleep(0)
        assert operations.get(started.number) is started
        assert (started.state, started.steps) == ("running", [])
        may_end.set()
        while started.state == "running":
            await asyncio.sleep(0)
        assert started.state == "done"
        assert started.steps == [{"what": "verified", "after_s": 0.5}]
        assert (started.began_ms, started.took_s) == (10_000, 2.5)

    asyncio.run(check())


def test_why_it_failed_is_told() -> None:
    async def check() -> None:
        operations = Operations()

        async def work() -> Json:
            raise ReleaseError("release 3", expected="a file", got="none")

        started = operations.start("load", work())
        while started.state == "running":
            await asyncio.sleep(0)
        assert started.state == "failed"
        assert "release 3: expected a file, got none" in started.error

    asyncio.run(check())


def test_the_last_ones_are_kept_under_their_own_numbers_and_none_that_runs_is_forgotten() -> None:
    async def check() -> None:
        operations, may_end = Operations(), asyncio.Event()

        async def at_once() -> Json:
            return {}

        async def long() -> Json:
            await may_end.wait()
            return {}

        running = operations.start("long", long())
        ended = []
        for n in range(KEPT + 7):
            ended.append(operations.start(f"{n}", at_once()))
            while ended[-1].state == "running":
                await asyncio.sleep(0)
        last = operations.start("last", at_once())
        kept = [one for one in ended if operations.get(one.number) is one]
        assert kept == ended[-KEPT:]
        assert operations.get(running.number) is running
        may_end.set()
        while "running" in (running.state, last.state):
            await asyncio.sleep(0)

    asyncio.run(check())
