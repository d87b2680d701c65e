"""The report on one page, as a browser with its own fonts lays it out."""

from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser
from tests.console.measured import curve, data, detail, report, run

from upnext.pictures.page import release_page

TEXTS_OUTSIDE = """
[...document.querySelectorAll("svg text")].filter((text) => {
  const box = text.getBBox(), paper = text.ownerSVGElement.viewBox.baseVal;
  return box.x < -3 || box.x + box.width > paper.width + 3
      || box.y < -3 || box.y + box.height > paper.height + 3;
}).map((text) => text.textContent)
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    release = detail(2, evaluation=report(), metadata={"num_items": 4_726, "data": data()})
    training = run("r1", curve("chosen/retrieval"), curve("chosen/ranking"), release=2)
    path = tmp_path / "report.html"
    path.write_text(release_page(release, training), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_asks_nobody_for_anything(
    browser: Browser, url: str, scheme: Literal["light", "dark"]
) -> None:
    told: list[str] = []
    page = browser.new_page(viewport={"width": 375, "height": 800}, color_scheme=scheme)
    page.on("console", lambda message: told.append(message.text))
    page.on("request", lambda request: told.append(request.url))
    page.goto(url)
    assert told == [url]
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    assert page.evaluate("document.querySelectorAll('svg text').length") > 100
    assert page.evaluate(TEXTS_OUTSIDE) == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, url: str, scheme: Literal["light", "dark"]) -> None:
    # What axe runs is a script, which the page itself would forbid.
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    context.close()
