"""What stands in pages: their lists, their text, and the form that sends a watch."""

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

from tests.console.fake_server import FakeServer

from upnext.console.question import Question

USER = Question(user_id="u00003", k=8)


class Form(HTMLParser):
    """The first form of a page that sends a watch of an item: where to, and its fields."""

    def __init__(self, html: str, item_id: str) -> None:
        super().__init__()
        self.action, self.fields, self._item = "", dict[str, str](), f'"{item_id}"'
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        is_found = self.fields.get("item") == self._item
        if tag == "form" and not is_found:
            self.action, self.fields = told.get("action", ""), {}
        if tag == "input":
            self.fields.setdefault(told["name"], told.get("value", ""))


def asked_of(fake: FakeServer, path: str = "/v1/recommendations") -> list[Any]:
    return [one.body for one in fake.asked if one.path == path]


def listed(html: str) -> list[list[str]]:
    """Ids of the items of each list."""
    lists = re.findall(r'<ol class="ranked">(.*?)</ol>', html, re.DOTALL)
    return [re.findall(r'<p class="quiet">(v\d+) ·', one) for one in lists]


def text_of(html: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html)))
