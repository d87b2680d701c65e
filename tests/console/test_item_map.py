"""The page of the map: what it says without a drawing, and the points that a drawing is made of."""

import re
from html import unescape

import httpx
import pytest
from tests.console.fake_map import FakeMap
from tests.console.fake_server import FakeServer

PLATFORM = FakeMap(num_items=500)


@pytest.fixture(autouse=True)
def _platform(fake: FakeServer) -> None:
    fake.answers |= PLATFORM.answers()


def text_of(html: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html)))


def test_the_page_says_how_much_is_drawn_and_how(visitor: httpx.Client) -> None:
    text = text_of(visitor.get("/map").text)
    assert "400 of 120,000 items" in text
    assert "principal components, trustworthiness 0.934" in text
    assert "Select an item" in text


def test_a_map_that_nobody_measured_says_so(visitor: httpx.Client, fake: FakeServer) -> None:
    fake.answers["GET /insight/v1/map"] = {**PLATFORM.told(), "trustworthiness": None}
    assert "trustworthiness not measured" in text_of(visitor.get("/map").text)


def test_a_release_without_items_has_an_empty_map(visitor: httpx.Client, fake: FakeServer) -> None:
    told = {name: [] if isinstance(v, list) else v for name, v in PLATFORM.told().items()}
    fake.answers["GET /insight/v1/map"] = {**told, "num_items": 0, "num_points": 0}
    assert "0 of 0 items" in text_of(visitor.get("/map").text)
    assert visitor.get("/map/points.json").json()["groups"]["age"] == []


@pytest.mark.parametrize(("item_id", "says"), [("v00001", "is drawn"), ("v00003", "is not among")])
def test_the_neighbours_of_the_selected_item_are_listed(
    visitor: httpx.Client, item_id: str, says: str
) -> None:
    html = visitor.get("/map", params={"item_id": item_id, "colour": "age"}).text
    near = re.findall(r'data-near="(v\d+)"', html)
    number = int(item_id[1:])
    assert near == [f"v{12 * step + number % 12:05}" for step in range(21) if step][:20]
    num_drawn = sum(int(one[1:]) % 5 != 3 for one in near)
    assert f"This item {says}" in text_of(html)
    assert f"of its 20 nearest by cosine, {num_drawn} are" in text_of(html)
    assert f'href="/item?item_id={near[0]}"' in html
    assert f'href="/map?item_id={near[0]}&amp;colour=age"' in html


def test_what_is_searched_is_listed(visitor: httpx.Client, fake: FakeServer) -> None:
    html = visitor.get("/map", params={"search": " part 42 ", "colour": "tag"}).text
    found = re.findall(r'href="([^"]*)" data-found="(v\d+)"', html)
    assert ("/map?item_id=v00042&amp;colour=tag&amp;search=part+42", "v00042") in found
    searches = [one.query for one in fake.asked if one.path == "/insight/v1/items"]
    assert searches == [{"search": "part 42", "k": "20"}]
    nothing = text_of(visitor.get("/map", params={"search": "no <such>"}).text)
    assert "No item is found by “no <such>”." in nothing


def test_the_release_that_is_named_is_asked_everywhere(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    named = {"label": "canary", "version": "3"}
    html = visitor.get("/map", params={"item_id": "v00001", "search": "part", **named}).text
    visitor.get("/map/points.json", params=named)
    insights = [one for one in fake.asked if one.path.startswith("/insight/")]
    assert len(insights) == 5
    assert all(named.items() <= one.query.items() for one in insights)
    assert 'name="label" value="canary"' in html
    assert "/item?item_id=v00001&amp;label=canary&amp;version=3" in html


def test_points_come_in_columns_with_a_group_for_each_colouring(visitor: httpx.Client) -> None:
    points = visitor.get("/map/points.json").json()
    told = PLATFORM.told()
    assert {name: points[name] for name in ("item_id", "title", "x", "y", "release")} == {
        name: told[name] for name in ("item_id", "title", "x", "y", "release")
    }
    assert set(points["groups"]) == {"channel", "tag", "age", "popularity"}
    assert {len(groups) for groups in points["groups"].values()} == {400}


def test_what_cannot_be_shown_is_told(visitor: httpx.Client) -> None:
    strange = visitor.get("/map", params={"colour": "taste"})
    assert strange.status_code == 400
    assert "one of channel, tag, age, popularity" in text_of(strange.text)
    assert visitor.get("/map", params={"item_id": "a/../b"}).status_code == 404


def test_an_id_may_hold_anything(visitor: httpx.Client, fake: FakeServer) -> None:
    item_id = 'a/b? "c" & ü'
    fake.answers |= FakeMap(ids=[item_id, 7]).answers()
    fake.answers["GET /insight/v1/items/a%2Fb%3F%20%22c%22%20%26%20%C3%BC"] = fake.answers[
        f"GET /insight/v1/items/{item_id}"
    ]
    html = visitor.get("/map", params={"item_id": item_id}).text
    assert 'data-near="7"' in html
    assert 'data-selected="a/b? &#34;c&#34; &amp; ü"' in html
