"""Percent of a form, and parts of 1 of a server."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import ImmutableMultiDict

from upnext.console.sharing import as_percent, traffic_in
from upnext.errors import RequestError
from upnext.serving.traffic import Traffic


@given(st.lists(st.integers(0, 100_000), max_size=4))
def test_what_adds_up_to_100_is_taken_by_the_server(parts: list[int]) -> None:
    last = 100_000 - sum(parts)
    if last < 0:
        return
    labels = [f"l{n}" for n in range(len(parts) + 1)]
    percents = [part / 1000 for part in (*parts, last)]
    fields = {f"share-{label}": repr(one) for label, one in zip(labels, percents, strict=True)}
    told = traffic_in(ImmutableMultiDict(fields), labels)
    Traffic(split=told["split"])
    assert told["split"].keys() == {
        label for label, one in zip(labels, percents, strict=True) if one
    }
    assert math.isclose(sum(told["split"].values()), 1)


@given(st.integers(0, 100_000))
def test_a_share_comes_back_as_it_was_typed(thousandths: int) -> None:
    text = as_percent(thousandths / 100_000)
    assert float(text) == thousandths / 1000
    assert "E" not in text


@pytest.mark.parametrize("one", ["99", "101", "-1", "nan", "sNaN", "inf", "1e999", "x", "9" * 5000])
def test_what_does_not_add_up_is_refused(one: str) -> None:
    with pytest.raises(RequestError):
        traffic_in(ImmutableMultiDict({"share-stable": one}), ["stable"])


def test_a_shadow_is_told_with_its_share() -> None:
    fields = {"share-stable": "100", "shadow": "canary", "shadow-share": "2.5"}
    told = traffic_in(ImmutableMultiDict(fields), ["canary", "stable"])
    assert told == {"split": {"stable": 1.0}, "shadow": {"label": "canary", "share": 0.025}}
