"""Real server processes over a registry: whoever is killed or told to end, nobody goes without."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.patience import SOON_S, get, post
from tests.serving.processes import (
    ROUTE,
    Served,
    ask,
    publish_again,
    start,
    wait_until,
)

from upnext.events.config import EventsConfig
from upnext.events.store import open_store
from upnext.registry.moves import move_label
from upnext.registry.release import publish
from upnext.registry.servers import read_servers

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


@pytest.fixture(scope="module")
def served(
    tiny_release: TrainedRelease,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[Served]:
    """`upnext serve` with two processes and an admin port, over two releases that are alike."""
    directory = tmp_path_factory.mktemp("served")
    registry = Path(shutil.copytree(tiny_release.registry, directory / "registry"))
    publish_again(registry)
    move_label(registry, "stable", 1)
    command = ["upnext", "serve", str(registry), "--port", "0", "--admin-port", "0"]
    served = start(
        registry, [*command, "--processes", "2"], "stderr", pytestconfig.rootpath, num_processes=2
    )
    yield served
    served.process.kill()
    served.process.communicate(timeout=SOON_S)


@pytest.fixture(params=[1, 2], ids=["one process", "two processes"])
def held(
    tmp_path: Path, request: pytest.FixtureRequest, pytestconfig: pytest.Config
) -> Iterator[Served]:
    """A server on releases without a model, whose answers can be held."""
    registry = tmp_path / "registry"
    publish(registry, lambda path: {"size": (path / "a.txt").write_text("whole")})
    move_label(registry, "stable", 1)
    command = ["tests.serving.serving_fakes", str(registry), str(request.param)]
    served = start(registry, command, "stdout", pytestconfig.rootpath, num_processes=request.param)
    yield served
    served.process.kill()
    served.process.communicate(timeout=SOON_S)


def upnext(*arguments: object) -> str:
    """What a verb says, in a process of its own."""
    command = [sys.executable, "-m", "upnext", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_move_is_followed_by_every_process_before_the_command_returns(served: Served) -> None:
    assert served.releases() == {"1"}
    for arguments, release in (
        (("label", served.registry, "stable", 2), 2),
        (("rollback", served.registry, "stable"), 1),
    ):
        said = upnext(*arguments)
        labels = {one.pid: one.labels["stable"] for one in read_servers(served.registry)}
        assert served.releases() == {str(release)}
        assert labels == dict.fromkeys(served.pids(), release)
        assert "followed by 2 server(s)" in said


def test_traffic_is_followed_as_it_runs(served: Served) -> None:
    upnext("label", served.registry, "canary", 2)
    upnext("traffic", served.registry, "canary=100")
    wait_until(lambda: served.releases() == {"2"})
    upnext("traffic", served.registry, "stable=100")
    wait_until(lambda: served.releases() == {"1"})


def test_the_admin_port_tells_the_numbers_of_all_processes(served: Served) -> None:
    for _ in range(20):
        ask(served.url)
    told = get(f"{served.admin_url}/metrics").text
    answers = re.findall(r"^upnext_answers_total\{.*\} (.*)$", told, flags=re.MULTILINE)
    assert sum(map(float, answers)) >= 20
    assert re.search(r'^upnext_label_release\{label="stable"\} 1\.0$', told, flags=re.MULTILINE)
    listed = get(f"{served.admin_url}/admin/v1/releases").json()
    assert {one["pid"] for one in listed["servers"]} == served.pids()
    assert get(f"{served.url}/metrics").status_code == 404
    assert post(f"{served.admin_url}{ROUTE}", json={}).status_code == 404


def test_whichever_process_is_asked_tells_the_slowest_requests_of_all(served: Served) -> None:
    def told() -> Any:
        return get(f"{served.admin_url}/insight/v1/slow").json()

    def all_have_told() -> bool:
        ask(served.url, user_id="the-secret-user")
        return {one["process"] for one in told()["slow"]} == served.pids()

    wait_until(all_have_told)
    content = told()
    assert content["num_seen"] >= len(content["slow"]) >= 2
    times_ms = [one["took_ms"] for one in content["slow"]]
    assert times_ms == sorted(times_ms, reverse=True)
    for one in content["slow"]:
        assert one["timings_ms"]["served"] == one["took_ms"]
        assert "the-secret-user" not in str(one)
    release = get(f"{served.admin_url}/insight/v1/releases/1").json()
    assert release["warm_up"]["num_servers"] == 2
    assert release["warm_up"]["num_tried"] > 20


def test_a_process_that_is_killed_loses_the_port_for_nobody(served: Served) -> None:
    """Each is killed once, so that each has answered alone."""
    for victim in sorted(served.pids()):
        assert served.releases() == {"1"}
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda gone=victim: gone not in served.pids())  # type: ignore[misc]
        assert served.releases() == {"1"}
        wait_until(lambda: len(served.pids()) == 2)
    assert served.releases() == {"1"}


def test_what_is_under_way_is_answered_and_kept_before_the_end(held: Served) -> None:
    registry = held.registry
    (registry / "hold").touch()
    question = {"user_id": "ann", "k": 3, "deadline_ms": 10_000, "is_logged": True}
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(ask, held.url, **question)
        wait_until((registry / "begun").exists)
        held.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_answering(held.url))
        (registry / "go").touch()
        answer = under_way.result(timeout=SOON_S)
    _, complaints = held.process.communicate(timeout=SOON_S)
    assert (held.process.returncode, complaints) == (0, "")
    assert (len(answer["items"]), answer["degraded"]) == (3, [])
    assert held.pids() == set()
    store = open_store(EventsConfig(path=str(registry / "events.sqlite")))
    assert store.past_of("ann", since_ms=0, until_ms=2**50).shown == [0, 1, 2]
    store.close()


@pytest.mark.parametrize(
    ("tell", "number"),
    [(os.kill, signal.SIGINT), (os.kill, signal.SIGTERM), (os.killpg, signal.SIGINT)],
    ids=["interrupted", "terminated", "from a terminal"],
)
def test_it_ends_when_asked_to_and_says_nothing(
    held: Served, tell: Callable[[int, int], None], number: int
) -> None:
    pids = held.pids()
    tell(held.process.pid, number)
    _, complaints = held.process.communicate(timeout=SOON_S)
    assert (held.process.returncode, complaints) == (0, "")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def is_answering(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=0.5).is_success
    except httpx.TransportError:
        return False
