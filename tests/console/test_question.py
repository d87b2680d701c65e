"""What a URL says is what the server is asked, whatever it says."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from upnext.console.question import LAST_MS, MAX_HISTORY, Question, Watched, time_field
from upnext.errors import RequestError
from upnext.serving.decoding import convert
from upnext.serving.wire import RequestBody

texts = st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable())
numbers = st.integers(0, 1_000)
releases = st.from_regex("[a-z][a-z0-9-]{0,31}", fullmatch=True) | st.integers(1, 10**6).map(str)
maybe = st.none()
watches = st.builds(
    Watched, item_id=texts, watch_time_s=maybe | st.floats(0, 86_400, allow_nan=False)
)
questions = st.builds(
    Question,
    user_id=maybe | texts,
    history=st.lists(watches, max_size=4).map(tuple),
    k=st.integers(1, 1_000),
    release=maybe | releases,
    beside=maybe | releases,
    at_ms=maybe | st.integers(0, LAST_MS),
    exclude_watched=st.booleans(),
    diversity=maybe | st.floats(0, 1),
    max_per_channel=maybe | st.integers(1, 1_000),
    num_fresh=maybe | numbers,
    num_explored=maybe | numbers,
    seed=maybe | numbers,
    why=maybe | texts,
    asks_token=st.booleans(),
)


def read(url: str) -> Question:
    return Question.of(QueryParams(urlsplit(url).query))


@given(questions)
def test_a_url_holds_the_whole_question(question: Question) -> None:
    assert read(question.url()) == question
    assert read(question.url(sent="v1", num_new=1)) == question


@given(questions)
def test_the_server_is_asked_what_the_url_says(question: Question) -> None:
    body = read(question.url()).body(question.user_id)
    asked = convert(body, RequestBody, where="body")  # by the server's own reading of it
    assert asked.is_logged is False
    assert (asked.user_id, asked.k, asked.at_ms) == (question.user_id, question.k, question.at_ms)
    assert asked.exclude_watched == question.exclude_watched
    told = [
        Watched(item_id=str(w.item_id), watch_time_s=w.watch_time_s) for w in asked.history or ()
    ]
    assert tuple(told) == question.history
    named = asked.label if asked.version is None else str(asked.version)
    assert named == question.release
    page = asked.page
    assert page.diversity == (question.diversity or 0)
    assert page.max_per_channel == question.max_per_channel
    assert (page.num_fresh, page.num_explored) == (
        question.num_fresh or 0,
        question.num_explored or 0,
    )
    assert page.seed == question.seed
    assert (asked.num_reasons > 0) == (question.why is not None)


@given(questions, texts)
def test_a_history_grows_at_its_end_and_loses_what_is_taken_out(
    question: Question, item_id: str
) -> None:
    longer = question.with_watched(item_id)
    assert longer.history[:-1] == question.history
    assert longer.history[-1] == Watched(item_id=item_id)
    assert longer.without(len(question.history)) == question
    assert replace(longer, history=question.history) == question


@given(st.integers(0, LAST_MS))
def test_a_time_is_read_as_the_field_shows_it(at_ms: int) -> None:
    assert Question.of(QueryParams({"at_ms": time_field(at_ms)})).at_ms == at_ms
    assert Question.of(QueryParams({"at_ms": str(at_ms)})).at_ms == at_ms


def test_what_a_form_leaves_empty_is_not_asked() -> None:
    form = (
        "user_id=&label=&beside=&k=&at_ms=&diversity=&seed=&history=&watched_s=&exclude_watched=1"
    )
    assert Question.of(QueryParams(form)) == Question()


def test_lines_of_a_history_that_lack_an_item_or_seconds() -> None:
    question = Question.of(QueryParams("history=a&history=&history=b&watched_s=1.5&watched_s=9"))
    assert question.history == (
        Watched(item_id="a", watch_time_s=1.5),
        Watched(item_id="b", watch_time_s=None),
    )


def test_a_history_that_is_too_long_is_refused() -> None:
    with pytest.raises(RequestError, match="history"):
        Question.of(QueryParams([("history", str(n)) for n in range(MAX_HISTORY + 1)]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k", "x"),
        ("k", "1" * 5_000),
        ("version", "1" * 5_000),
        ("diversity", "nan"),
        ("diversity", "inf"),
        ("at_ms", "yesterday"),
        ("at_ms", "-5"),
        ("at_ms", str(LAST_MS + 1)),
        ("seed", "1.5"),
        ("watched_s", "long"),
    ],
)
def test_what_is_no_number_is_refused_by_name(name: str, value: str) -> None:
    fields: dict[str, Any] = {"history": "a", name: value}
    with pytest.raises(RequestError, match=name):
        Question.of(QueryParams(fields))
