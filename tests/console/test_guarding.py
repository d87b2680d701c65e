"""What nobody should be able to make the console do or say, whatever is sent to it."""

from urllib.parse import urlencode

import httpx
import pytest
from tests.console.fake_server import FakeServer
from tests.patience import get, post

from upnext.console.app import create_console_app
from upnext.console.client import Server
from upnext.console.counters import Reading, Window
from upnext.console.forms import MAX_FORM_BYTES
from upnext.console.pages.home import _numbers
from upnext.serving.server import running_server

ASKED = "/v1/recommendations"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
WATCH = {"user": '"u1"', "item": '"v1"', "watch_time_s": "9", "event_id": "e1"}
SECRET = "s3cret-token-of-somebody"


def changing(fake: FakeServer) -> list[str]:
    return [one.path for one in fake.asked if one.method != "GET" and one.path != ASKED]


@pytest.mark.parametrize("wrong", [f"{SECRET}\nx", f"{SECRET} x", f"{SECRET}é"])
def test_a_token_that_no_header_can_hold_is_not_repeated(
    visitor: httpx.Client, fake: FakeServer, wrong: str
) -> None:
    body = urlencode({**WATCH, "token": wrong})
    answer = visitor.post("/recommend?user_id=u1", content=body, headers=FORM)
    assert answer.status_code == 400
    assert SECRET not in answer.text
    assert changing(fake) == []


@pytest.mark.parametrize(
    "path",
    ["/quality?version=", "/data?version=", "/recommend?user_id=u1&beside=", "/releases?versions="],
)
def test_a_number_without_end_is_refused_and_no_fault_of_ours(
    visitor: httpx.Client, path: str
) -> None:
    assert visitor.get(path + "1" * 5_000).status_code < 500


def test_an_id_that_is_no_text_is_refused(visitor: httpx.Client, fake: FakeServer) -> None:
    body = urlencode({**WATCH, "user": '"\\ud800"'})
    assert visitor.post("/recommend", content=body, headers=FORM).status_code == 400
    assert changing(fake) == []


def test_a_form_longer_than_any_of_ours_is_not_read(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    body = "token=" + "x" * MAX_FORM_BYTES
    assert visitor.post("/recommend", content=body, headers=FORM).status_code == 413
    assert changing(fake) == []


def test_a_console_that_others_reach_changes_nothing_without_a_token(fake: FakeServer) -> None:
    fake.answers["POST /v1/events"] = {"num_accepted": 1, "num_duplicates": 0}
    server = Server(fake.url, fake.url, is_shared=True)
    with running_server(create_console_app(server, hosts={"console.example"})) as url:
        headers = {**FORM, "Host": "console.example", "Origin": "https://console.example"}
        for token, status in (("", 400), (SECRET, 303)):
            body = urlencode({**WATCH, "token": token})
            answer = post(f"{url}/recommend?user_id=u1", content=body, headers=headers)
            assert answer.status_code == status
    assert changing(fake) == ["/v1/events"]


def test_a_name_that_is_not_ours_is_not_answered_by_a_shared_console(fake: FakeServer) -> None:
    server = Server(fake.url, fake.url, is_shared=True)
    with running_server(create_console_app(server, hosts={"console.example"})) as url:
        headers = {"Host": "evil.example", "Origin": "http://evil.example"}
        assert get(url, headers=headers).status_code == 403
        assert post(url, headers=headers).status_code == 403


def test_home_counts_what_somebody_was_shown_and_what_somebody_waited_for() -> None:
    text = """
upnext_answers_total{{label="stable"}} {0}
upnext_answers_total{{label="shadow of canary"}} {0}
upnext_degraded_total{{label="shadow of canary",cause="late"}} {0}
upnext_responses_total{{route="readyz",status="503"}} {0}
upnext_responses_total{{route="recommend",status="503"}} {1}
"""
    window = Window(Reading.of(text.format(0, 0), 0.0), Reading.of(text.format(100, 3), 50.0))
    told = _numbers(window)
    assert (told["num_answers"], told["per_s"], told["degraded_share"]) == (100, 2.0, 0.0)
    assert told["num_failed"] == 3
