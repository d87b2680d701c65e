"""The page of an item: found, shown with its neighbours, and aged by a slider."""

import re
from urllib.parse import unquote, urlencode

import httpx
import pytest
from tests.console.fake_server import FakeServer

REFUSED = {"error": {"where": "item_id", "expected": "one", "got": "'?'", "hint": ""}}


def asked_of(fake: FakeServer) -> list[tuple[str, dict[str, str]]]:
    kept = [one for one in fake.asked if one.path.startswith("/insight/")]
    return [(one.path.removeprefix("/insight/v1/"), one.query) for one in kept]


def test_a_search_leads_to_items(visitor: httpx.Client, fake: FakeServer) -> None:
    html = visitor.get("/item?search=WELDING&label=canary").text
    assert asked_of(fake)[-1] == ("items", {"search": "WELDING", "k": "40", "label": "canary"})
    found = re.findall(r'href="/item\?item_id=(v\d+)&amp;label=canary"', html)
    assert found == [f"v{n:05}" for n in range(1, 60, 4) if n % 5 != 4]


def test_what_nobody_finds_is_said(visitor: httpx.Client) -> None:
    assert "Nothing is called so" in visitor.get("/item?search=zzz").text


def test_an_item_shows_all_that_is_told_of_it(visitor: httpx.Client, fake: FakeServer) -> None:
    html = visitor.get("/item?item_id=v00006&version=2&example_age_days=3").text
    whose = {"item_id": "v00006", "version": "2"}
    assert sorted(asked_of(fake)[-3:], key=str) == [
        ("items/v00006", {"version": "2"}),
        ("neighbours", {**whose, "k": "20"}),
        ("probability", {**whose, "example_age_days": "3.0"}),
    ]
    for told in ("c6", "food, slow &amp; long", "994 that release 2 learned from", "95% of the 20"):
        assert told in html
    assert html.count('href="/item?item_id=v00007&amp;version=2"') == 2
    assert html.count("<td>no</td>") == 1  # the one neighbour that the index misses
    assert html.count("<svg") == 2


def test_the_slider_asks_for_its_picture_alone_and_gets_the_very_same(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    query = urlencode({"item_id": "v00006", "example_age_days": 7})
    page = visitor.get(f"/item?{query}").text
    num_before = len(asked_of(fake))
    part = visitor.get(f"/item/ageing?{query}").text
    assert asked_of(fake)[num_before:] == [
        ("probability", {"item_id": "v00006", "example_age_days": "7.0"})
    ]
    assert part.strip() in page
    assert "at example age 7 d" in part
    assert 'type="range" min="0" max="30" step="1" value="7.0"' in page


def test_an_item_that_the_release_does_not_know_is_told(visitor: httpx.Client) -> None:
    assert visitor.get("/item?item_id=nope").status_code == 404


def test_what_cannot_be_worked_out_is_told_where_it_would_stand(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    fake.answers["GET /insight/v1/probability"] = (429, REFUSED)
    fake.answers["GET /insight/v1/neighbours"] = (429, REFUSED)
    answer = visitor.get("/item?item_id=v00006")
    assert answer.status_code == 200
    assert answer.text.count('role="alert"') == 2
    assert visitor.get("/item/ageing?item_id=v00006").text.count('role="alert"') == 1


@pytest.mark.parametrize("item_id", ["a/b", "..", "../releases", "a?b#c", "ü %2F", "a;b=c", "."])
def test_an_id_may_be_any_text(visitor: httpx.Client, fake: FakeServer, item_id: str) -> None:
    visitor.get(f"/item?{urlencode({'item_id': item_id})}")
    asked = [path for path, _ in asked_of(fake) if path.startswith("items/")]
    assert [unquote(path) for path in asked] == [f"items/{item_id}"]


def test_an_age_that_is_none_is_refused(visitor: httpx.Client) -> None:
    for wrong in ("old", "nan", "inf"):
        answer = visitor.get(f"/item?item_id=v00006&example_age_days={wrong}")
        assert answer.status_code == 400
