"""A real browser before a console, over a server that tells what a test wants."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from starlette.types import ASGIApp
from tests.browser.switched import Switched
from tests.browser.visits import Visits
from tests.browser.whole import Whole, running_whole
from tests.console.fake_platform import FakePlatform
from tests.console.fake_server import FakeServer, ready_answers, running
from tests.patience import SOON_S

from upnext.console.app import create_console_app
from upnext.console.client import Server
from upnext.serving.server import running_server

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

expect.set_options(timeout=1e3 * SOON_S)  # a busy machine is no fault of a page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a file's tests alone: while it runs, no other event loop may run in this thread."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def fake() -> FakeServer:
    """What the server tells; it runs as `server`."""
    return FakeServer({**FakePlatform().answers(), **ready_answers()})


@pytest.fixture
def server(fake: FakeServer) -> Iterator[Switched]:
    @contextlib.contextmanager
    def start(port: int) -> Iterator[str]:
        with running(fake, port) as one:
            yield one.url

    with Switched(start) as switched:
        yield switched


@pytest.fixture
def console(server: Switched) -> Iterator[Switched]:
    def app() -> ASGIApp:
        return create_console_app(Server(server.url, server.url), hosts={"127.0.0.1"})

    with Switched(lambda port: running_server(app(), port=port)) as switched:
        yield switched


@pytest.fixture
def visits(browser: Browser, console: Switched) -> Iterator[Visits]:
    """Fails the test if a page had anything to complain of; pages are closed before the console."""
    visits = Visits(browser)
    yield visits
    visits.close()
    assert visits.complaints == []


@pytest.fixture(scope="session")
def whole(
    tiny_release: "TrainedRelease",
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[Whole]:
    """A trained registry, a server and a console, each process as it is really run."""
    directory = tmp_path_factory.mktemp("whole")
    with running_whole(tiny_release.registry, directory, pytestconfig.rootpath) as whole:
        yield whole
