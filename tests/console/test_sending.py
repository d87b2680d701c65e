"""A watch that is sent from the page of one user: it arrives once, or nothing has changed."""

import re
from html import unescape

import httpx
import pytest
from tests.console.fake_platform import KNOWN_UNTIL_MS, FakePlatform
from tests.console.fake_server import FakeServer
from tests.console.reading import USER, Form, asked_of, listed, text_of


def test_a_user_whose_id_is_an_integer_is_asked_for_as_one(
    visitor: httpx.Client, fake: FakeServer, platform: FakePlatform
) -> None:
    tell = platform.answers()["GET /insight/v1/past"]
    fake.answers["GET /insight/v1/past"] = lambda asked: {**tell(asked), "user_id": 17}
    form = Form(visitor.get("/recommend?user_id=17").text, "v00001")
    visitor.post(form.action, data=form.fields)
    assert asked_of(fake)[0]["user_id"] == 17
    assert asked_of(fake, "/v1/events")[0]["events"][0]["user_id"] == 17


def test_a_watch_that_is_sent_arrives_once_and_changes_the_list(
    visitor: httpx.Client, fake: FakeServer, platform: FakePlatform
) -> None:
    before = visitor.get(USER.url())
    form = Form(before.text, "v00001")
    answer = visitor.post(form.action, data={**form.fields, "watch_time_s": "12.5"})
    assert answer.status_code == 303
    (event,) = platform.events.values()
    told = {name: event[name] for name in ("kind", "user_id", "item_id", "watch_time_s")}
    assert told == {
        "kind": "watch",
        "user_id": "u00003",
        "item_id": "v00001",
        "watch_time_s": 12.5,
    }
    after = visitor.get(answer.headers["location"])
    assert "1 new, durable" in text_of(after.text)
    assert "live" in text_of(after.text)
    assert listed(after.text) != listed(before.text)
    assert "v00001" not in listed(after.text)[0]
    assert "in the list before the watch too" in text_of(after.text)
    visitor.get(answer.headers["location"])  # as when the page is loaded again
    assert len(asked_of(fake, "/v1/events")) == 1


@pytest.mark.parametrize(
    "made_up", ["sent=v1", "sent=v1&sent_at_ms=999999999999999&num_new=1&num_repeated=0"]
)
def test_a_url_that_nobody_was_sent_to_tells_of_no_watch(
    visitor: httpx.Client, made_up: str
) -> None:
    answer = visitor.get(f"{USER.url()}&{made_up}")
    assert answer.status_code == 200
    assert "durable" not in answer.text


def test_a_form_that_is_sent_twice_tells_one_watch(
    visitor: httpx.Client, platform: FakePlatform
) -> None:
    form = Form(visitor.get(USER.url()).text, "v00001")
    first, second = (visitor.post(form.action, data=form.fields) for _ in range(2))
    assert len(platform.events) == 1
    assert "1 new, durable" in text_of(visitor.get(first.headers["location"]).text)
    assert "1 told before" in text_of(visitor.get(second.headers["location"]).text)


def test_each_form_and_each_page_tells_another_event(visitor: httpx.Client) -> None:
    pages = [visitor.get(USER.url()).text for _ in range(2)]
    ids = [one for html in pages for one in re.findall('name="event_id" value="(.*?)"', html)]
    assert len(ids) == len(set(ids)) == 16


def test_as_of_a_time_a_watch_begins_then_and_time_goes_on(
    visitor: httpx.Client, platform: FakePlatform
) -> None:
    form = Form(visitor.get(USER.but(at_ms=KNOWN_UNTIL_MS).url()).text, "v00001")
    answer = visitor.post(form.action, data={**form.fields, "watch_time_s": "30"})
    (event,) = platform.events.values()
    assert event["started_at_ms"] == KNOWN_UNTIL_MS
    assert f"at_ms={KNOWN_UNTIL_MS + 30_000}&" in answer.headers["location"]


def test_without_the_token_that_the_server_wants_nothing_changes_and_it_is_asked_for(
    visitor: httpx.Client, platform: FakePlatform
) -> None:
    platform.events_token = "only-those-who-tell"
    before = visitor.get(USER.url()).text
    assert 'type="password"' not in before
    form = Form(before, "v00001")
    refused = visitor.post(form.action, data={**form.fields, "watch_time_s": "77"})
    assert refused.status_code == 401
    assert "only with a token" in text_of(refused.text)
    assert platform.events == {}
    assert listed(refused.text) == listed(before)
    form = Form(refused.text, "v00001")
    assert form.fields["watch_time_s"] == "77"
    wrong = visitor.post(form.action, data={**form.fields, "token": "a-wrong-one"})
    assert wrong.status_code == 401
    assert "a-wrong-one" not in wrong.text
    done = visitor.post(form.action, data={**form.fields, "token": platform.events_token})
    assert done.status_code == 303
    assert platform.events_token not in done.headers["location"]
    assert len(platform.events) == 1
    assert 'type="password"' in visitor.get(done.headers["location"]).text


def test_another_refusal_is_told_as_the_server_tells_it(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    detail = {"where": "events[0]", "expected": "a time from 5 to 9 ms", "got": "1", "hint": ""}
    fake.answers["POST /v1/events"] = (400, {"error": detail})
    form = Form(visitor.get(USER.url()).text, "v00001")
    answer = visitor.post(form.action, data=form.fields)
    assert answer.status_code == 400
    assert "events[0]: expected a time from 5 to 9 ms, got 1" in unescape(answer.text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"item": "v1"},
        {"item": "[1]"},
        {"user": "true"},
        {"watch_time_s": "x"},
        {"item": "[" * 9_999},
    ],
)
def test_a_form_that_no_page_of_ours_sends_is_refused(
    visitor: httpx.Client, platform: FakePlatform, wrong: dict[str, str]
) -> None:
    right = {"event_id": "e", "user": '"u1"', "item": '"v1"', "watch_time_s": "3"}
    assert visitor.post("/recommend", data={**right, **wrong}).status_code == 400
    assert platform.events == {}
