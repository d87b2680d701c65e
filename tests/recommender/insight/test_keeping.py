"""What is made on first use is made once, however many ask at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.patience import SOON_S

from upnext.recommender.insight.keeping import Kept, Once


def test_it_is_made_once_though_many_ask_at_once() -> None:
    together, made = threading.Barrier(8), []

    def make() -> object:
        made.append(object())
        return made[-1]

    once = Once(make)

    def ask(_number: int) -> object:
        together.wait(timeout=SOON_S)
        return once()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))
    assert len(made) == 1
    assert all(answer is made[0] for answer in answers)


def test_what_failed_is_tried_anew() -> None:
    causes = [ValueError("not yet")]

    def make() -> str:
        if causes:
            raise causes.pop()
        return "made"

    once = Once(make)
    with pytest.raises(ValueError, match="not yet"):
        once()
    assert once() == "made"


def test_the_answer_that_was_not_asked_for_the_longest_goes_first() -> None:
    kept: Kept[str, int] = Kept(2)
    kept.keep("one", 1)
    kept.keep("two", 2)
    assert kept.get("one") == 1
    kept.keep("three", 3)
    assert (kept.get("one"), kept.get("two"), kept.get("three")) == (1, None, 3)
