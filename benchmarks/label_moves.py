"""How the benchmarks of serving move labels, and when a move counts as acknowledged.

On return of a move every living server answers by it: what is asked later is answered by the new
release. Until then a request may be answered by either.
"""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upnext.registry.moves import move_label, rollback

LABEL = "stable"


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


def move_to(registry: Path, version: int) -> Move:
    """Moves the label. Raises ReleaseError: the version was refused; the label stays."""
    began_s = time.perf_counter()
    version = move_label(registry, LABEL, version).move.to_version
    return _acknowledged(began_s, version, "move")


def roll_back(registry: Path) -> Move:
    """Back to the version before."""
    began_s = time.perf_counter()
    version = rollback(registry, LABEL).move.to_version
    return _acknowledged(began_s, version, "rollback")


def readiness(url: str) -> dict[str, Any]:
    """What the server says of its labels and problems."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
            told: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        told = json.load(error)
    return told


def _acknowledged(began_s: float, version: int, kind: str) -> Move:
    now_s = time.perf_counter()
    return Move(began_s=began_s, acknowledged_s=now_s, version=version, kind=kind)
