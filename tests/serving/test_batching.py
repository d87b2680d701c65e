"""Everything that is let in is worked off once, in order of its kind, or told why not."""

import asyncio
import gc
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.patience import SOON_S

from upnext.errors import ConfigError
from upnext.serving.batching import OverloadedError, QueueConfig, WorkQueue, within


def run(make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(make(), SOON_S))


@contextmanager
def queue_of(**settings: int) -> Iterator[WorkQueue]:
    queue = WorkQueue(QueueConfig(**settings))
    try:
        yield queue
    finally:
        queue.close()


def later() -> float:
    return time.monotonic() + SOON_S


class Held:
    """Work that waits until it may go on, and remembers what was worked off together."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self, some: Sequence[Any]) -> Sequence[Any]:
        self.batches.append(list(some))
        self.began.set()
        assert self.go.wait(SOON_S)
        return [("done", one) for one in some]


@settings(max_examples=25)
@given(
    asked=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=30),
    num_threads=st.integers(1, 3),
    max_batch=st.integers(1, 5),
)
def test_each_gets_its_own_result_and_only_its_kind_goes_together(
    asked: list[tuple[str, int]], num_threads: int, max_batch: int
) -> None:
    batches: list[list[tuple[str, int]]] = []

    def work(some: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        batches.append(list(some))
        return [(kind, 10 * number) for kind, number in some]

    async def ask_all(queue: WorkQueue) -> list[Any]:
        waiting = [queue.submit(work, one, kind=one[0], give_up_s=later()) for one in asked]
        return await asyncio.gather(*waiting)

    with queue_of(num_threads=num_threads, max_batch=max_batch) as queue:
        assert run(lambda: ask_all(queue)) == [(kind, 10 * number) for kind, number in asked]
    assert sorted(one for batch in batches for one in batch) == sorted(asked)
    assert all(len({kind for kind, _ in batch}) == 1 for batch in batches)
    assert all(len(batch) <= max_batch for batch in batches)


def test_what_waits_is_taken_together_and_what_is_alone_at_once() -> None:
    held = Held()

    async def ask(queue: WorkQueue) -> list[Any]:
        first = queue.submit(held, 0, kind="x", give_up_s=later())
        await asyncio.to_thread(held.began.wait, SOON_S)
        assert not queue.is_idle
        others = [queue.submit(held, n, kind="x", give_up_s=later()) for n in (1, 2, 3)]
        assert queue.num_waiting == 3
        held.go.set()
        return await asyncio.gather(first, *others)

    with queue_of(max_batch=8) as queue:
        assert run(lambda: ask(queue)) == [("done", n) for n in range(4)]
    assert held.batches == [[0], [1, 2, 3]]


def test_beyond_what_may_wait_a_request_is_refused_and_the_others_are_answered() -> None:
    held = Held()

    async def ask(queue: WorkQueue) -> list[Any]:
        taken = queue.submit(held, 0, kind="x", give_up_s=later())
        await asyncio.to_thread(held.began.wait, SOON_S)
        waiting = [queue.submit(held, n, kind="x", give_up_s=later()) for n in (1, 2)]
        with pytest.raises(OverloadedError, match="2 requests that wait"):
            queue.submit(held, 3, kind="x", give_up_s=later())
        held.go.set()
        return await asyncio.gather(taken, *waiting)

    with queue_of(max_waiting=2) as queue:
        assert run(lambda: ask(queue)) == [("done", n) for n in range(3)]


class Clocked:
    """A queue of one thread on a clock of its own, which moves by what a batch takes, and no more.

    `waited_s`: how long each waited that was begun.
    """

    def __init__(self, *, fixed_s: float, each_s: float, **settings: float) -> None:
        self.fixed_s, self.each_s = fixed_s, each_s
        self.time_s, self.waited_s = 100.0, list[float]()
        self.began, self.go = threading.Event(), threading.Event()
        config = replace(QueueConfig(max_waiting=10_000), **settings)  # type: ignore[arg-type]
        self.queue = WorkQueue(config, on_waited=self.waited_s.append, now_s=lambda: self.time_s)

    def takes_s(self, num: int) -> float:
        return self.fixed_s + num * self.each_s

    def work(self, some: Sequence[Any]) -> Sequence[Any]:
        self.began.set()
        assert self.go.wait(SOON_S)
        self.time_s += self.takes_s(len(some))
        return some

    def ask(self, allowed_s: float) -> "asyncio.Future[Any]":
        give_up_s = self.time_s + allowed_s
        return self.queue.submit(self.work, 0, kind="x", give_up_s=give_up_s)

    async def learn(self) -> None:
        """The queue sees batches of one and of two, so that it knows how long any takes."""
        for _ in range(3):
            await self.begin_one()
            others = [self.ask(1e9) for _ in range(2)]
            self.go.set()
            await asyncio.gather(*others)

    async def begin_one(self) -> "asyncio.Future[Any]":
        """One is asked and taken by the thread, which holds it."""
        self.began.clear()
        self.go.clear()
        asked = self.ask(1e9)
        await asyncio.to_thread(self.began.wait, SOON_S)
        return asked


@settings(max_examples=30, deadline=None)
@given(
    fixed_s=st.floats(0.001, 0.02),
    each_s=st.floats(0.001, 0.02),
    allowed_s=st.floats(0.05, 0.5),
    max_wait_share=st.floats(0.1, 1.0),
    max_batch=st.integers(2, 9),
)
def test_as_many_are_let_in_as_begin_within_their_share_of_the_time_and_no_more(
    fixed_s: float, each_s: float, allowed_s: float, max_wait_share: float, max_batch: int
) -> None:
    clocked = Clocked(
        fixed_s=fixed_s, each_s=each_s, max_batch=max_batch, max_wait_share=max_wait_share
    )

    def would_wait_s(num_before: int) -> float:
        full, left = divmod(num_before, max_batch)
        first_s, last_s = clocked.takes_s(1), clocked.takes_s(left) if left else 0.0
        return first_s + full * clocked.takes_s(max_batch) + last_s

    async def flood() -> int:
        await clocked.learn()
        running = await clocked.begin_one()
        let_in = []
        while not clocked.queue.is_full(allowed_s):
            let_in.append(clocked.ask(allowed_s))
        with pytest.raises(OverloadedError):
            clocked.ask(allowed_s)
        clocked.waited_s.clear()
        clocked.go.set()
        await asyncio.gather(running, *let_in)
        return len(let_in)

    num_let_in = run(flood)
    clocked.queue.close()
    bound_s = max_wait_share * allowed_s
    assert len(clocked.waited_s) == num_let_in >= 1  # none is lost
    assert max(clocked.waited_s[1:], default=0.0) <= bound_s + 1e-6  # the next one always may
    assert would_wait_s(num_let_in) > bound_s - 1e-6


def test_an_idle_queue_lets_in_whatever_little_time_there_is() -> None:
    clocked = Clocked(fixed_s=0.01, each_s=0.01)

    async def ask() -> None:
        await clocked.learn()
        assert clocked.queue.is_idle
        assert clocked.queue.expected_wait_s() == 0
        await clocked.ask(1e-6)

    run(ask)
    clocked.queue.close()


def test_whoever_would_be_the_next_is_let_in_however_slow_the_last_ones_were() -> None:
    clocked = Clocked(fixed_s=10.0, each_s=10.0)

    async def ask() -> None:
        await clocked.learn()
        running = await clocked.begin_one()
        following = clocked.ask(0.25)
        assert clocked.queue.is_full(0.25)
        following.cancel()
        assert not clocked.queue.is_full(0.25), "nobody waits any more"
        another = clocked.ask(30.0)
        with pytest.raises(OverloadedError):
            clocked.ask(30.0)
        clocked.go.set()
        await asyncio.gather(running, another)

    run(ask)
    clocked.queue.close()


def test_what_is_given_up_is_never_begun() -> None:
    held = Held()

    async def ask(queue: WorkQueue) -> None:
        first = queue.submit(held, "first", kind="x", give_up_s=later())
        await asyncio.to_thread(held.began.wait, SOON_S)
        cancelled = queue.submit(held, "cancelled", kind="x", give_up_s=later())
        last = queue.submit(held, "last", kind="x", give_up_s=later())
        cancelled.cancel()
        held.go.set()
        await asyncio.gather(first, last)

    with queue_of() as queue:
        run(lambda: ask(queue))
    assert held.batches == [["first"], ["last"]]


@pytest.mark.parametrize("num_threads", [1, 3])
def test_whoever_gives_up_in_whatever_way_keeps_no_thread_and_nobody_else(
    num_threads: int,
) -> None:
    """Late, cancelled, failed or answered at any moment: each ends in one way, and all go on."""
    rng, wrongs = random.Random(num_threads), list[object]()

    def work(some: Sequence[int]) -> Sequence[object]:
        time.sleep(rng.random() * 1e-3)
        return [ValueError(one) if one % 7 == 0 else one for one in some]

    async def one_of_them(queue: WorkQueue, number: int) -> object:
        await asyncio.sleep(rng.random() * 0.05)
        allowed_s = rng.choice([0.0, 5e-4, SOON_S])
        by_s = time.monotonic() + allowed_s
        return await within(allowed_s, queue.submit(work, number, kind=number % 3, give_up_s=by_s))

    async def ask(queue: WorkQueue) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, wrong: wrongs.append(wrong))
        tasks = [asyncio.create_task(one_of_them(queue, number)) for number in range(200)]
        for task in rng.sample(tasks, 30):
            await asyncio.sleep(1e-3)
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for number, end in enumerate(ends):
            if number % 7 == 0 and isinstance(end, ValueError):
                continue
            may_be = (TimeoutError, OverloadedError, asyncio.CancelledError)
            assert end == number or isinstance(end, may_be), end
        for number in range(50):  # one by one: each wakes a thread that rests
            waiting = queue.submit(list, number, kind=object(), give_up_s=later())
            assert await within(SOON_S, waiting) == number

    with queue_of(num_threads=num_threads, max_batch=4) as queue:
        run(lambda: ask(queue))
        gc.collect()  # what nobody heard of would be told by now
    assert not wrongs


def test_a_failure_is_told_to_all_that_went_together_and_to_nobody_else() -> None:
    def fails(some: Sequence[Any]) -> Sequence[Any]:
        raise ValueError("broken")

    async def ask(queue: WorkQueue) -> list[Any]:
        broken = [queue.submit(fails, n, kind="broken", give_up_s=later()) for n in range(3)]
        whole = queue.submit(list, "x", kind="whole", give_up_s=later())
        return await asyncio.gather(*broken, whole, return_exceptions=True)

    with queue_of() as queue:
        *failures, fine = run(lambda: ask(queue))
    assert [str(one) for one in failures] == ["broken"] * 3
    assert fine == "x"


def test_one_result_may_be_a_failure_of_its_own() -> None:
    def work(some: Sequence[int]) -> Sequence[object]:
        return [KeyError(one) if one == 1 else one for one in some]

    async def ask(queue: WorkQueue) -> list[Any]:
        waiting = [queue.submit(work, n, kind="x", give_up_s=later()) for n in range(3)]
        return await asyncio.gather(*waiting, return_exceptions=True)

    with queue_of() as queue:
        first, second, third = run(lambda: ask(queue))
    assert (first, third) == (0, 2)
    assert isinstance(second, KeyError)


def test_a_closed_queue_has_worked_off_what_it_let_in_and_lets_nothing_in() -> None:
    done: list[int] = []

    def work(some: Sequence[int]) -> Sequence[int]:
        done.extend(some)
        return some

    async def ask(queue: WorkQueue) -> None:
        waiting = [queue.submit(work, n, kind=object(), give_up_s=later()) for n in range(50)]
        await asyncio.to_thread(queue.close)
        assert sorted(done) == list(range(50))
        assert await asyncio.gather(*waiting) == list(range(50))
        with pytest.raises(OverloadedError):
            queue.submit(work, 0, kind=object(), give_up_s=later())

    with queue_of(num_threads=2) as queue:
        run(lambda: ask(queue))


@pytest.mark.parametrize("name", ["num_threads", "max_batch", "max_waiting", "max_wait_share"])
def test_a_queue_without_room_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        QueueConfig(**{name: 0})


def test_nobody_waits_longer_than_there_is_time() -> None:
    with pytest.raises(ConfigError, match="max_wait_share: expected above 0, to 1"):
        QueueConfig(max_wait_share=1.5)


def test_how_long_each_waited_is_told_and_nothing_of_those_that_gave_up() -> None:
    waited: list[float] = []
    held = Held()
    queue = WorkQueue(QueueConfig(max_batch=1), on_waited=waited.append)

    async def ask() -> None:
        began_s = time.monotonic()
        asks = [queue.submit(held, one, kind=held, give_up_s=later()) for one in range(3)]
        given_up = queue.submit(held, 3, kind=held, give_up_s=later())
        given_up.cancel()
        asked_s = time.monotonic()
        await asyncio.to_thread(held.began.wait, SOON_S)
        assert len(waited) == 1
        go_s = time.monotonic()
        held.go.set()
        await asyncio.gather(*asks)
        took_s = time.monotonic() - began_s
        assert len(waited) == 3
        assert 0 <= waited[0] <= go_s - began_s
        assert all(go_s - asked_s <= one <= took_s for one in waited[1:])

    run(ask)
    queue.close()
