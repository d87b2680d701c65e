"""How soon is each page of a running console there, and what does it look like?

    python -m benchmarks.console_pages http://127.0.0.1:8090 [--rounds 3] [--pictures FOLDER]
        [--user USER] [--at-ms MS] [--item ITEM]

A page counts from when it is asked for until nothing is loaded any more and, on the map, points are
drawn; in Debian's Chromium, with nothing in its cache, on the machine that also serves.
`--pictures` keeps a PNG of each page instead, light and at 1280 pixels, and of some dark and on a
phone.
"""

import argparse
import io
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

HEIGHT = 1_000
COLOURS = 128
"""Of a picture; more would make large files and look the same."""


def main() -> None:
    """Prints a Markdown table, or writes pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--user", default="u00017")
    parser.add_argument("--at-ms", default="")
    parser.add_argument("--item", default="v00017")
    given = parser.parse_args()
    who = {"user_id": given.user} | ({"at_ms": given.at_ms} if given.at_ms else {})
    pages = paths_of(who, given.item)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        if given.pictures is None:
            measure(browser, given.url, pages, given.rounds)
        else:
            take(browser, given.url, pages, given.pictures)
        browser.close()


def paths_of(who: Mapping[str, str], item: str) -> dict[str, str]:
    """Each page by name; those that want one show this user and this item."""
    return {
        "home": "/",
        "recommend": f"/recommend?{urlencode(who)}",
        "item": f"/item?{urlencode({'item_id': item})}",
        "map": f"/map?{urlencode({'item_id': item})}",
        "releases": "/releases",
        "promote": "/releases/1/promote?label=stable",
        "training": "/training",
        "quality": "/quality",
        "traffic": "/traffic",
        "data": "/data",
    }


def measure(browser: Browser, url: str, pages: Mapping[str, str], num_rounds: int) -> None:
    """In turns, so that what else the machine does meets all pages."""
    took_s: dict[str, list[float]] = {name: [] for name in pages}
    for _ in range(num_rounds):
        for name, path in pages.items():
            context = browser.new_context()
            page = context.new_page()
            began_s = time.perf_counter()
            _open(page, url + path)
            took_s[name].append(time.perf_counter() - began_s)
            context.close()
    print(f"| page | first, s | least of {num_rounds} | most |\n|---|---|---|---|")
    for name, times_s in took_s.items():
        print(f"| {name} | {times_s[0]:.2f} | {min(times_s):.2f} | {max(times_s):.2f} |")


def take(browser: Browser, url: str, pages: Mapping[str, str], folder: Path) -> None:
    """A picture of each page, and of some as others see them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in pages.items():
        _take(browser, url + path, folder / f"{name}.png", 1_280, "light")
    _take(browser, url + pages["traffic"], folder / "traffic-dark.png", 1_280, "dark")
    _take(browser, url + pages["map"], folder / "map-dark.png", 1_280, "dark")
    _take(browser, url + pages["recommend"], folder / "recommend-phone.png", 375, "light")


def _take(
    browser: Browser, url: str, path: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    viewport = {"width": width, "height": HEIGHT}
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    _open(page, url)
    seen = Image.open(io.BytesIO(page.screenshot()))
    seen.quantize(COLOURS).save(path, optimize=True)
    context.close()


def _open(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_load_state("networkidle" if "/map" in url else "load")


if __name__ == "__main__":
    main()
