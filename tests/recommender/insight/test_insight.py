"""What is made to look into a release goes with the release."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from upnext.errors import RequestError

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


def test_it_is_gone_with_the_release_at_once(tiny_release: TrainedRelease) -> None:
    recommender = replace(tiny_release.recommender)
    item_id = recommender.encoder.catalogue.items.id(2)
    recommender.insight.items("a", 3)
    list(recommender.insight.ageing(item_id, 0.0, 2))
    recommender.insight.map()
    seen = weakref.ref(recommender.insight)
    gc.disable()
    try:
        del recommender
        assert seen() is None
    finally:
        gc.enable()


def test_what_was_made_is_kept_as_long(tiny_release: TrainedRelease) -> None:
    recommender = tiny_release.recommender
    assert recommender.insight is recommender.insight
    assert recommender.insight.map() is recommender.insight.map()


def test_every_question_about_an_unknown_item_names_it(tiny_release: TrainedRelease) -> None:
    insight = tiny_release.recommender.insight
    questions = (
        lambda: insight.item("nothing"),
        lambda: insight.neighbours("nothing", 3),
        lambda: insight.ageing("nothing", 0.0, 3),
    )
    for ask in questions:
        with pytest.raises(RequestError, match="'nothing'") as caught:
            ask()
        assert caught.value.where == "item_id"
