import signal
import threading

import pytest

from upnext.training.interrupt import first_interrupt_waits


def test_the_first_interrupt_is_noted_and_the_second_ends() -> None:
    before = signal.getsignal(signal.SIGINT)
    with first_interrupt_waits() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_errors_pass_and_interrupts_are_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), first_interrupt_waits():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_changes_nothing() -> None:
    before, heard = signal.getsignal(signal.SIGINT), list[bool]()

    def work() -> None:
        with first_interrupt_waits() as interrupted:
            heard.append(interrupted())
            heard.append(signal.getsignal(signal.SIGINT) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [False, True]
