"""What a run of `open_loop` says: rates, latencies, errors; and the highest rate that is borne.

Latency counts from when a request was due, not from when it was sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Records = NDArray[Any]
"""One line a request, of the type `open_loop.RECORD`."""

LIMIT_MS = 30.0
"""The 99th percentile that a server is asked to keep."""
KEPT_UP = 0.97
"""Share of the offered rate that must have been answered rightly within the run."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One run, its warm-up left out; milliseconds, and requests a second."""

    offered_rate: float
    answered_rate: float
    good_rate: float
    """Right answers within the limit, by the second: the goodput."""
    num_requests: int
    num_wrong: int
    """Answers with status 200 that are not what was asked for."""
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    late_ms: float
    """By how much the generator itself was late, 99th percentile."""
    statuses: Mapping[str, int] = field(default_factory=dict)
    releases: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_borne(self) -> bool:
        """Whether the server kept up: no errors, p99 within the limit."""
        return (
            self.p99_ms <= LIMIT_MS
            and not self.num_wrong
            and set(self.statuses) <= {"200"}
            and self.answered_rate >= KEPT_UP * self.offered_rate
        )

    def to_text(self) -> str:
        """One line."""
        statuses = ", ".join(f"{count:,} × {status}" for status, count in self.statuses.items())
        return (
            f"{self.offered_rate:6.1f}/s offered, {self.answered_rate:6.1f}/s answered: "
            f"p50 {self.p50_ms:.1f}, p90 {self.p90_ms:.1f}, p99 {self.p99_ms:.1f}, "
            f"p99.9 {self.p999_ms:.1f} ms; {statuses}; wrong {self.num_wrong}"
        )


def summary_of(records: Records, *, warm_up_s: float = 0.0, limit_ms: float = LIMIT_MS) -> Summary:
    """Of all requests that were due after the warm-up; those without an answer count by the time
    at which they were given up.
    """
    if len(records):
        records = records[records["scheduled_s"] >= records["scheduled_s"].min() + warm_up_s]
    if not len(records):
        raise ValueError("records: expected some requests after the warm-up, got none")
    due_s = records["scheduled_s"]
    lasted_s = max(float(due_s.max() - due_s.min()), 1e-9)
    is_answered = records["status"] == 200
    took_ms = latencies_ms(records)
    p50, p90, p99, p999 = np.quantile(took_ms, [0.5, 0.9, 0.99, 0.999]).tolist()
    is_good = records["is_right"] & (took_ms <= limit_ms)
    # Who is answered after the last request was due shows that the server fell behind.
    in_time = is_answered & (records["done_s"] <= due_s.max() + limit_ms / 1e3)
    return Summary(
        offered_rate=len(records) / lasted_s,
        answered_rate=float(in_time.sum()) / lasted_s,
        good_rate=float(is_good.sum()) / lasted_s,
        num_requests=len(records),
        num_wrong=int((is_answered & ~records["is_right"]).sum()),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        p999_ms=p999,
        late_ms=1e3 * float(np.quantile(records["sent_s"] - due_s, 0.99)),
        statuses=_counts(records["status"]),
        releases=_counts(records["release"][is_answered]),
    )


def latencies_ms(records: Records) -> NDArray[np.float64]:
    """[n] from when each was due until its answer was there, or it was given up."""
    taken: NDArray[np.float64] = 1e3 * (records["done_s"] - records["scheduled_s"])
    return taken


def highest_rate(
    is_borne: Callable[[float], bool], *, start: float, precision: float = 0.03
) -> float:
    """The highest rate that is borne: doubled or halved from `start`, then bisected.

    `precision`: how far apart, as a share, what is borne and what is not may stand in the end. 0
    where nothing above a 64th of the start is borne.

    >>> round(highest_rate(lambda rate: rate <= 77, start=20, precision=0.01), 1)
    76.7
    """
    low, high = 0.0, start
    if is_borne(start):
        low, high = start, 2 * start
        while is_borne(high):
            low, high = high, 2 * high
    else:
        low = start / 2
        while not is_borne(low):
            low, high = low / 2, low
            if low < start / 64:
                return 0.0
    while high > low * (1 + precision):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if is_borne(middle) else (low, middle)
    return low


def _counts(values: NDArray[Any]) -> dict[str, int]:
    names, counts = np.unique(values, return_counts=True)
    return dict(zip(map(str, names.tolist()), counts.tolist(), strict=True))
