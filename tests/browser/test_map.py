"""The map as a person uses it: by mouse, fingers and keys, and without script."""

from collections.abc import Mapping, Sequence

import pytest
from playwright.sync_api import Locator, Page, Position, expect
from tests.browser.switched import Switched
from tests.browser.visits import Visits, wait_until
from tests.console.fake_map import FakeMap
from tests.console.fake_server import FakeServer, ready_answers

FOUR: Mapping[str, Sequence[str | float | None]] = {
    "item_id": ["left", 7, "right", "above"],
    "title": ["Left <i>end</i>", None, "Right end", "On top"],
    "x": [-1.0, 0.0, 1.0, 0.0],
    "y": [0.0, 0.0, 0.0, 0.5],
    "channel_id": ["a", "b", "b", None],
    "tag": [None, "t", "t", "u"],
    "published_at_ms": [0, 86_400_000, None, 172_800_000],
    "num_watches": [1, 2, 3, 4],
}
"""Points at known places; the middle of the map is halfway between 7 and what is above it."""
MARGIN = 28
INKED = """(canvas) => {
    const options = { willReadFrequently: true };
    const context = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", options);
    context.drawImage(canvas, 0, 0);
    const colours = new Set();
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.length; i += 4)
        if (data[i + 3] > 200) colours.add(data.slice(i, i + 3).join());
    return [...colours];
}"""
"""The colours on a canvas."""
ALL_SHOWN = f"""() => {{
    const inked = ({INKED})(document.getElementById("plane"));
    const swatches = [...document.querySelectorAll("#legend .swatch")];
    const options = {{ willReadFrequently: true }};
    const context = new OffscreenCanvas(1, 1).getContext("2d", options);
    const as_told = (one) => {{
        context.fillStyle = getComputedStyle(one).backgroundColor;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
    }};
    const near = (a, b) => a.every((part, i) => Math.abs(part - b[i]) <= 3);
    const colours = inked.map((one) => one.split(",").map(Number));
    return swatches.length > 1
        && swatches.every((one) => colours.some((colour) => near(colour, as_told(one))));
}}"""
"""Whether every colour of the legend is on the map."""


@pytest.fixture
def fake() -> FakeServer:
    """Four points, and an item that is not drawn; each has all the others as neighbours."""
    platform = FakeMap(ids=["left", 7, "right", "above", "hidden"])
    told = {**platform.told(), "num_items": 5, "num_points": 4, **FOUR}
    return FakeServer({**ready_answers(), **platform.answers(), "GET /insight/v1/map": told})


def plane_of(page: Page) -> Locator:
    """The canvas once its points are drawn."""
    plane = page.locator("#plane")
    wait_until(page, lambda: len(plane.evaluate(INKED)) > 1)
    return plane


def spot(plane: Locator, x: float, y: float = 0.0) -> Position:
    """Where the whole map shows a place; its points fill its width but for margins."""
    width, height = plane.evaluate("(one) => [one.clientWidth, one.clientHeight]")
    scale = (width - 2 * MARGIN) / 2
    return {"x": width / 2 + scale * x, "y": height / 2 - scale * (y - 0.25)}


def test_what_the_pointer_is_on_is_named_and_a_click_selects_it(
    visits: Visits, console: Switched
) -> None:
    page = visits.open(f"{console.url}/map")
    plane = plane_of(page)
    plane.hover(position=spot(plane, -1))
    expect(page.locator("#pointed")).to_have_text("Left <i>end</i>")
    plane.click(position=spot(plane, 0))
    expect(page.locator("#selected [data-selected='7']")).to_be_visible()
    assert page.url == f"{console.url}/map?item_id=7"
    expect(page.locator("#selected")).to_contain_text("This item is drawn")
    plane.click(position=spot(plane, 0.5))
    assert page.url == f"{console.url}/map?item_id=7"
    page.go_back()
    expect(page.locator("#selected h2")).to_have_text("Neighbours")


def test_wheel_and_drag_zoom_and_move(visits: Visits, console: Switched) -> None:
    page = visits.open(f"{console.url}/map")
    plane = plane_of(page)
    named, right = page.locator("#pointed"), spot(plane, 1)
    plane.hover(position=right)
    expect(named).to_have_text("Right end")
    page.mouse.wheel(0, -700)  # what is under the pointer stays there
    plane.hover(position=spot(plane, 0))
    expect(named).to_have_text("")
    plane.hover(position=right)
    expect(named).to_have_text("Right end")
    page.mouse.down()
    plane.hover(position=spot(plane, 0))
    page.mouse.up()
    plane.hover(position=right)
    expect(named).to_have_text("")
    plane.hover(position=spot(plane, 0))
    expect(named).to_have_text("Right end")
    assert page.url == f"{console.url}/map"  # a drag is no click
    page.get_by_role("button", name="All").click()
    plane.hover(position=right)
    expect(named).to_have_text("Right end")


def test_the_keyboard_moves_zooms_and_selects(visits: Visits, console: Switched) -> None:
    page = visits.open(f"{console.url}/map")
    plane, named = plane_of(page), page.locator("#pointed")
    page.get_by_role("button", name="Show").focus()
    page.keyboard.press("Tab")
    expect(plane).to_be_focused()
    width = plane.evaluate("(one) => one.clientWidth")
    for _ in range(round((width / 2 - MARGIN) / 60)):
        page.keyboard.press("ArrowRight")
    for _ in range(round(spot(plane, 0)["y"] - spot(plane, 0, 0.25)["y"]) // 60):
        page.keyboard.press("ArrowDown")
    expect(named).to_have_text("Right end")
    for _ in range(6):
        page.keyboard.press("+")
    expect(named).to_have_text("")  # it is there no more, so near
    for _ in range(6):
        page.keyboard.press("-")
    expect(named).to_have_text("Right end")
    page.keyboard.press("Enter")
    expect(page.locator("#selected")).to_contain_text("This item is drawn")
    assert page.url == f"{console.url}/map?item_id=right"
    page.keyboard.press("0")
    plane.hover(position=spot(plane, 1))
    expect(named).to_have_text("Right end")


def test_two_fingers_zoom(visits: Visits, console: Switched) -> None:
    page = visits.open(f"{console.url}/map", width=375, has_touch=True)
    plane = plane_of(page)
    box = plane.bounding_box()
    assert box
    middle = spot(plane, 0)
    x, y = box["x"] + middle["x"], box["y"] + middle["y"]
    fingers = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 20), ("touchMove", 60), ("touchMove", 120), ("touchEnd", 0)):
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        fingers.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": points if apart else []},
        )
    plane.hover(position=spot(plane, 1))
    expect(page.locator("#pointed")).to_have_text("")
    plane.hover(position=middle)
    expect(page.locator("#pointed")).to_have_text("7")
    assert page.url == f"{console.url}/map"


def test_points_have_the_colours_of_the_legend(visits: Visits, console: Switched) -> None:
    page = visits.open(f"{console.url}/map")
    plane = plane_of(page)
    for colour in ("tag", "age", "popularity", "channel"):
        page.locator("#colour").select_option(colour)
        expect(page.locator(f"#legend [data-colour={colour}]")).to_be_visible()
        assert page.url == f"{console.url}/map?colour={colour}"
        wait_until(page, lambda: page.evaluate(ALL_SHOWN))
    page.locator("#theme").click()
    wait_until(page, lambda: page.evaluate(ALL_SHOWN))
    assert plane.is_visible()


def test_what_is_found_is_selected_even_if_it_is_not_drawn(
    visits: Visits, console: Switched
) -> None:
    page = visits.open(f"{console.url}/map?colour=age")
    plane_of(page)
    page.get_by_label("Find an item").fill("hidden")
    page.keyboard.press("Enter")
    found = page.locator("#found a")
    expect(found).to_have_count(1)
    expect(page.locator("#found")).to_contain_text("not drawn")
    found.click()
    expect(page.locator("#selected")).to_contain_text("This item is not among the points")
    expect(page.locator("#found")).to_be_focused()
    assert page.url == f"{console.url}/map?item_id=hidden&colour=age&search=hidden"
    expect(page.get_by_label("Find an item")).to_have_value("hidden")
    page.reload()
    expect(page.locator("#selected tbody tr")).to_have_count(4)


def test_another_release_brings_its_points(
    visits: Visits, console: Switched, fake: FakeServer
) -> None:
    page = visits.open(f"{console.url}/map", has_own_clock=True)
    plane = plane_of(page)
    moved = fake.answers["GET /insight/v1/map"] | {
        "release": "3",
        "title": ["Moved to the right", None, "Moved to the left", None],
        "x": [1.0, 0.0, -1.0, 0.0],
    }
    fake.answers["GET /insight/v1/map"] = moved
    page.clock.fast_forward(60_000)
    expect(page.locator("#summary")).to_contain_text("Release 3")

    def is_named() -> bool:
        plane.hover(position=spot(plane, 0.5))
        plane.hover(position=spot(plane, 1))
        return page.locator("#pointed").text_content() == "Moved to the right"

    wait_until(page, is_named)


def test_without_script_all_but_the_drawing_is_there(visits: Visits, console: Switched) -> None:
    page = visits.open(f"{console.url}/map", has_script=False)
    expect(page.locator("noscript p")).to_contain_text("The drawing needs script")
    assert not page.locator("#plane").is_visible()
    page.get_by_label("Find an item").fill("7")
    page.get_by_label("Coloured by").select_option("popularity")
    page.get_by_role("button", name="Show").click()
    page.locator("#found a").click()
    assert page.url == f"{console.url}/map?item_id=7&colour=popularity&search=7"
    expect(page.locator("#selected tbody tr")).to_have_count(4)
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#selected tbody tr")).to_have_count(4)
