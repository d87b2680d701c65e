"""Laws of every listed page, narrow and wide, light and dark."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page
from tests.browser.switched import Switched
from tests.browser.visits import Visits

from upnext.console.app import LISTED

PATHS = [page.path for page in LISTED]
GRAVE = ("serious", "critical")

REACHABLE = """() => {
    const kinds = ["a[href]", "button", "input:not([type=hidden])", "select", "textarea", "summary",
        "[tabindex='0']"];
    const isOtherOfGroup = (one) => one.type === "radio" && !one.checked
        && one.form?.querySelector(`[name="${CSS.escape(one.name)}"]:checked`);
    window.reachable = [...document.querySelectorAll(kinds.join())].filter((one) =>
        one.checkVisibility({ visibilityProperty: true }) && !one.matches(":disabled")
        && !isOtherOfGroup(one));
    return window.reachable.map((one) => one.outerHTML.slice(0, 150));
}"""
"""What a person may want to reach; of a group of choices, the one that is chosen."""
FOCUSED = """() => {
    const one = document.activeElement;
    const [style, box] = [getComputedStyle(one), one.getBoundingClientRect()];
    const isOutlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
    const isInside = box.bottom > 0 && box.top < innerHeight
        && box.right > 0 && box.left < innerWidth;
    return [window.reachable.indexOf(one), isOutlined && isInside];
}"""
"""The place of what has the focus among them, and whether that can be seen."""


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_named_fits_and_shuts_nobody_out(
    visits: Visits, console: Switched, path: str, width: int
) -> None:
    page = visits.open(console.url + path, width=width)
    name = page.locator("h1").text_content()
    assert name
    assert page.title() == f"{name} · upnext"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert grave_violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert grave_violations(page, {"runOnly": ["color-contrast"]}) == []


def grave_violations(page: Page, options: dict[str, Any] | None = None) -> list[str]:
    """What axe finds that keeps people from using the page: the rule, and where."""
    found: list[dict[str, Any]] = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("path", PATHS)
def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    visits: Visits, console: Switched, path: str
) -> None:
    page = visits.open(console.url + path)
    reachable: list[str] = page.evaluate(REACHABLE)
    reached, seen = set[int](), set[int]()
    # Some fields are several stops, such as those of dates; one that shows itself is enough.
    for _ in range(3 * len(reachable) + 30):
        page.keyboard.press("Tab")
        place, is_seen = page.evaluate(FOCUSED)
        reached.add(place)
        if is_seen:
            seen.add(place)
        if len(seen - {-1}) == len(reachable):
            break
    assert [html for place, html in enumerate(reachable) if place not in reached] == []
    assert [html for place, html in enumerate(reachable) if place not in seen] == []


def test_the_theme_is_switched_and_remembered(visits: Visits, console: Switched) -> None:
    page = visits.open(console.url, scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.locator("#theme").click()
    dark = page.evaluate(paper)
    assert dark != light
    for path in PATHS:
        page.goto(console.url + path)
        assert page.evaluate(paper) == dark
    page.locator("#theme").click()
    assert page.evaluate(paper) == light
