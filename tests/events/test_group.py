import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from upnext.errors import StoreError
from upnext.events.event import SearchEvent, ServedItem, ServedPage
from upnext.events.group import PAGES_A_GROUP, Appended, Batch, GroupWriter

PAGE = ServedPage(
    request_id="r",
    user_id=1,
    served_at_ms=1,
    release="1",
    label="stable",
    items=[ServedItem(item_id=1)],
)
FULL = StoreError("disk", expected="room", got="none")


def event(number: int) -> SearchEvent:
    return SearchEvent(event_id=str(number), user_id=1, searched_at_ms=1, query="q")


class Disk:
    """Notes what each commit brought; commits only while it is let."""

    def __init__(self) -> None:
        self.groups: list[tuple[list[Batch], int]] = []
        self.may_go_on = threading.Event()
        self.is_busy = threading.Event()
        self.error: Exception | None = None

    def commit(self, batches: Sequence[Batch], pages: Sequence[ServedPage]) -> list[Appended]:
        self.is_busy.set()
        assert self.may_go_on.wait(60)
        if self.error is not None:
            raise self.error
        self.groups.append((list(batches), len(pages)))
        return [Appended(num_accepted=len(batch), num_duplicates=0) for batch in batches]


def test_what_waits_while_the_disk_is_busy_goes_in_one_commit_and_each_gets_its_own() -> None:
    disk = Disk()
    writer = GroupWriter(disk.commit, max_waiting_pages=5, pages_wait_s=60)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(writer.append, [event(0)])
        assert disk.is_busy.wait(60)
        batches = [[event(number)] * number for number in range(1, 8)]
        others = [pool.submit(writer.append, batch) for batch in batches]
        writer.log_pages([PAGE] * 3)
        deadline_s = time.monotonic() + 60
        while len(writer._batches) < 7:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
        assert not first.done()
        disk.may_go_on.set()
        counts = [other.result(60).num_accepted for other in others]
    writer.close()
    assert counts == [1, 2, 3, 4, 5, 6, 7]
    assert [(len(group), num_pages) for group, num_pages in disk.groups] == [(1, 0), (7, 3)]


def test_pages_beyond_the_queue_are_counted_and_close_writes_the_others() -> None:
    disk = Disk()
    disk.may_go_on.set()
    writer = GroupWriter(disk.commit, max_waiting_pages=5, pages_wait_s=60)
    writer.log_pages([PAGE] * 3)
    writer.log_pages([PAGE] * 3)
    writer.log_pages([PAGE] * 3)
    assert writer.num_lost_pages == 4
    writer.close()
    assert sum(num_pages for _, num_pages in disk.groups) == 5
    writer.log_pages([PAGE])
    assert writer.num_lost_pages == 5
    with pytest.raises(StoreError, match="closed"):
        writer.append([event(1)])


@pytest.mark.parametrize("error", [FULL, ZeroDivisionError("a bug")])
def test_an_error_reaches_whoever_waits_and_the_thread_lives_on(error: Exception) -> None:
    disk = Disk()
    disk.may_go_on.set()
    disk.error = error
    writer = GroupWriter(disk.commit, max_waiting_pages=5, pages_wait_s=60)
    writer.log_pages([PAGE])
    with pytest.raises(type(error)):
        writer.append([event(1)])
    assert writer.num_lost_pages == 1
    disk.error = None
    assert writer.append([event(1)]).num_accepted == 1
    writer.close()


def test_pages_that_come_while_the_writer_writes_are_written_unasked() -> None:
    disk = Disk()
    writer = GroupWriter(disk.commit, max_waiting_pages=5_000, pages_wait_s=0.001)
    writer.log_pages([PAGE])
    assert disk.is_busy.wait(60)
    writer.log_pages([])
    for _ in range(3):
        writer.log_pages([PAGE] * PAGES_A_GROUP)  # more than go at once, so some wait twice
    disk.may_go_on.set()
    deadline_s = time.monotonic() + 60
    while sum(num_pages for _, num_pages in disk.groups) < 1 + 3 * PAGES_A_GROUP:
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    writer.close()
