"""Every move of a label, told."""

import httpx
import pytest
from tests.console.fake_server import FakeServer
from tests.console.released import move, released_answers
from tests.console.wellformed import problems_of


@pytest.fixture(autouse=True)
def moves(fake: FakeServer) -> None:
    fake.answers |= released_answers()
    told = [move(n, "canary" if n % 10 == 0 else "stable") for n in range(450)]
    told[-1] |= {"kind": "rollback", "actor": "<b>", "reason": ""}
    fake.answers["GET /insight/v1/journal"] = lambda asked: {
        "moves": told[-int(asked.query["num"]) :]
    }


def test_the_last_moves_are_told_the_newest_first(visitor: httpx.Client) -> None:
    page = visitor.get("/journal")
    assert problems_of(page.text) == []
    assert page.text.count("<tr>") == 201
    assert page.text.index("reason 448") < page.text.index("reason 447")
    assert "reason 250<" in page.text
    assert "reason 249<" not in page.text
    assert "&lt;b&gt;" in page.text
    assert "back <a" in page.text
    assert 'href="/journal?num=400"' in page.text


def test_older_moves_are_a_link_away(visitor: httpx.Client) -> None:
    page = visitor.get("/journal?num=600&label=canary").text
    assert page.count("<tr>") == 46
    assert "Older moves" not in page
    assert "45 moves of canary, among the last 450, which are all." in page
    assert "nowhere" in page


def test_moves_of_a_label_that_never_moved_are_none(visitor: httpx.Client) -> None:
    page = visitor.get("/journal?label=<i>").text
    assert "0 moves of &lt;i&gt;" in page
    assert "<table" not in page
