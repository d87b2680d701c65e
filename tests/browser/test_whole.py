"""A console of a real server in processes of their own, in a real browser: who is recommended what.

What steers the server is in `test_whole_steering.py`.
"""

import re
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, expect
from tests.browser.visits import Visits, assert_told_nowhere
from tests.browser.whole import ADMIN_TOKEN, EVENTS_TOKEN, Whole
from tests.patience import get

WATCH_S = 45


def test_server_and_console_answer_each_as_a_process_of_its_own(whole: Whole) -> None:
    assert whole.labels() == {"stable": 1, "canary": 2}
    listed = get(
        f"{whole.server.admin_url}/admin/v1/releases",
        headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
    ).json()
    assert [one["version"] for one in listed["releases"]] == [1, 2, 3]
    assert "upnext" in get(whole.console_url).text


def ask_for_a_known_user(visits: Visits, whole: Whole, place: int) -> tuple[Page, str]:
    """The page of one of those that are named first, as somebody comes to it."""
    page = visits.open(whole.console_url)
    page.get_by_role("navigation").get_by_role("link", name="Recommend").click()
    one = page.get_by_role("region", name="Users").get_by_role("link").nth(place)
    user_id = one.text_content() or ""
    one.click()
    expect(page.locator("#past-h")).to_have_text(f"What {user_id} did")
    return page, user_id


def items_of(ranked: Locator) -> list[str]:
    """Ids of a list, the best first."""
    links = ranked.locator(".about > p:first-child > a").all()
    return [
        parse_qs(urlsplit(one.get_attribute("href") or "").query)["item_id"][0] for one in links
    ]


def test_a_known_user_is_recommended_a_list_with_reasons(visits: Visits, whole: Whole) -> None:
    page, user_id = ask_for_a_known_user(visits, whole, 0)
    past, ranked = page.get_by_role("region", name=f"What {user_id} did"), page.locator("ol.ranked")
    assert past.locator("ol.past > li").count() > 0
    past_box, ranked_box = past.bounding_box(), ranked.bounding_box()
    assert past_box
    assert ranked_box
    assert past_box["x"] + past_box["width"] <= ranked_box["x"]  # beside each other
    items = items_of(ranked)
    assert len(set(items)) == 10
    facts = page.locator("section", has=ranked)
    expect(facts.get_by_role("heading", name="release 1")).to_be_visible()
    expect(facts.locator("dl")).to_contain_text(re.compile(r"Label\s*stable"))
    expect(facts.locator("dl")).to_contain_text(re.compile(r"Took\s*[\d.,]+ ms in the server"))
    ranked.get_by_role("link", name="Why").nth(2).click()
    reasons = page.locator("ol.ranked > li", has=page.locator(".why"))
    expect(reasons).to_have_count(1)
    expect(reasons.locator("svg")).to_be_visible()
    assert parse_qs(urlsplit(page.url).query)["why"] == items_of(reasons) == items[2:3]


def test_of_two_labels_it_is_told_what_moved(visits: Visits, whole: Whole) -> None:
    page, _ = ask_for_a_known_user(visits, whole, 0)
    page.get_by_label("Release", exact=True).select_option("stable")
    page.get_by_label("Beside it").select_option("canary")
    page.get_by_label("Items", exact=True).fill("40")
    page.get_by_role("button", name="Recommend", exact=True).click()
    stable, canary = (page.locator(f"section[aria-labelledby=list-{n}]") for n in (1, 2))
    expect(stable.get_by_role("heading", name="stable: release 1")).to_be_visible()
    expect(canary.get_by_role("heading", name="canary: release 2")).to_be_visible()
    before, after = items_of(stable), items_of(canary)
    assert before != after
    marks = [
        mark.text_content() for mark in canary.locator("ol.ranked .move > [aria-hidden]").all()
    ]
    assert marks == [mark_of(item, before, place) for place, item in enumerate(after)]
    assert {"▲", "▼"} <= {str(mark)[0] for mark in marks}
    share = len(set(before) & set(after)) / len(after)
    told = canary.get_by_text("of the items are in stable too").text_content() or ""
    assert abs(float(told.split("%")[0].strip()) - 100 * share) < 0.5 + 1e-9
    gone = stable.locator("ol.ranked > li", has=page.locator(".move.gone"))
    assert items_of(gone) == [item for item in before if item not in after]


def mark_of(item: str, before: list[str], place: int) -> str:
    """How an item is marked that stands at a place now."""
    if item not in before:
        return "new"
    num_places = before.index(item) - place
    return "=" if not num_places else f"{'▲' if num_places > 0 else '▼'} {abs(num_places)}"


def test_a_watch_is_taken_from_who_has_the_token_and_changes_the_list(
    visits: Visits, whole: Whole
) -> None:
    page, user_id = ask_for_a_known_user(visits, whole, 1)
    item = items_of(page.locator("ol.ranked"))[0]
    visits.may_be_down = True  # a page that says no has a status that says so too
    for token in (None, "a-token-of-somebody-else"):
        watch = page.locator("ol.ranked > li").first
        watch.get_by_label("Seconds watched").fill(str(WATCH_S))
        if token:
            watch.get_by_label("Token").fill(token)
        with page.expect_navigation() as refused:
            watch.get_by_role("button", name="Watched").click()
        assert refused.value.status == 401
        expect(page.get_by_role("alert", name="Refused")).to_contain_text("only with a token")
        expect(page.locator("ol.past .badge")).to_have_count(0)
    visits.may_be_down = False
    watch = page.locator("ol.ranked > li").first
    assert items_of(watch) == [item]
    watch.get_by_label("Token").fill(EVENTS_TOKEN)
    watch.get_by_role("button", name="Watched").click()
    sent = page.get_by_role("status", name="Sent")
    expect(sent).to_contain_text("1 new, durable")
    assert_told_nowhere(page, EVENTS_TOKEN)
    assert item not in items_of(page.locator("ol.ranked"))
    newest = page.locator("ol.past > li").first
    expect(newest.locator(".badge")).to_have_text("live")
    expect(newest).to_contain_text(f"{WATCH_S} s")
    assert f"item_id={item}" in (newest.locator("a").get_attribute("href") or "")
    changes = page.locator("section[aria-labelledby=list-1]")
    expect(changes.get_by_text("the list before the watch").first).to_be_visible()
    expect(changes.locator(".move.new").first).to_be_attached()
    past = page.get_by_role("region", name=f"What {user_id} did")
    told = past.text_content()
    page.reload()
    expect(past.locator(".badge")).to_have_count(1)
    assert counted(past.text_content()) == counted(told)


def counted(told: str | None) -> list[str]:
    """How many watches a history says it has."""
    return re.findall(r"([\d,]+) watches", told or "")
