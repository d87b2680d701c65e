"""The page of quality: every number of an evaluation's report stands in it."""

import html
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.console.fake_server import FakeServer
from tests.console.measured import detail, report, system

from upnext.pictures.numbers import interval, percent, short, signed, when

SHARES = ("share_of_best",)
TIMES = ("from_ms", "until_ms")
NOT_PROMISED = {"calibration_overall": ("low", "high"), "policies": ("low", "high")}
"""Bounds of all that was ranked; the interval of a policy is told whole, as below."""


def numbers_in(told: Any, name: str = "", inside: str = "") -> Iterator[set[str]]:
    """Of each number, or number with its interval, the texts of which one must be there."""
    if isinstance(told, dict) and {"value", "low", "high"} <= set(told):
        three = told["value"], told["low"], told["high"]
        if told["value"] is not None:
            yield {interval(*three), interval(*three, tell=signed)}
    elif isinstance(told, dict):
        for key, part in told.items():
            if key not in NOT_PROMISED.get(inside, ()):
                yield from numbers_in(part, key, inside or key)
    elif isinstance(told, list):
        for part in told:
            yield from numbers_in(part, name, inside)
    elif isinstance(told, int | float) and not isinstance(told, bool):
        if name in SHARES:
            yield {percent(told)}
        elif name == "expected_watch_time_s":
            yield {interval(told, 30.9, 31.9)}
        else:
            yield {when(told)} if name in TIMES else {short(told)}


def words_in(told: Any) -> Iterator[str]:
    """Names and sentences of a report."""
    if isinstance(told, dict):
        yield from (told[key] for key in ("name", "protocol", "policy", "baseline") if key in told)
    parts = told.values() if isinstance(told, dict) else told if isinstance(told, list) else ()
    for part in parts:
        yield from words_in(part)


def test_every_number_of_the_report_stands_in_the_page(visitor: httpx.Client) -> None:
    answer = visitor.get("/quality")
    assert answer.status_code == 200
    text = html.unescape(answer.text)
    wanted = list(numbers_in(report()))
    assert len(wanted) > 100
    missing = [texts for texts in wanted if not any(one in text for one in texts)]
    assert missing == []
    for words in (*words_in(report()), *report()["notes"]):
        assert words in text, words


def test_a_release_that_was_not_evaluated_says_how_it_is(visitor: httpx.Client) -> None:
    text = visitor.get("/quality?version=1").text
    assert "Release 1 was not evaluated" in text
    assert "upnext evaluate LOGS REGISTRY --release 1" in text


def test_an_evaluation_without_ranking_is_a_sentence(
    fake: FakeServer, visitor: httpx.Client
) -> None:
    kept = ("protocol", "from_ms", "until_ms", "counts", "retrieval", "notes")
    bare = {name: part for name, part in report().items() if name in kept}
    empty = report(ranking=[], calibration=[], calibration_overall=None, ranking_slices=[])
    for evaluation in (bare, empty):
        fake.answers["GET /insight/v1/releases/2"] = detail(2, evaluation=evaluation)
        answer = visitor.get("/quality?version=2")
        assert answer.status_code == 200
        assert "This evaluation measured no ranking" in answer.text
        assert "Retrieval: recall@50" in answer.text


def test_what_is_not_defined_is_a_dash(fake: FakeServer, visitor: httpx.Client) -> None:
    nothing = {"value": None, "low": None, "high": None}
    ranking = [system("ranking", False, auc=0.7), system("most watched", True)]
    ranking[1]["metrics"]["auc"] = nothing
    fake.answers["GET /insight/v1/releases/2"] = detail(2, evaluation=report(ranking=ranking))
    answer = visitor.get("/quality?version=2")
    assert answer.status_code == 200
    assert "not measured" in answer.text


def test_names_in_a_report_are_never_markup(fake: FakeServer, visitor: httpx.Client) -> None:
    bad = "<script>alert(1)</script>"
    told = report(protocol=bad, notes=[bad], ranking=[system(bad, False, auc=0.7)])
    told["counts"] = {bad: 3}
    told["ranking_slices"][0]["name"] = bad
    fake.answers["GET /insight/v1/releases/2"] = detail(2, evaluation=told, problem=bad)
    answer = visitor.get("/quality?version=2").text.lower()
    assert "<script>alert" not in answer
    assert answer.count("&lt;script&gt;alert") >= 5


@pytest.mark.parametrize("path", ["/quality", "/data"])
def test_a_registry_without_releases_is_a_sentence(
    fake: FakeServer, visitor: httpx.Client, path: str
) -> None:
    fake.answers["GET /insight/v1/releases"] |= {"releases": [], "labels": {}}
    answer = visitor.get(path)
    assert answer.status_code == 200
    assert "There is no release yet" in answer.text


@pytest.mark.parametrize("path", ["/quality", "/data"])
def test_without_a_stable_release_the_newest_is_shown(
    fake: FakeServer, visitor: httpx.Client, path: str
) -> None:
    fake.answers["GET /insight/v1/releases"]["labels"] = {}
    assert "<option selected>2</option>" in visitor.get(path).text
    assert "<option selected>1</option>" in visitor.get(path, params={"version": "1"}).text


@pytest.mark.parametrize("path", ["/quality", "/data"])
@pytest.mark.parametrize("version", ["77", "0", ".", "..", "../1", "1?x=1", "٣", "<b>"])
def test_a_release_that_is_not_there_is_not_found(
    fake: FakeServer, visitor: httpx.Client, path: str, version: str
) -> None:
    answer = visitor.get(path, params={"version": version})
    assert answer.status_code == 404
    assert "<b>" not in answer.text
    tail = fake.asked[-1].path.rpartition("/v1/")[2]
    assert tail.count("/") == 1  # it stays one part of the path, whatever is in it
