"""How the benchmarks of serving move labels: the one place that knows what it takes until servers
follow.

A move is acknowledged once it is safe in the journal and the server answers by it. Until then a
request may be answered by either release; what is asked later must be answered by the new one.
"""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upnext.errors import ReleaseError
from upnext.registry.labels import move_label, rollback

LABEL = "stable"
FOLLOWED_WITHIN_S, POLLED_EVERY_S = 60.0, 0.005


@dataclass(frozen=True, kw_only=True)
class Move:
    """From when it was asked for to when it was acknowledged, on the monotonic clock."""

    began_s: float
    acknowledged_s: float
    version: int
    kind: str

    @property
    def took_s(self) -> float:
        """Seconds until the acknowledgement."""
        return self.acknowledged_s - self.began_s


def move_to(registry: Path, version: int, url: str) -> Move:
    """Moves the label and waits until the server answers by it.

    Raises: ReleaseError: the version was refused, by the registry or by the server; the label is
        then back where it was.
    """
    began_s = time.perf_counter()
    move = move_label(registry, LABEL, version)
    try:
        _await_followed(url, version)
    except ReleaseError:
        if move.from_version is not None:
            move_label(registry, LABEL, move.from_version, reason="refused by the server")
            _await_followed(url, move.from_version)
        raise
    return Move(began_s=began_s, acknowledged_s=time.perf_counter(), version=version, kind="move")


def roll_back(registry: Path, url: str) -> Move:
    """Back to the version before, in the same way."""
    began_s = time.perf_counter()
    version = rollback(registry, LABEL).to_version
    _await_followed(url, version)
    return Move(
        began_s=began_s, acknowledged_s=time.perf_counter(), version=version, kind="rollback"
    )


def readiness(url: str) -> dict[str, Any]:
    """What the server says of its labels and problems."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
            told: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        told = json.load(error)
    return told


def _await_followed(url: str, version: int) -> None:
    deadline_s = time.perf_counter() + FOLLOWED_WITHIN_S
    while time.perf_counter() < deadline_s:
        told = readiness(url)
        if told["labels"].get(LABEL) == version and LABEL not in told["problems"]:
            return
        problem = told["problems"].get(LABEL, "")
        if f"version {version}:" in problem:
            raise ReleaseError(LABEL, expected=f"version {version} to load", got=problem)
        time.sleep(POLLED_EVERY_S)
    raise ReleaseError(LABEL, expected=f"version {version} to be followed", got="a timeout")
