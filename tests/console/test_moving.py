"""Promote, roll back and shares: what a page shows is what may be sent."""

import threading

import httpx
import pytest
from tests.console.fake_server import FakeServer
from tests.console.released import TRAFFIC, held, released_answers, server_of
from tests.console.test_changing import BACK, POINT, PROMOTE, SHARES, changes, until
from tests.console.wellformed import problems_of

RELEASES = "GET /insight/v1/releases"


@pytest.fixture(autouse=True)
def released(fake: FakeServer) -> None:
    fake.answers |= released_answers(3, stable=2)


@pytest.mark.parametrize(
    "others",
    [[], [held(3, "loading")], [held(3, "failed", "<no memory>")], [held(3, "draining")], None],
)
def test_a_label_is_pointed_only_where_every_process_is_ready(
    visitor: httpx.Client, fake: FakeServer, others: list[dict[str, object]] | None
) -> None:
    servers = [] if others is None else [server_of(11, held(3)), server_of(12, *others)]
    fake.answers[RELEASES]["servers"] = servers
    page = visitor.get(PROMOTE).text
    assert problems_of(page) == []
    assert '<fieldset class="bar" disabled>' in page
    assert "<no memory>" not in page
    answer = visitor.post(PROMOTE, data=POINT)
    assert (answer.status_code, changes(fake)) == (400, [])
    assert "ready in every server process, got" in answer.text


def test_a_release_that_is_ready_may_be_pointed_at(visitor: httpx.Client, fake: FakeServer) -> None:
    fake.answers[RELEASES]["servers"] = [server_of(pid, held(3)) for pid in (11, 12)]
    page = visitor.get(PROMOTE).text
    assert problems_of(page) == []
    assert "Ready in every server process." in page
    assert "disabled" not in page
    assert 'name="expected_previous" value="2"' in page
    assert 'value="">' not in visitor.get(PROMOTE).text
    new = visitor.get("/releases/3/promote?label=trial").text
    assert "goes from nowhere to release 3" in new
    assert 'name="expected_previous" value=""' in new
    assert "stable stands at release 2." in visitor.get("/releases/2/promote").text


@pytest.mark.parametrize(("shown", "sent"), [("1", 1), ("", None)])
def test_where_the_label_was_shown_to_stand_is_what_is_sent(
    visitor: httpx.Client, fake: FakeServer, shown: str, sent: int | None
) -> None:
    """Not where it stands by now: that would undo unawares what somebody else did."""
    fake.answers[RELEASES]["servers"] = [server_of(11, held(3))]
    fake.answers["PUT /admin/v1/labels/stable"] = {"steps": []}
    there = visitor.post(PROMOTE, data={**POINT, "expected_previous": shown}).headers["location"]
    until(visitor, there, ": done</strong>")
    assert [one.body["expected_previous"] for one in changes(fake)] == [sent]


@pytest.mark.parametrize("fields", [{"expected_previous": "x"}, {"step": ""}, {"step": "both"}])
def test_a_form_that_is_not_ours_is_refused(
    visitor: httpx.Client, fake: FakeServer, fields: dict[str, str]
) -> None:
    assert visitor.post(PROMOTE, data={**POINT, **fields}).status_code == 400
    assert visitor.post(PROMOTE, content=b"\xff\xfe&=&&%zz").status_code == 400
    assert visitor.get("/releases/3/promote?label=../x").status_code == 400
    assert changes(fake) == []


def test_loading_is_told_while_it_goes_on(visitor: httpx.Client, fake: FakeServer) -> None:
    may_end = threading.Event()

    def load(_: object) -> object:
        may_end.wait(30)
        return {"steps": []}

    fake.answers["POST /admin/v1/releases/3/load"] = load
    there = visitor.post(PROMOTE, data={"step": "load"}).headers["location"]
    fake.answers[RELEASES]["servers"] = [server_of(11, held(3)), server_of(12, held(3, "loading"))]
    page = visitor.get(there).text
    assert ": running</strong>" in page
    assert "<button disabled>Load and warm</button>" in page
    assert ">loading</td>" in page
    may_end.set()
    until(visitor, there, ": done</strong>")


def test_a_rollback_goes_where_the_page_said(visitor: httpx.Client, fake: FakeServer) -> None:
    page = visitor.get("/rollback").text
    assert problems_of(page) == []
    assert "goes back to release 1" in page
    fake.answers[RELEASES]["rollback"]["stable"] = 3
    answer = visitor.post("/rollback", data=BACK)
    assert (answer.status_code, changes(fake)) == (400, [])
    assert "it moved in the meantime" in answer.text


def test_what_has_stood_nowhere_else_cannot_go_back(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    fake.answers[RELEASES]["rollback"]["stable"] = None
    assert "there is nothing to go back to" in visitor.get("/rollback").text
    assert "It stands nowhere" in visitor.get("/rollback?label=canary").text
    for label in ("stable", "canary"):
        assert visitor.post(f"/rollback?label={label}", data=BACK).status_code == 400
    assert changes(fake) == []


def test_shares_and_the_gate_are_told(visitor: httpx.Client) -> None:
    page = visitor.get("/shares").text
    assert problems_of(page) == []
    for told in ("93%", "7%", "the last 200 answers", "3 times as long", "20 ms"):
        assert told in page, told
    assert 'name="share-canary" type="number" min="0" max="100" step="any" value="7"' in page


@pytest.mark.parametrize("fields", [{"share-stable": "92"}, {"share-canary": "x"}, {"shown": "{}"}])
def test_shares_that_cannot_be_meant_are_not_sent(
    visitor: httpx.Client, fake: FakeServer, fields: dict[str, str]
) -> None:
    answer = visitor.post("/shares", data={**SHARES, "token": "a-token", **fields})
    assert (answer.status_code, changes(fake)) == (400, [])
    assert "Not sent." in answer.text
    assert "a-token" not in answer.text
    assert f'value="{fields.get("share-stable", "93")}"' in answer.text


def test_shares_that_somebody_changed_meanwhile_are_not_overwritten(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    fake.answers["GET /insight/v1/traffic"] = {**TRAFFIC, "shadow": None}
    answer = visitor.post("/shares", data=SHARES)
    assert (answer.status_code, changes(fake)) == (400, [])
    assert "somebody changed them in the meantime" in answer.text
