"""Pages renew themselves, leave alone what a person does with them, and outlive every silence."""

import pytest
from playwright.sync_api import Page, expect
from tests.browser.switched import Switched
from tests.browser.visits import Visits
from tests.console.fake_server import FakeServer

from upnext.console.app import LISTED

PATHS = [page.path for page in LISTED]
WRITTEN = "input:not([type]), input[type=text], input[type=search], input[type=password], textarea"


def let_time_pass(page: Page) -> None:
    """A minute, as far as the page can tell; everything that waits comes due."""
    page.clock.fast_forward(60_000)


def renew(page: Page) -> None:
    """Returns once the page has renewed itself, if it does; the footer tells."""
    if not page.locator("main[data-refresh-s]").count():
        return
    page.evaluate("document.getElementById('footer').textContent = 'old'")
    let_time_pass(page)
    expect(page.locator("#footer")).not_to_have_text("old")


def test_what_the_server_tells_anew_is_shown(
    visits: Visits, console: Switched, fake: FakeServer
) -> None:
    page = visits.open(console.url, has_own_clock=True)
    expect(page.locator("#health")).to_contain_text("release 2")
    fake.answers["GET /insight/v1/releases"]["labels"] = {"stable": 1}
    let_time_pass(page)
    expect(page.locator("#health")).to_contain_text("release 1")


@pytest.mark.parametrize("path", PATHS)
def test_what_is_typed_and_open_stays(visits: Visits, console: Switched, path: str) -> None:
    page = visits.open(console.url + path, has_own_clock=True)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    for field in page.locator(WRITTEN).all():
        if field.is_visible() and field.is_editable():
            field.fill("typed")
            renew(page)
            assert field.input_value() == "typed"
    renew(page)
    assert page.locator("details:not([open])").count() == 0


@pytest.mark.parametrize("path", PATHS)
def test_a_server_that_is_gone_is_said_and_its_return_is_noticed(
    visits: Visits, console: Switched, server: Switched, path: str
) -> None:
    page = visits.open(console.url + path, has_own_clock=True)
    name = page.locator("h1").text_content() or ""
    visits.may_be_down = True
    server.take_away()
    if page.locator("main[data-refresh-s]").count():
        let_time_pass(page)
        expect(page.locator("#banner")).to_contain_text("The server does not answer")
        assert page.locator("h1").text_content() == name
        server.bring_back()
        let_time_pass(page)
        expect(page.locator("#banner")).to_be_hidden()
        server.take_away()
    page.reload()
    expect(page.locator("h1")).to_have_text("The server does not answer")
    server.bring_back()
    let_time_pass(page)
    expect(page.locator("h1")).to_have_text(name)


def test_a_console_that_is_gone_is_said_and_its_return_is_noticed(
    visits: Visits, console: Switched
) -> None:
    page = visits.open(console.url, has_own_clock=True)
    visits.may_be_down = True
    console.take_away()
    let_time_pass(page)
    expect(page.locator("#banner")).to_contain_text("The console does not answer")
    console.bring_back()
    let_time_pass(page)
    expect(page.locator("#banner")).to_be_hidden()
