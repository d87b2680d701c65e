"""A console over a server that tells what a test wants, asked as a browser would."""

from collections.abc import Iterator

import httpx
import pytest
from starlette.types import ASGIApp
from tests.console.fake_platform import FakePlatform
from tests.console.fake_server import FakeServer, ready_answers, running
from tests.patience import SOON_S

from upnext.console.app import create_console_app
from upnext.console.client import Server
from upnext.serving.server import running_server


@pytest.fixture
def platform() -> FakePlatform:
    """The users and items that the fake server tells of, and the watches that it was told."""
    return FakePlatform()


@pytest.fixture
def fake(platform: FakePlatform) -> Iterator[FakeServer]:
    with running(FakeServer({**ready_answers(), **platform.answers()})) as server:
        yield server


@pytest.fixture
def console(fake: FakeServer) -> ASGIApp:
    return create_console_app(Server(fake.url, fake.url), hosts={"127.0.0.1"})


@pytest.fixture
def visitor(console: ASGIApp) -> Iterator[httpx.Client]:
    """Asks the console; its POSTs say, as browsers do, which page they come from."""
    with (
        running_server(console) as url,
        httpx.Client(
            base_url=url, headers={"Origin": url}, trust_env=False, timeout=SOON_S
        ) as client,
    ):
        yield client
