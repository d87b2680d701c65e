"""Does a console that is open slow a server's requests down?

    python -m benchmarks.console_beside REGISTRY [--rate 40] [--rounds 4] [--seconds 20]

REGISTRY is one of `million_release`. A server of two processes is asked at one rate all the time,
in an open loop. In every other window a console runs beside it, watches it, and has its home and
its traffic page asked for every five seconds each, as an open tab does. Windows alternate, so that
what else the machine does meets both. A browser would draw on another machine, and is left out.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
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
from numpy.typing import NDArray

Windows = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Latencies in ms without a console and with it."""

RENEWED_EVERY_S = 5.0
SETTLES_S = 2.0


def main() -> None:
    """Prints quantiles of both kinds of windows, and their ratios by round."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("registry", type=Path)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        registry = linked_registry(given.registry, Path(name), [1])
        users = write_users(registry, 1, Path(name) / "users.txt", most=100_000)
        port, managed = free_port(), free_port()
        options = ["--processes", "2", "--admin-port", str(managed)]
        with running(upnext_command(registry, port, options), port) as served:
            load = Load(url=served.url, rate=given.rate, seconds=given.seconds, unlogged=True)
            rounds = [_round(served, managed, load, users) for _ in range(given.rounds)]
    _tell(rounds)


def _tell(rounds: Sequence[Windows]) -> None:
    print("| round | without, p50 and p99 ms | with, p50 and p99 ms | p99 with / without |")
    print("|---|---|---|---|")
    for place, pair in enumerate(rounds):
        both = [np.quantile(latencies_ms, (0.5, 0.99)) for latencies_ms in pair]
        told = " | ".join(f"{p50:.1f}, {p99:.1f}" for p50, p99 in both)
        print(f"| {place + 1} | {told} | {both[1][1] / both[0][1]:.2f} |")
    without, beside = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
    for share in (0.5, 0.99):
        first, second = np.quantile(without, share), np.quantile(beside, share)
        ratio = second / first
        print(f"p{100 * share:g} of all: {first:.1f} and {second:.1f} ms, {ratio:.2f} times")


def _round(served: Served, managed: int, load: Load, users: Path) -> Windows:
    """Latencies in ms of one window without a console and of one with it."""
    without = _latencies_ms(load, users)
    port = free_port()
    command = [sys.executable, "-m", "upnext", "console", "--server", served.url]
    command += ["--managed", f"http://127.0.0.1:{managed}", "--port", str(port)]
    console = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    ends = threading.Event()
    tab = threading.Thread(target=_renew, args=(f"http://127.0.0.1:{port}", ends))
    tab.start()
    time.sleep(SETTLES_S)
    beside = _latencies_ms(load, users)
    ends.set()
    tab.join()
    console.terminate()
    console.wait()
    return without, beside


def _latencies_ms(load: Load, users: Path) -> NDArray[np.float64]:
    records = RunningLoad(load, users).records()
    wrong = int((~records["is_right"]).sum())
    if wrong:
        print(f"{wrong} of {len(records)} requests were not answered as asked")
    latencies: NDArray[np.float64] = 1e3 * (records["done_s"] - records["scheduled_s"])
    kept: NDArray[np.float64] = latencies[records["is_right"]]
    return kept


def _renew(url: str, ends: threading.Event) -> None:
    """What an open tab of each of two pages does; a console that starts is waited for."""
    while not ends.wait(RENEWED_EVERY_S):
        for path in ("/", "/traffic"):
            try:
                with urllib.request.urlopen(url + path, timeout=30) as page:
                    page.read()
            except urllib.error.URLError:
                continue


if __name__ == "__main__":
    main()
