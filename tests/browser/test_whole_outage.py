"""A real server is killed and comes back, before the eyes of a real browser."""

import time

from playwright.sync_api import expect
from tests.browser.visits import Visits
from tests.browser.whole import EVENTS_TOKEN, Whole
from tests.patience import post

USER = "somebody-who-watched"


def test_pages_say_that_the_server_is_gone_and_recover_with_all_it_took(
    visits: Visits, whole: Whole
) -> None:
    tell_a_watch(whole)
    past = visits.open(f"{whole.console_url}/recommend?user_id={USER}")
    home = visits.open(whole.console_url, has_own_clock=True)
    other = visits.open(whole.console_url, has_own_clock=True)
    expect(past.locator("ol.past .badge")).to_have_text("live")
    expect(home.locator("#health")).to_contain_text("release 1")
    visits.may_be_down = True
    with whole.without_server():
        home.clock.fast_forward(60_000)
        expect(home.locator("#banner")).to_contain_text("The server does not answer")
        expect(home.locator("#health")).to_contain_text("release 1")  # as last known
        other.goto(f"{whole.console_url}/quality")
        expect(other.locator("h1")).to_have_text("The server does not answer")
    home.clock.fast_forward(60_000)
    expect(home.locator("#banner")).to_be_hidden()
    other.clock.fast_forward(60_000)
    expect(other.locator("h1")).to_have_text("Ranking quality")
    visits.may_be_down = False
    past.reload()
    expect(past.locator("ol.past .badge")).to_have_text("live")
    expect(past.locator("ol.ranked > li")).to_have_count(10)


def tell_a_watch(whole: Whole) -> None:
    """Returns once the server has said that it keeps it."""
    watch = {
        "kind": "watch",
        "event_id": "before-the-end",
        "user_id": USER,
        "item_id": "v00055",
        "started_at_ms": round(time.time() * 1e3),
        "watch_time_s": 30.0,
    }
    response = post(
        f"{whole.server.url}/v1/events",
        json={"events": [watch]},
        headers={"Authorization": f"Bearer {EVENTS_TOKEN}"},
    )
    assert response.json()["num_accepted"] == 1
