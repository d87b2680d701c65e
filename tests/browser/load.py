"""Visitors who ask all the time, and what became of each of their requests."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from tests.patience import SOON_S
from tests.serving.processes import ROUTE


@dataclass(frozen=True)
class Answered:
    """One request, between two moments of the monotonic clock; `problem`: why it failed."""

    began_s: float
    ended_s: float
    release: str = ""
    label: str = ""
    problem: str = ""


@contextmanager
def under_load(url: str, *, num_visitors: int = 2) -> Iterator[list[Answered]]:
    """Each asks anew once answered, until the block ends. The list grows meanwhile."""
    answered: list[Answered] = []
    is_over = threading.Event()

    def visit(visitor: int) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=SOON_S) as client:
            while not is_over.is_set():
                answered.append(_ask(client, f"visitor-{visitor}-{len(answered)}"))

    visitors = [threading.Thread(target=visit, args=(one,)) for one in range(num_visitors)]
    for one in visitors:
        one.start()
    try:
        yield answered
    finally:
        is_over.set()
        for one in visitors:
            one.join()


def _ask(client: httpx.Client, user_id: str) -> Answered:
    began_s = time.monotonic()
    try:
        response = client.post(ROUTE, json={"user_id": user_id, "k": 5})
        told = response.raise_for_status().json()
        problem = "" if len(told["items"]) == 5 else "a short list"
    except httpx.HTTPError as error:
        return Answered(began_s, time.monotonic(), problem=repr(error))
    return Answered(began_s, time.monotonic(), told["release"], told["label"], problem)
