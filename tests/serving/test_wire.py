"""What JSON becomes a request, and what is said of JSON that does not."""

import dataclasses
import json
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from upnext.errors import RequestError
from upnext.schema import (
    ItemRules,
    PageOptions,
    PastWatch,
    Reason,
    Recommendation,
    RecommendationRequest,
    Recommendations,
)
from upnext.serving.asked import Answered, Asked
from upnext.serving.decoding import convert, decode
from upnext.serving.wire import (
    EventsBody,
    PageBody,
    PastWatchBody,
    RequestBody,
    RulesBody,
    SimilarQuery,
    answer_body,
    asked_of,
)


def decode_request(body: bytes) -> Asked:
    return asked_of(decode(body, RequestBody))


def told(answer: Recommendations) -> dict[str, Any]:
    answered = Answered(recommendations=answer, label="stable", version=8, request_id="r")
    content: dict[str, Any] = json.loads(msgspec.json.encode(answer_body(answered)))
    return content


def test_an_empty_object_asks_for_the_defaults() -> None:
    assert decode_request(b"{}") == Asked(request=RecommendationRequest())


def test_every_field_arrives() -> None:
    body = {
        "user_id": 7,
        "history": [{"item_id": "v1", "started_at_ms": 5, "watch_time_s": 2}, {"item_id": 3}],
        "searches": ["ramen"],
        "user_features": {"region": "north"},
        "k": 3,
        "at_ms": 1000,
        "exclude_watched": False,
        "page": {
            "diversity": 0.25,
            "max_per_channel": 2,
            "num_fresh": 1,
            "fresh_days": 3,
            "num_explored": 2,
            "exploration_temperature": 0.5,
            "seed": 9,
        },
        "rules": {
            "allowed_items": ["v1", 2],
            "blocked_items": [3],
            "allowed_channels": ["c1"],
            "blocked_channels": [],
            "allowed_tags": ["tea"],
            "blocked_tags": ["rice"],
            "min_duration_s": 5,
            "max_duration_s": 600.5,
            "published_since_ms": 1,
        },
        "num_reasons": 4,
        "label": "canary",
        "deadline_ms": 50,
        "request_id": "r-1",
        "is_logged": False,
    }
    asked = decode_request(json.dumps(body).encode())
    assert (asked.label, asked.version, asked.deadline_ms) == ("canary", None, 50.0)
    assert (asked.request_id, asked.is_logged) == ("r-1", False)
    assert asked.request == RecommendationRequest(
        user_id=7,
        history=[
            PastWatch(item_id="v1", started_at_ms=5, watch_time_s=2.0),
            PastWatch(item_id=3),
        ],
        searches=["ramen"],
        user_features={"region": "north"},
        k=3,
        at_ms=1000,
        exclude_watched=False,
        page=PageOptions(
            diversity=0.25,
            max_per_channel=2,
            num_fresh=1,
            fresh_days=3.0,
            num_explored=2,
            exploration_temperature=0.5,
            seed=9,
        ),
        rules=ItemRules(
            allowed_items=["v1", 2],
            blocked_items=[3],
            allowed_channels=["c1"],
            blocked_channels=[],
            allowed_tags=["tea"],
            blocked_tags=["rice"],
            min_duration_s=5.0,
            max_duration_s=600.5,
            published_since_ms=1,
        ),
        num_reasons=4,
    )


def test_ids_and_queries_may_be_as_long_as_the_limits() -> None:
    body = {"user_id": "u" * 256, "history": [{"item_id": "é" * 128}], "searches": ["s" * 1_000]}
    request = decode_request(json.dumps(body).encode()).request
    assert request.history == [PastWatch(item_id="é" * 128)]


def test_the_wire_has_the_fields_of_the_schema() -> None:
    asked = [field.name for field in dataclasses.fields(RecommendationRequest)]
    how = [field.name for field in dataclasses.fields(Asked) if field.name != "request"]
    assert list(RequestBody.__struct_fields__) == [*asked, *how]
    for body, told in ((PastWatchBody, PastWatch), (PageBody, PageOptions), (RulesBody, ItemRules)):
        names = [field.name for field in dataclasses.fields(told)]
        assert list(body.__struct_fields__) == names


@pytest.mark.parametrize(
    ("body", "where", "expected", "got"),
    [
        (b'{"k": 0}', "body.k", "int >= 1", "0"),
        (b'{"k": 1001}', "body.k", "int <= 1000", "1001"),
        (b'{"k": 1.5}', "body.k", "int", "float"),
        (b'{"k": "10"}', "body.k", "int", "str"),
        (b'{"k": true}', "body.k", "int", "bool"),
        (b'{"user_id": []}', "body.user_id", "int | str | null", "array"),
        (b'{"user_id": 9223372036854775808}', "body.user_id", "int <= 9223372036854775807", None),
        (b'{"history": [{"item_id": 1}, {}]}', "body.history[1]", "a field item_id", "none"),
        (
            b'{"history": [{"item_id": 1, "watch_time_s": -1}]}',
            "body.history[0].watch_time_s",
            "float >= 0.0",
            "-1",
        ),
        (
            json.dumps({"user_id": 86 * "\N{EURO SIGN}"}, ensure_ascii=False).encode(),
            "body",
            "user_id of up to 256 bytes",
            "258",
        ),
        (
            b'{"history": [{"item_id": 1}, {"item_id": "' + b"v" * 4_000 + b'"}]}',
            "body.history[1]",
            "item_id of up to 256 bytes",
            "4,000",
        ),
        (
            b'{"searches": ["' + b"s" * 1_001 + b'"]}',
            "body.searches[0]",
            "str of length <= 1000",
            None,
        ),
        (b'{"searches": "ramen"}', "body.searches", "array | null", "str"),
        (b'{"user_features": {"age": 7}}', "body.user_features[...]", "str", "int"),
        (b'{"at_ms": -1}', "body.at_ms", "int >= 0", "-1"),
        (b'{"num_reasons": -1}', "body.num_reasons", "int >= 0", "-1"),
        (b'{"num_reasons": 51}', "body.num_reasons", "int <= 50", "51"),
        (b'{"num_reasons": "all"}', "body.num_reasons", "int", "str"),
        (b'{"page": {"diversity": 1.5}}', "body.page.diversity", "float <= 1.0", "1.5"),
        (b'{"page": {"num_explored": 1001}}', "body.page.num_explored", "int <= 1000", "1001"),
        (b'{"page": {"fresh_days": 0}}', "body.page.fresh_days", "float > 0.0", "0"),
        (b'{"page": null}', "body.page", "object", "null"),
        (
            b'{"rules": {"blocked_items": [' + b"1," * 10_000 + b"1]}}",
            "body.rules.blocked_items",
            "array of length <= 10000",
            None,
        ),
        (
            b'{"rules": {"blocked_channels": ["' + b"c" * 257 + b'"]}}',
            "body.rules",
            "blocked_channels of up to 256 bytes",
            "257",
        ),
        (
            b'{"rules": {"min_duration_s": 60, "max_duration_s": 30}}',
            "rules.max_duration_s",
            "60 or more",
            "30.0",
        ),
        (b'{"deadline_ms": 0}', "body.deadline_ms", "float > 0.0", "0"),
        (b'{"version": 0}', "body.version", "int >= 1", "0"),
        (b'{"version": 1, "label": "a"}', "body", "a label or a version", "both"),
        (b'{"request_id": ""}', "body.request_id", "str of length >= 1", None),
        (b'{"request_id": "a\\n"}', "body", "request_id of printable ASCII", "something else"),
        (b'{"k": 1, "user_id": 1, "k": 1}', "body", "each field once", "'k' twice"),
        (b'{"k": 1, "\\u006b": 1}', "body", "each field once", "'k' twice"),
        (b'{"page": {"seed": 1, "seed": 2}}', "body", "each field once", "'seed' twice"),
        (b"[]", "body", "object", "array"),
        (b"", "body", "JSON", "Input data was truncated"),
        (b"{", "body", "JSON", None),
        (b'{"k": NaN}', "body", "JSON", None),
        (b'{"\xff": 1}', "body", "JSON", None),
        (b'{"user_id": "half a pair: \\ud800, then text"}', "body", "JSON", None),
    ],
)
def test_a_wrong_value_is_told_by_place(
    body: bytes, where: str, expected: str, got: str | None
) -> None:
    with pytest.raises(RequestError) as caught:
        decode_request(body)
    assert (caught.value.where, caught.value.expected) == (where, expected)
    assert got is None or caught.value.got == got


def test_an_unknown_field_is_told_with_the_nearest_known_one() -> None:
    with pytest.raises(RequestError, match="unknown field 'user'") as caught:
        decode_request(b'{"user": 1}')
    assert caught.value.hint == "did you mean 'user_id'?"
    with pytest.raises(RequestError, match="one of item_id, started_at_ms") as caught:
        decode_request(b'{"history": [{"item": 1}]}')
    assert caught.value.where == "body.history[0]"
    assert caught.value.hint == "did you mean 'item_id'?"
    with pytest.raises(RequestError, match="one of diversity, max_per_channel") as caught:
        decode_request(b'{"page": {"explored": 1}}')
    assert caught.value.hint == "did you mean 'num_explored'?"
    with pytest.raises(RequestError, match="one of allowed_items, blocked_items") as caught:
        decode_request(b'{"rules": {"blocked_tag": []}}')
    assert caught.value.hint == "did you mean 'blocked_tags'?"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"k": 0, "history": ' + b"[" * 100_000,
        b'{"k": ' + b"9" * 100_000 + b"}",
        b'{"history": [{"item_id": 1, "watch_time_s": 1e999}]}',
        b'{"' + b"k" * 100_000 + b'": 1}',
    ],
)
def test_a_hostile_body_is_told_briefly(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        decode_request(body)
    assert len(str(caught.value)) < 500


@given(body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_bytes_that_are_no_object_are_refused(body: bytes) -> None:
    assume(not body.strip().startswith(b"{"))
    with pytest.raises(RequestError) as caught:
        decode_request(body)
    assert caught.value.where == "body"


def test_an_answer_is_the_recommendations_and_the_label() -> None:
    item = Recommendation(
        item_id="v1",
        title="Slow ramen",
        expected_watch_time_s=None,
        retrieval_score=0.5,
        retrieval_rank=None,
        sources=["popular", "fresh"],
        reasons=[
            Reason(about="watching", item_id="v7", watch_time_s=2.5),
            Reason(about="how long it is", item_id=None, watch_time_s=-1.0),
        ],
    )
    answer = Recommendations(
        items=[item], release="8", num_candidates=1, timings_ms={"retrieval": 0.5}, degraded=[]
    )
    expected = {**msgspec.to_builtins(answer), "label": "stable", "request_id": "r"}
    assert told(answer) == expected


def test_what_nobody_nominated_or_explained_is_an_empty_list() -> None:
    item = Recommendation(
        item_id=1,
        title=None,
        expected_watch_time_s=2.0,
        retrieval_score=0.5,
        retrieval_rank=1,
    )
    answer = Recommendations(items=[item], release="8", num_candidates=1, timings_ms={})
    (item_told,) = told(answer)["items"]
    assert (item_told["sources"], item_told["reasons"]) == ([], [])


@pytest.mark.parametrize("num_reasons", [0, 50])
def test_reasons_may_be_as_many_as_the_limits(num_reasons: int) -> None:
    request = decode_request(json.dumps({"num_reasons": num_reasons}).encode()).request
    assert request.num_reasons == num_reasons


def test_an_object_of_several_kinds_is_told_by_its_kind() -> None:
    with pytest.raises(RequestError) as caught:
        decode(b'{"events": [{"kind": "like"}]}', EventsBody)
    assert (caught.value.where, caught.value.got) == ("body.events[0].kind", "'like'")
    assert caught.value.expected == "one of watch, impression, search"
    with pytest.raises(RequestError, match="a field kind"):
        decode(b'{"events": [{}]}', EventsBody)


def test_texts_of_a_url_become_numbers() -> None:
    assert convert({"k": "3"}, SimilarQuery, where="query", are_texts=True) == SimilarQuery(k=3)
    with pytest.raises(RequestError, match=r"query.k: expected int, got str"):
        convert({"k": "3"}, SimilarQuery, where="query")


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_json_of_unique_fields_counts_as_repeated(value: object) -> None:
    """Whatever the values: what msgspec takes for JSON, the search for repeated fields does too."""
    body = json.dumps({"anything": value}).encode()
    assert decode(body, dict) == {"anything": value}
