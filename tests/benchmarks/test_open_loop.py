"""The generator asks when it is due, however the server behaves, and checks what it is told."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from benchmarks.open_loop import NO_ANSWER, Load, arrivals, ask, draw_users, page_checksum

USERS = [f"u{number}" for number in range(10)]
Answer = Callable[[dict[str, object]], bytes | None]


def page(release: str, *, k: int = 20, status: str = "200 OK", told: str | None = None) -> bytes:
    items = [{"item_id": f"v{place}"} for place in range(k)]
    body = json.dumps({"items": items, "release": release, "label": "stable"}).encode()
    head = f"HTTP/1.1 {status}\r\nX-Upnext-Release: {told or release}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A thread a connection; None closes it without an answer."""

    def handle(stream: socket.socket) -> None:
        with stream, stream.makefile("rb") as lines:
            while line := lines.readline():
                assert line.startswith(b"POST ")
                size = 0
                while (header := lines.readline()) != b"\r\n":
                    name, _, value = header.decode().partition(":")
                    size = int(value) if name.lower() == "content-length" else size
                told = answer(json.loads(lines.read(size)))
                if told is None:
                    return
                stream.sendall(told)

    def accept() -> None:
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(stream,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_every_request_is_answered_and_recorded() -> None:
    with serving(lambda _: page("7")) as url:
        records = ask(Load(url=url, rate=200, seconds=0.5), USERS)
    assert len(records) == len(arrivals(200, 0.5, np.random.default_rng(0)))
    assert set(records["status"]) == {200}
    assert set(records["release"]) == {7}
    assert records["is_right"].all()
    assert set(records["page"]) == {page_checksum([f"v{place}" for place in range(20)])}
    assert (records["scheduled_s"] <= records["sent_s"]).all()
    assert (records["sent_s"] <= records["done_s"]).all()


def test_a_stall_is_charged_to_all_who_came_meanwhile() -> None:
    lock, first = threading.Lock(), [True]

    def stalls_once(_: dict[str, object]) -> bytes:
        with lock:  # all others wait for the first
            if first:
                first.pop()
                time.sleep(0.4)
        return page("1")

    with serving(stalls_once) as url:
        records = ask(Load(url=url, rate=100, seconds=0.6), USERS)
    taken_s = records["done_s"] - records["scheduled_s"]
    stalled = records["scheduled_s"] < records["scheduled_s"][0] + 0.2
    assert stalled.sum() > 5
    assert (taken_s[stalled] > 0.15).all()


@pytest.mark.parametrize(
    "answer", [page("1", k=19), page("1", told="2"), page("1").replace(b"stable", b"canary")]
)
def test_another_answer_than_asked_for_is_not_right(answer: bytes) -> None:
    with serving(lambda _: answer) as url:
        records = ask(Load(url=url, rate=50, seconds=0.2), USERS)
    assert set(records["status"]) == {200}
    assert not records["is_right"].any()


def test_refusals_and_lost_connections_are_recorded() -> None:
    def refuses(body: dict[str, object]) -> bytes | None:
        is_even = int(str(body["user_id"])[1:]) % 2 == 0
        return None if is_even else page("1", status="429 Too Many Requests")

    with serving(refuses) as url:
        records = ask(Load(url=url, rate=100, seconds=0.4), USERS)
    is_even = records["user"] % 2 == 0
    assert set(records["status"][is_even]) == {NO_ANSWER}
    assert set(records["status"][~is_even]) == {429}
    assert (records["done_s"] > 0).all()


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    due_s = arrivals(50, 200, np.random.default_rng(1))
    gaps_s = np.diff(due_s)
    assert len(due_s) == pytest.approx(10_000, rel=0.05)
    assert gaps_s.std() == pytest.approx(gaps_s.mean(), rel=0.05)
    assert due_s.max() < 200


def test_users_are_drawn_alike_or_by_rank() -> None:
    rng = np.random.default_rng(1)
    alike = np.bincount(draw_users(10, 10_000, 0.0, rng), minlength=10)
    ranked = np.sort(np.bincount(draw_users(10, 10_000, 1.0, rng), minlength=10))[::-1]
    assert alike.min() > 850
    assert ranked[0] / ranked[1] == pytest.approx(2, rel=0.1)
