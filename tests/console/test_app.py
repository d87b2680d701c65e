"""Every page: what it forbids the browser, whom it answers, and what it says of silence."""

from html.parser import HTMLParser

import httpx
import pytest
from starlette.types import ASGIApp
from tests.console.fake_server import FakeServer
from tests.patience import get

from upnext.console.app import LISTED, create_console_app
from upnext.console.client import Server
from upnext.serving.server import running_server

PATHS = [page.path for page in LISTED]


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", PATHS)
def test_nothing_in_a_page_runs_or_comes_from_elsewhere(visitor: httpx.Client, path: str) -> None:
    answer = visitor.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, attributes in Elements(answer.text).found:
        assert tag != "style"
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert tag != "script" or (attributes["src"] or "").startswith("/static/")
        for name in ("src", "href", "action"):
            assert not (attributes.get(name) or "").startswith(("//", "http", "javascript"))


@pytest.mark.parametrize("path", PATHS)
def test_a_server_that_does_not_answer_is_said_to(path: str) -> None:
    app = create_console_app(
        Server("http://127.0.0.1:9", "http://127.0.0.1:9"), hosts={"127.0.0.1"}
    )
    with running_server(app) as url:
        answer = get(f"{url}{path}")
    assert answer.status_code == 503
    assert "does not answer" in answer.text
    assert "data-refresh-s" in answer.text


def test_a_foreign_name_is_not_answered(visitor: httpx.Client) -> None:
    assert visitor.get("/", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", ""])
def test_forms_of_other_sites_change_nothing(
    visitor: httpx.Client, fake: FakeServer, origin: str
) -> None:
    before = [asked for asked in fake.asked if asked.method != "GET"]
    assert visitor.post("/", headers={"Origin": origin}).status_code == 403
    assert [asked for asked in fake.asked if asked.method != "GET"] == before


def test_browsers_say_of_our_own_forms_where_they_come_from(visitor: httpx.Client) -> None:
    # Under "no-referrer" they would send "Origin: null", which is refused.
    assert visitor.get("/").headers["referrer-policy"] == "same-origin"


def test_what_the_server_says_is_never_markup(fake: FakeServer, console: ASGIApp) -> None:
    fake.answers["GET /readyz"]["problems"] = {"stable": "<script>alert(1)</script>"}
    with running_server(console) as url:
        answer = get(url)
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text
