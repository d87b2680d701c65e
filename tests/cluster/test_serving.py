"""`upnext serve --ray` on a real cluster of two nodes: moves, kills and load, at the same time."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.patience import SOON_S, get, put
from tests.serving.processes import Served, begin, publish_again, wait_until

ray = pytest.importorskip("ray", reason="serving on Ray needs the extra `ray`")
from upnext.events.config import EventsConfig
from upnext.events.store import open_store
from upnext.registry.labels import read_labels
from upnext.registry.moves import move_label
from upnext.registry.servers import read_servers

if TYPE_CHECKING:
    from tests.conftest import RedisServer, TrainedRelease

# Ray warns of its own settings when it reads them for the first time.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.")

NUM_MOVES = 50
OBJECTS_BYTES = 100 << 20
SERVE_TOML = """
[answering]
deadline_ms = 30_000.0
max_deadline_ms = 30_000.0
[events]
store = "redis"
url = "{url}"
key_prefix = "{prefix}"
[fleet]
num_replicas = {least}
max_replicas = {most}
busy_above = {busy_above}
window_s = 1.0
"""


@pytest.fixture(scope="module")
def cluster(pytestconfig: pytest.Config) -> Iterator[Any]:
    """Two nodes, each with room for one replica; tests add others, and take them away."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(pytestconfig.rootpath), *sys.path]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "include_dashboard": False,
                "object_store_memory": OBJECTS_BYTES,
            },
        )
        cluster.add_node(num_cpus=1, object_store_memory=OBJECTS_BYTES)
        yield cluster
        cluster.shutdown()  # type: ignore[no-untyped-call]


@dataclass
class Client:
    """Asks and tells all the time, by connections that it keeps; remembers what it was answered.

    `answers`: when each was asked for, when it came, and the release. `acknowledged`: ids of
    events. `failures`: whatever was none.
    """

    url: str
    rest: float = 0.0
    """How long it does nothing after each question, in multiples of what that one took."""
    answers: list[tuple[float, float, str]] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self, name: str, is_over: threading.Event) -> None:
        with httpx.Client(base_url=self.url, timeout=SOON_S) as client:
            number = 0
            while not is_over.is_set():
                number += 1
                began_s = time.monotonic()
                self._ask(client, f"{name}-{number}")
                self._tell(client, f"{name}-{number}")
                is_over.wait(self.rest * (time.monotonic() - began_s))

    def _ask(self, client: httpx.Client, name: str) -> None:
        began_s = time.monotonic()
        question = {"user_id": name, "k": 2, "is_logged": False}
        if (answer := self._post(client, "/v1/recommendations", question)) is not None:
            self.answers.append((began_s, time.monotonic(), answer["release"]))

    def _tell(self, client: httpx.Client, name: str) -> None:
        at_ms = time.time_ns() // 1_000_000
        event = {"kind": "watch", "event_id": name, "user_id": "ann", "item_id": "v1"}
        event |= {"started_at_ms": at_ms, "watch_time_s": 3.0}  # type: ignore[dict-item]
        if self._post(client, "/v1/events", {"events": [event]}) is not None:
            self.acknowledged.append(name)

    def _post(self, client: httpx.Client, path: str, content: dict[str, Any]) -> Any:
        try:
            response = client.post(path, json=content)
        except httpx.HTTPError as error:
            self.failures.append(f"{path}: {error!r}")
            return None
        if response.status_code != 200:
            self.failures.append(f"{path}: {response.status_code} {response.text}")
            return None
        return response.json()


@contextmanager
def load(url: str, *, num_threads: int = 3, rest: float = 0.0) -> Iterator[Client]:
    """A client that asks meanwhile, with so many threads."""
    client, is_over = Client(url, rest=rest), threading.Event()
    with ThreadPoolExecutor(num_threads) as pool:
        futures = [pool.submit(client.run, f"t{n}", is_over) for n in range(num_threads)]
        try:
            yield client
        finally:
            is_over.set()
    for future in futures:
        future.result()


def end(served: Served) -> None:
    """Asks it to end; it does, and has told of nothing but replicas."""
    served.process.terminate()
    _, said = served.process.communicate(timeout=SOON_S)
    assert served.process.returncode == 0, said
    assert [line for line in said.splitlines() if "replica" not in line] == []


Serve = Callable[..., Served]


@pytest.fixture(scope="module")
def serve(
    cluster: Any,
    redis_server: RedisServer,
    tiny_release: TrainedRelease,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[Serve]:
    """`serve(least=2)` runs `upnext serve --ray` on the cluster, over two like releases."""
    with ExitStack() as stack:

        def serve(*, least: int, most: int | None = None, busy_above: float = 99.0) -> Served:
            directory = tmp_path_factory.mktemp("served")
            registry = Path(shutil.copytree(tiny_release.registry, directory / "registry"))
            publish_again(registry)
            move_label(registry, "stable", 1)
            settings = SERVE_TOML.format(
                url=redis_server.url,
                prefix=directory.name,
                least=least,
                most=most or least,
                busy_above=busy_above,
            )
            (directory / "serve.toml").write_text(settings)
            command = f"upnext serve {registry} --config {directory / 'serve.toml'} --port 0"
            command += f" --admin-port 0 --ray {cluster.address}"
            begun = begin(command.split(), "stderr", pytestconfig.rootpath)
            stack.callback(begun[0].communicate)
            stack.callback(begun[0].kill)
            served = Served(registry, *begun)
            wait_until(lambda: num_ready(served) == least)
            return served

        yield serve


@pytest.fixture(scope="module")
def served(serve: Serve) -> Served:
    """Two replicas, one on each node."""
    return serve(least=2)


def numbers(served: Served) -> dict[str, float]:
    """What the fleet counts: replicas by state, and all else by name."""
    text = get(f"{served.admin_url}/metrics").text
    return {
        sample.labels.get("state", sample.name): sample.value
        for family in text_string_to_metric_families(text)
        if family.name.startswith("upnext_fleet")
        for sample in family.samples
    }


def num_ready(served: Served) -> int:
    return int(numbers(served)["ready"])


def move(served: Served, version: int) -> None:
    """By whichever replica; where that was lost, the journal tells whether it was done."""
    by_s = time.monotonic() + SOON_S
    while time.monotonic() < by_s:
        moved = put(f"{served.admin_url}/admin/v1/labels/stable", json={"version": version})
        if moved.status_code == 200:
            return
        assert moved.status_code in (502, 503), moved.text
    raise AssertionError("the label does not move")


def wrong_answers(client: Client, moves: list[tuple[float, float, int]]) -> list[str]:
    """Answers that began after a move was acknowledged and came before the next one began."""
    wrong = []
    for (_, acknowledged_s, version), (next_s, _, _) in pairwise(moves):
        for began_s, came_s, release in client.answers:
            if acknowledged_s < began_s and came_s < next_s and release != str(version):
                wrong.append(f"{release} in place of {version}")
    return wrong


def test_moves_and_kills_under_load_are_noticed_by_nobody(
    served: Served, redis_server: RedisServer
) -> None:
    moves: list[tuple[float, float, int]] = []
    victims: list[int] = []
    with load(served.url) as client:
        for number in range(NUM_MOVES):
            if number == NUM_MOVES // 3:
                victims.append(min(served.pids()))
                os.kill(victims[0], signal.SIGKILL)
            began_s = time.monotonic()
            move(served, 2 - number % 2)
            moves.append((began_s, time.monotonic(), 2 - number % 2))
        wait_until(lambda: len(served.pids() - set(victims)) == 2 and num_ready(served) == 2)
        moves.append((time.monotonic(), 0.0, 0))
    assert client.failures == []
    assert wrong_answers(client, moves) == []
    assert len(client.answers) > NUM_MOVES
    assert read_labels(served.registry) == {"stable": 1}
    assert {one.labels["stable"] for one in read_servers(served.registry)} == {1}
    config = EventsConfig(
        store="redis", url=redis_server.url, key_prefix=served.registry.parent.name
    )
    store = open_store(config)
    kept = [event.event_id for user in store.users() for event in user.watches]
    store.close()
    assert sorted(kept) == sorted(client.acknowledged)


def test_a_node_that_is_gone_under_load_is_noticed_by_nobody(cluster: Any, served: Served) -> None:
    (node,) = (one for one in cluster.list_all_nodes() if one is not cluster.head_node)
    cluster.add_node(num_cpus=1, object_store_memory=OBJECTS_BYTES)
    before = served.pids()
    with load(served.url) as client:
        wait_until(lambda: len(client.answers) > 20)
        cluster.remove_node(node, allow_graceful=False)
        wait_until(lambda: before - served.pids() != set())
        wait_until(lambda: num_ready(served) == 2)
        num_before = len(client.answers)
        wait_until(lambda: len(client.answers) > num_before + 20)
    assert client.failures == []
    assert len(before & served.pids()) == 1
    end(served)
    assert read_servers(served.registry) == []


def test_replicas_come_and_go_with_the_load_and_end_with_the_front(
    cluster: Any, serve: Serve
) -> None:
    cluster.add_node(num_cpus=2, object_store_memory=OBJECTS_BYTES)
    served = serve(least=1, most=2, busy_above=1.0)
    with load(served.url, num_threads=1, rest=4.0) as quiet:
        with load(served.url, num_threads=4) as busy:
            wait_until(lambda: num_ready(served) == 2)
        num_before = len(quiet.answers)
        wait_until(lambda: len(served.pids()) == 1 and num_ready(served) == 1)
        wait_until(lambda: len(quiet.answers) > num_before + 5)
    assert quiet.failures == busy.failures == []
    (pid,) = served.pids()
    served.process.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert read_servers(served.registry) == []
