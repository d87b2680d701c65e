"""What becomes of a server that is asked three times as much as it can answer?

    python -m benchmarks.serving_overload REGISTRY [--peak 120] [--seconds 60]

REGISTRY is one of `million_release`. The peak is the highest goodput, right answers within a limit,
that any rate brings (without --peak, a rate, it is looked for). Then three times as many requests a
second for a minute, while a few probes a second ask before, during and after. Told are the goodput
during overload as a share of the peak's, how fast refusals are, and how long after the end of the
overload the last probe was still slow or refused. A server that refuses in time keeps its goodput;
one that lets all wait loses it, since all come late.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.load_report import Records, latencies_ms
from benchmarks.open_loop import Load
from benchmarks.serving_processes import (
    RunningLoad,
    Served,
    free_port,
    linked_registry,
    running,
    upnext_command,
    write_users,
)

WARM_UP_S, PEAK_S, BEFORE_S, AFTER_S = 3.0, 12.0, 5.0, 30.0
OVERLOAD, PROBES_PER_S, FIRST_RATE = 3.0, 5.0, 40.0
GOOD_WITHIN_MS = 250.0
"""Goodput counts what came within so long, a server's usual deadline, and says of itself that it is
whole: an overloaded server's queue may be used, and its answers of last resort do not count."""
SLOW_MS = 100.0
"""A probe that took longer is not yet served as in peace."""
REFUSED = 429


def main() -> None:
    """Prints JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("registry", type=Path)
    parser.add_argument("--peak", type=float, help="the rate with the highest goodput")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--good-within-ms", type=float, default=GOOD_WITHIN_MS)
    parser.add_argument("--serve-options", default="", help="more for `upnext serve`, in one")
    arguments = parser.parse_args()
    port, within_ms = free_port(), arguments.good_within_ms
    with tempfile.TemporaryDirectory(dir=arguments.registry.parent) as folder:
        registry = linked_registry(arguments.registry, Path(folder), [1])
        users = write_users(registry, 1, Path(folder) / "users.txt")
        command = upnext_command(registry, port, shlex.split(arguments.serve_options))
        with running(command, port) as server:
            rates = [arguments.peak] if arguments.peak else None
            peak, goodput = peak_of(server, users, rates, within_ms)
            told = overloaded(
                server, users, peak=goodput, seconds=arguments.seconds, within_ms=within_ms
            )
    share = round(float(str(told["goodput"])) / goodput, 3)
    found: dict[str, object] = {"peak_rate": peak, "peak_goodput": goodput, "share": share}
    print(json.dumps(found | told, indent=2))


def peak_of(
    server: Served, users: Path, rates: list[float] | None, within_ms: float
) -> tuple[float, float]:
    """The rate with the highest goodput, and that goodput; a quarter more each time if not told."""
    best_rate, best = 0.0, 0.0
    rate = rates[0] if rates else FIRST_RATE
    while True:
        load = Load(url=server.url, rate=rate, seconds=PEAK_S + WARM_UP_S)
        records = RunningLoad(load, users).records()
        goodput = goodput_of(records, WARM_UP_S, within_ms)
        print(f"{rate:.0f}/s: {goodput:.1f}/s good", file=sys.stderr, flush=True)
        if goodput <= best:
            return best_rate, best
        best_rate, best = rate, goodput
        if rates:
            return best_rate, best
        rate *= 1.25


def overloaded(
    server: Served, users: Path, *, peak: float, seconds: float, within_ms: float
) -> dict[str, object]:
    """One overload, of three times the peak's goodput, and the probes around it."""
    probing = RunningLoad(Load(url=server.url, rate=PROBES_PER_S, seconds=7_200, seed=2), users)
    time.sleep(BEFORE_S)
    records = RunningLoad(
        Load(url=server.url, rate=OVERLOAD * peak, seconds=seconds, seed=1), users
    ).records()
    time.sleep(AFTER_S)
    probing.stop()
    ended_s = float(records["scheduled_s"].max())
    refusals_ms = latencies_ms(records[records["status"] == REFUSED])
    answered_ms = latencies_ms(records[records["status"] == 200])
    names, counts = np.unique(records["status"], return_counts=True)
    return {
        "offered_rate": round(OVERLOAD * peak, 1),
        "goodput": round(goodput_of(records, WARM_UP_S, within_ms), 2),
        "num_degraded": int(records["is_degraded"].sum()),
        "statuses": dict(zip(map(str, names.tolist()), counts.tolist(), strict=True)),
        "answered_ms": _spread(answered_ms),
        "refused_ms": _spread(refusals_ms),
        "recovered_after_s": recovery_s(probing.records(), ended_s),
        "memory_mib": round(server.memory_mib(), 1),
    }


def goodput_of(records: Records, warm_up_s: float, within_ms: float) -> float:
    """Whole, right answers within the limit, by the second in which requests were due."""
    first_s = records["scheduled_s"].min() + warm_up_s
    kept = records[records["scheduled_s"] >= first_s]
    is_good = kept["is_right"] & ~kept["is_degraded"] & (latencies_ms(kept) <= within_ms)
    return float(is_good.sum() / max(kept["scheduled_s"].max() - first_s, 1e-9))


def recovery_s(probes: Records, ended_s: float) -> float:
    """Seconds from the end of the overload to the last probe that was refused or slow; 0: none."""
    after = probes[probes["scheduled_s"] > ended_s]
    is_bad = (after["status"] != 200) | (latencies_ms(after) > SLOW_MS)
    return round(float((after["scheduled_s"][is_bad] - ended_s).max(initial=0.0)), 3)


def _spread(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    if not len(values):
        return {}
    shares = {"p50": 0.5, "p99": 0.99, "most": 1.0}
    return {name: round(float(np.quantile(values, at)), 2) for name, at in shares.items()}


if __name__ == "__main__":
    main()
