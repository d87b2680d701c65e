"""A browser's visits to the console, and whatever its pages complain of meanwhile."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route
from tests.patience import SOON_S

NOT_LOADED = "Failed to load resource"
"""How Chromium says that an address does not answer, or answers with an error."""


def wait_until(page: Page, is_so: Callable[[], bool]) -> None:
    """Meanwhile what happens in the browser is heard of.

    It takes the place of the library's own waiting for an expression, which pages' policy forbids.
    """
    deadline_s = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < deadline_s
        page.wait_for_timeout(20)


def assert_told_nowhere(page: Page, secret: str) -> None:
    """Neither the page, its address, nor what the browser keeps for it holds the secret."""
    kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, history.state])"
    for told in (page.content(), page.url, page.evaluate(kept)):
        assert secret not in told


@dataclass
class Visits:
    """Those of one test, each in a context of its own.

    `complaints`: errors and warnings in the console (what the content security policy forbids is
    one), errors of scripts, and requests that would have left this machine, which are not sent.
    `may_be_down`: whether a test has taken away what answers, or does what is refused, so that the
    browser may say that an address answers with an error.
    """

    browser: Browser
    complaints: list[str] = field(default_factory=list)
    may_be_down: bool = False
    _contexts: list[BrowserContext] = field(default_factory=list)

    def open(
        self,
        url: str,
        *,
        width: int = 1280,
        scheme: Literal["light", "dark"] = "light",
        has_script: bool = True,
        has_touch: bool = False,
        has_own_clock: bool = False,
    ) -> Page:
        """A page once it is loaded. With a clock of its own, a test can let time pass quickly."""
        context = self.browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=has_script,
            has_touch=has_touch,
        )
        self._contexts.append(context)
        context.route("**/*", self._pass_on)
        context.on("console", self._hear)
        context.on("weberror", lambda told: self.complaints.append(f"script: {told.error}"))
        page = context.new_page()
        if has_own_clock:
            page.clock.install()
        page.goto(url)
        return page

    def close(self) -> None:
        while self._contexts:
            context = self._contexts.pop()
            context.unroute_all(behavior="ignoreErrors")
            context.close()

    def _pass_on(self, route: Route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
            return
        self.complaints.append(f"a request to {route.request.url}")
        route.abort()

    def _hear(self, said: ConsoleMessage) -> None:
        is_expected = self.may_be_down and said.text.startswith(NOT_LOADED)
        if said.type in ("error", "warning") and not is_expected:
            self.complaints.append(f"console: {said.text}")
