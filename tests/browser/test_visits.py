"""Whoever looks must hear: what a page may complain of is not missed."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route
from tests.browser.visits import Visits, wait_until

from upnext.serving.server import running_server


@pytest.fixture(
    params={
        "console.warn('careful')": "console: careful",
        "console.error('broken')": "console: broken",
        "throw new Error('thrown')": "script: thrown",
        "Promise.reject(new Error('alone'))": "script: alone",
        "fetch('http://198.51.100.7/x').catch(() => 0)": "a request to http://198.51.100.7/x",
        "fetch('/missing')": "console: Failed to load resource",
        "location.href = 'http://198.51.100.7/away'": "a request to http://198.51.100.7/away",
    }.items(),
    ids=lambda pair: str(pair[1]),
)
def complaining(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A page with a script, and what there is to be heard of it."""
    script, complaint = request.param
    html = f"<!doctype html><link rel=icon href='data:,'><script>{script}</script>"

    async def show(_request: object) -> HTMLResponse:
        return HTMLResponse(html)

    with running_server(Starlette(routes=[Route("/", show)])) as url:
        yield url, complaint


def test_what_a_page_complains_of_is_heard(visits: Visits, complaining: tuple[str, str]) -> None:
    url, complaint = complaining
    page = visits.open(url)
    wait_until(page, lambda: any(told.startswith(complaint) for told in visits.complaints))
    visits.close()
    visits.complaints.clear()
