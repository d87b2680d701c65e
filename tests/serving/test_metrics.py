"""Every sentence of a stage that failed is counted as that stage; wishes are not."""

import pytest

from upnext.recommender.funnel import NO_RANKING, TOO_LATE
from upnext.serving import answering
from upnext.serving.metrics import causes_of


@pytest.mark.parametrize(
    ("sentence", "counted"),
    [
        (TOO_LATE, ["ranking_late"]),
        (answering.TOO_LATE, ["late"]),
        (answering.FAILED, ["failed"]),
        (answering.NO_STORE, ["store"]),
        (NO_RANKING, []),
        ("rules leave 3 items for 10 slots", []),
    ],
)
def test_a_cause_is_counted_as_what_it_is(sentence: str, counted: list[str]) -> None:
    assert causes_of([sentence]) == counted
