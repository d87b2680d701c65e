"""The one endpoint over plain servers: what it passes on, and what clients notice of lost ones."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Receive, Scope, Send
from tests.patience import get, post, put
from tests.serving.processes import wait_until

from upnext.cluster.fleet.endpoint import FleetEndpoint
from upnext.cluster.fleet.fleet import Fleet, Place
from upnext.cluster.fleet.numbers import FleetNumbers
from upnext.cluster.fleet.servers import Rotation
from upnext.errors import ConfigError
from upnext.serving.config import FleetConfig, HttpConfig, ServingConfig
from upnext.serving.listening import http_server, listen, url_of
from upnext.serving.security import SecurityConfig, open_security
from upnext.serving.server import running_server


@dataclass
class Behind:
    """A server that tells what it was asked; `name` stands in each answer."""

    name: str = "a"
    is_ready: bool = True
    num_counted: int = 0
    asked: list[tuple[Scope, bytes]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while (message := await receive()).get("more_body", False):
            body += message["body"]
        body += message["body"]
        status, content = 200, self.name.encode()
        if scope["path"] == "/readyz":
            status = 200 if self.is_ready else 503
        elif scope["path"] == "/metrics":
            content = f"# TYPE upnext_a_total counter\nupnext_a_total {self.num_counted}\n".encode()
        else:
            self.asked.append((scope, body))
            content = scope["query_string"] or body or content
        headers = [
            (b"content-length", b"%d" % len(content)),
            (b"x-upnext-release", b"7"),
            (b"connection", b"x-internal"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


@dataclass
class Standing:
    """A replica that is where it is, until a test says that it moved."""

    place: Place
    is_ended: bool = False

    async def where(self) -> Place:
        return self.place

    async def end(self) -> None:
        self.is_ended = True

    def kill(self) -> None:
        self.is_ended = True


def place_of(url: str, managing_url: str | None = None) -> Place:
    port, managing_port = (int(one.rpartition(":")[2]) for one in (url, managing_url or url))
    return Place(host="127.0.0.1", port=port, managing_port=managing_port, node="n", pid=port)


@contextlib.contextmanager
def fronted(*replicas: Standing, config: FleetConfig | None = None) -> Iterator[tuple[str, str]]:
    """The two URLs of an endpoint over replicas, at once."""
    left = iter(replicas)
    fleet = config or FleetConfig(num_replicas=len(replicas), silent_s=2.0)
    listeners = [listen("127.0.0.1", 0), listen("127.0.0.1", 0)]
    urls = [url_of("127.0.0.1", listener) for listener in listeners]
    config_of_all = ServingConfig(fleet=fleet, http=HttpConfig(graceful_s=2.0))
    endpoint = FleetEndpoint(
        config_of_all,
        (open_security(SecurityConfig()), open_security(SecurityConfig())),
        lambda: next(left),
        managing_port=listeners[1].getsockname()[1],
        say=lambda _: None,
    )
    server = http_server(endpoint.app, graceful_s=2.0)
    thread = threading.Thread(target=server.run, args=(listeners,), daemon=True)
    thread.start()
    try:
        yield urls[0], urls[1]
    finally:
        server.should_exit = True
        thread.join()
        for listener in listeners:
            listener.close()


def is_ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz", timeout=10).status_code == 200


def states(managing_url: str) -> dict[str, float]:
    """Replicas by state, and all else that the front counts, by name."""
    told = {}
    for family in text_string_to_metric_families(get(f"{managing_url}/metrics").text):
        for sample in family.samples:
            told[sample.labels.get("state", sample.name)] = sample.value
    return told


@contextlib.contextmanager
def breaking(num_ready: int) -> Iterator[tuple[str, list[bytes]]]:
    """A server that says so often that it is ready, and ends whatever else it is asked half-way."""
    asked: list[bytes] = []
    ready = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                while self.rfile.readline().strip():
                    pass
                if b"/readyz" in line and len(asked) >= num_ready:
                    return
                if b"/readyz" in line or b"/metrics" in line:
                    self.wfile.write(ready)
                else:
                    asked.append(line)
                    self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()


def test_what_is_asked_and_answered_passes_through() -> None:
    behind = Behind()
    with running_server(behind) as server, fronted(Standing(place_of(server))) as (url, _):
        wait_until(lambda: is_ready(url))
        headers = {
            "Authorization": "Bearer abc",
            "X-Forwarded-For": "10.0.0.9",
            "Connection": "x-mine",
            "X-Mine": "1",
            "Origin": "https://site.example",
        }
        body = b"x" * 300_000
        answer = post(f"{url}/v1/a%20b/%C3%A9", content=body, headers=headers)
        assert (answer.status_code, answer.content) == (200, body)
        assert answer.headers["x-upnext-release"] == "7"
        assert len(answer.headers.get_list("date")) == 1
        assert "connection" not in answer.headers
        scope, told = behind.asked[-1]
        heard = {name.decode(): value.decode() for name, value in scope["headers"]}
        assert (scope["raw_path"], told) == (b"/v1/a%20b/%C3%A9", body)
        assert (heard["authorization"], heard["origin"]) == ("Bearer abc", "https://site.example")
        assert (heard["x-forwarded-for"], heard["host"]) == ("10.0.0.9, 127.0.0.1", "localhost")
        assert "x-mine" not in heard
        assert get(f"{url}/v1/items?k=3&x=%20").text == "k=3&x=%20"
        head = httpx.head(f"{url}/v1/items?k=3")
        assert (head.headers["content-length"], head.content) == ("3", b"")
        assert get(f"{url}/v1/items?k=3").text == "k=3"


def test_what_no_server_should_see_goes_no_further() -> None:
    behind = Behind()
    with running_server(behind) as server, fronted(Standing(place_of(server))) as (url, managing):
        wait_until(lambda: is_ready(url))
        for address in (url, managing):
            refused = get(f"{address}/v1/items", headers={"Host": "evil.example"})
            assert (refused.status_code, refused.json()["error"]["where"]) == (400, "Host")
            assert post(f"{address}/v1/a", content=b"x" * 1_100_000).status_code == 413
            zipped = post(f"{address}/v1/a", headers={"Content-Encoding": "gzip"})
            assert zipped.status_code == 415
        refused = get(f"{managing}/metrics", headers={"Host": "evil.example"})
        assert refused.status_code == 400
        assert behind.asked == []


def test_without_a_server_it_is_alive_and_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = place_of(f"http://127.0.0.1:{taken.getsockname()[1]}")
    with fronted(Standing(nobody)) as (url, managing):
        assert get(f"{url}/healthz").json() == {"alive": True}
        refused = post(f"{url}/v1/recommendations", json={})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["got"] == "none"
        assert states(managing)["upnext_fleet_refused_total"] == 1


def test_a_request_whose_server_is_lost_is_sent_once_more() -> None:
    behind = Behind()
    with (
        running_server(behind) as server,
        breaking(num_ready=1) as (broken, asked),
        fronted(Standing(place_of(broken)), Standing(place_of(server))) as (url, managing),
    ):
        wait_until(lambda: states(managing)["ready"] == 2)
        answers = [post(f"{url}/v1/events", content=b"%d" % n).text for n in range(6)]
        assert answers == [str(number) for number in range(6)]
        assert 1 <= len(asked) <= 2  # twice, where a connection that was kept may have been old
        told = states(managing)
        assert told["upnext_fleet_retried_total"] == 1
        assert told["upnext_fleet_refused_total"] == 0


def test_a_request_that_is_lost_twice_is_refused() -> None:
    with (
        breaking(num_ready=10) as (first, asked),
        breaking(num_ready=10) as (second, asked_too),
        breaking(num_ready=10) as (third, asked_last),
    ):
        replicas = [Standing(place_of(one)) for one in (first, second, third)]
        with fronted(*replicas) as (url, managing):
            wait_until(lambda: states(managing)["ready"] == 3)
            refused = post(f"{url}/v1/events", content=b"e")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert len([one for one in (asked, asked_too, asked_last) if one]) == 2


def test_what_moves_labels_is_never_sent_twice() -> None:
    behind = Behind()
    with (
        running_server(behind) as server,
        breaking(num_ready=10) as (broken, asked),
        fronted(Standing(place_of(server, broken)), Standing(place_of(server, broken))) as both,
    ):
        wait_until(lambda: is_ready(both[0]))
        lost = put(f"{both[1]}/admin/v1/labels/stable", json={"version": 2})
        assert (lost.status_code, len(asked)) == (502, 1)
        assert "journal" in lost.json()["error"]["hint"]


def test_one_that_is_not_ready_is_asked_only_where_there_is_no_other() -> None:
    first, second = Behind("first"), Behind("second", is_ready=False)
    with (
        running_server(first) as a,
        running_server(second) as b,
        fronted(Standing(place_of(a)), Standing(place_of(b))) as (url, managing),
    ):
        wait_until(lambda: states(managing)["unready"] == states(managing)["ready"] == 1)
        assert {get(f"{url}/x").text for _ in range(6)} == {"first"}
        second.is_ready = True
        wait_until(lambda: states(managing)["ready"] == 2)
        assert {get(f"{url}/x").text for _ in range(6)} == {"first", "second"}
        first.is_ready = second.is_ready = False
        wait_until(lambda: states(managing)["unready"] == 2)
        assert get(f"{url}/readyz").status_code == 503
        assert get(f"{url}/x").status_code == 200


def test_what_a_server_counted_stays_counted_when_it_moves() -> None:
    first, second, third = (Behind(num_counted=number) for number in (5, 3, 1))
    with contextlib.ExitStack() as stack:
        b, c = (stack.enter_context(running_server(one)) for one in (second, third))
        ending = stack.enter_context(contextlib.ExitStack())
        replica = Standing(place_of(ending.enter_context(running_server(first))))
        _, managing = stack.enter_context(fronted(replica, Standing(place_of(b))))
        wait_until(lambda: states(managing)["ready"] == 2)
        assert states(managing)["upnext_a_total"] == 8
        ending.close()
        wait_until(lambda: states(managing)["lost"] == 1)
        assert states(managing)["upnext_a_total"] == 8
        replica.place = place_of(c)
        wait_until(lambda: states(managing)["ready"] == 2)
        second.num_counted = 4
        assert states(managing)["upnext_a_total"] == 10
    assert replica.is_ended


def test_there_are_as_many_replicas_as_the_load_asks_for() -> None:
    config = FleetConfig(num_replicas=1, max_replicas=2, busy_above=0.5, window_s=0.5)
    held, go = threading.Event(), threading.Event()

    async def holding(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/hold":
            held.set()
            await asyncio.to_thread(go.wait, 20)
        await Behind()(scope, receive, send)

    with running_server(holding) as a, running_server(Behind()) as b, ThreadPoolExecutor() as pool:
        replicas = Standing(place_of(a)), Standing(place_of(b))
        with fronted(*replicas, config=config) as (url, managing):
            wait_until(lambda: is_ready(url))
            under_way = pool.submit(httpx.get, f"{url}/hold?still", timeout=30)
            wait_until(lambda: states(managing)["ready"] == 2)
            go.set()
            assert under_way.result().text == "still"
            wait_until(lambda: [one.is_ended for one in replicas] == [False, True])
            assert get(f"{url}/x").text == "a"


def test_a_replica_that_never_becomes_ready_is_told() -> None:
    told: list[ConfigError] = []
    rotation = Rotation()

    class Unlucky(Standing):
        async def where(self) -> Place:
            raise OSError("no such node")

    async def run() -> None:
        numbers = FleetNumbers(rotation, host="localhost", token=None)
        nowhere = place_of("http://127.0.0.1:1")
        fleet = Fleet(
            FleetConfig(num_replicas=1),
            rotation,
            lambda: Unlucky(nowhere),
            numbers=numbers,
            graceful_s=1.0,
            hopeless=told.append,
            say=lambda _: None,
        )
        async with fleet, asyncio.timeout(30):
            while not told:
                await asyncio.sleep(0.01)

    asyncio.run(run())
    assert "Ray's logs" in str(told[0])
