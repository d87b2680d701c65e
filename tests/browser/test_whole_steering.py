"""A real server steered in a real browser: labels move under load, for who may move them alone."""

import json
import time
from collections.abc import Sequence

import pytest
from playwright.sync_api import Page, expect
from tests.browser.load import Answered, under_load
from tests.browser.visits import Visits, assert_told_nowhere
from tests.browser.whole import ADMIN_TOKEN, Whole
from tests.serving.processes import wait_until

from upnext.registry.labels import read_moves

WRONG = "the-token-of-nobody-at-all"
ENOUGH = 20
"""Answers that came while a label stood still."""


def fill_in(page: Page, form: str, *, words: str, reason: str = "", token: str = "") -> None:
    """The fields of one of a page's forms."""
    for name, text in (("reason", reason), ("token", token), ("confirmation", words)):
        if text:
            page.locator(f"#{form}-{name}").fill(text)


def press(page: Page, name: str) -> None:
    """Sends a form off; its page is there again."""
    with page.expect_navigation():
        page.get_by_role("button", name=name, exact=True).click()


def test_a_label_moves_and_goes_back_and_no_visitor_is_let_down(
    visits: Visits, whole: Whole
) -> None:
    page = visits.open(f"{whole.console_url}/releases/3/promote?label=stable")
    operation = page.locator("#operation")
    with under_load(whole.server.url) as answered:
        page.locator("#load-token").fill(ADMIN_TOKEN)
        press(page, "Load and warm")
        expect(operation).to_contain_text("Load and warm release 3: done")
        assert operation.locator(".steps li").count() > 0
        expect(page.locator("#load")).to_contain_text("Ready in every server process")
        await_answers(answered)

        left_s = time.monotonic()
        fill_in(page, "point", reason="better by far", token=ADMIN_TOKEN, words="stable 3")
        press(page, "Point the label")
        expect(operation).to_contain_text("Point stable at release 3: done")
        assert operation.locator(".steps li").count() > 0
        expect(page.locator("#point")).to_contain_text("stable stands at release 3")
        arrived_s = time.monotonic()
        await_answers(answered)
        assert_told_nowhere(page, ADMIN_TOKEN)

        page.locator("#point").get_by_role("link", name="Roll back").click()
        went_back_s = time.monotonic()
        fill_in(page, "rollback", reason="not after all", token=ADMIN_TOKEN, words="stable 1")
        press(page, "Roll back")
        expect(operation).to_contain_text("Roll stable back from release 3 to 1: done")
        back_s = time.monotonic()
        await_answers(answered)
        assert_told_nowhere(page, ADMIN_TOKEN)
    assert [one.problem for one in answered if one.problem] == []
    assert {(one.release, one.label) for one in answered} == {("1", "stable"), ("3", "stable")}
    assert releases_between(answered, 0, left_s) == {"1"}
    assert releases_between(answered, arrived_s, went_back_s) == {"3"}
    assert releases_between(answered, back_s, time.monotonic()) == {"1"}

    page.goto(f"{whole.console_url}/journal?label=stable")
    newest = page.locator("tbody tr")
    expect(newest.nth(0)).to_contain_text("back 3 → 1")
    expect(newest.nth(0)).to_contain_text("not after all")
    expect(newest.nth(1)).to_contain_text("1 → 3")
    expect(newest.nth(1)).to_contain_text("better by far")


def await_answers(answered: Sequence[Answered]) -> None:
    so_far = len(answered)
    wait_until(lambda: len(answered) >= so_far + ENOUGH)


def releases_between(answered: Sequence[Answered], from_s: float, to_s: float) -> set[str]:
    """What answered requests that began and ended between two moments."""
    return {one.release for one in answered if from_s <= one.began_s and one.ended_s <= to_s}


def test_shares_change_for_the_right_token_alone(visits: Visits, whole: Whole) -> None:
    kept = whole.registry / "traffic.json"
    page = visits.open(f"{whole.console_url}/shares")
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    operation = page.locator("#operation")
    for canary, token, ending in (
        (25, WRONG, "failed"),
        (12.5, ADMIN_TOKEN, "done"),
        (0, ADMIN_TOKEN, "done"),
    ):
        before = kept.read_text() if kept.exists() else None
        page.locator("#share-stable").fill(f"{100 - canary}")
        page.locator("#share-canary").fill(f"{canary}")
        fill_in(page, "shares", token=token, words="change shares")
        press(page, "Change shares")
        expect(operation).to_contain_text(f": {ending}")
        assert_told_nowhere(page, token)
        assert not any(token in address for address in addresses)
        if token == WRONG:
            expect(operation.get_by_role("alert")).to_contain_text("token")
            assert (kept.read_text() if kept.exists() else None) == before
        else:
            split = json.loads(kept.read_text())["split"]
            assert split.get("canary", 0) == canary / 100
            assert split["stable"] == 1 - canary / 100
            share = f"{canary:g}%" if canary else "0%"
            expect(page.locator("#standing tr", has_text="canary")).to_contain_text(share)


@pytest.mark.parametrize(
    ("path", "form", "button", "words"),
    [
        ("/releases/2/promote?label=stable", "point", "Point the label", "stable 1"),
        ("/shares", "shares", "Change shares", "change nothing"),
    ],
)
def test_nothing_is_sent_unless_it_is_confirmed_word_by_word(
    visits: Visits, whole: Whole, path: str, form: str, button: str, words: str
) -> None:
    moves, labels = read_moves(whole.registry), whole.labels()
    page = visits.open(whole.console_url + path)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    fill_in(page, form, token=ADMIN_TOKEN, words=words)
    page.get_by_role("button", name=button, exact=True).click()
    assert page.locator(f"#{form}-confirmation:invalid").count() == 1
    assert "POST" not in sent  # the browser itself holds it back
    page.locator(f"#{form}-confirmation").evaluate("(one) => one.removeAttribute('pattern')")
    visits.may_be_down = True
    press(page, button)
    assert "POST" in sent
    expect(page.get_by_role("alert").first).to_contain_text("Not sent.")
    expect(page.get_by_role("alert").first).to_contain_text(f"got '{words}'")
    assert_told_nowhere(page, ADMIN_TOKEN)
    assert (read_moves(whole.registry), whole.labels()) == (moves, labels)
