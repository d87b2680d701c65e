"""A value is worked out once an object, and objects do not wait for one another."""

import threading

from upnext.examples.once import once


class _Asked:
    def __init__(self, may_end: threading.Event) -> None:
        self.began, self.may_end, self.num_times = threading.Event(), may_end, 0

    @once
    def value(self) -> int:
        """How often it was worked out."""
        self.began.set()
        assert self.may_end.wait(10)
        self.num_times += 1
        return self.num_times


def test_it_is_worked_out_once() -> None:
    at_once = threading.Event()
    at_once.set()
    asked = _Asked(at_once)
    assert [asked.value, asked.value, asked.num_times] == [1, 1, 1]
    assert isinstance(_Asked.value, once)


def test_one_object_does_not_wait_for_another() -> None:
    later, now = threading.Event(), threading.Event()
    now.set()
    slow, quick = _Asked(later), _Asked(now)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert slow.began.wait(10)
    answered = threading.Thread(target=lambda: quick.value)
    answered.start()
    answered.join(10)
    assert quick.num_times == 1
    assert slow.num_times == 0
    later.set()
    thread.join()
    assert slow.num_times == 1
