"""Logs of 100 million watches: made, prepared, and learned from, on one machine.

    python benchmarks/scale.py DIRECTORY                   # make, prepare, train twice
    python benchmarks/scale.py DIRECTORY --step prepare    # one of these
    python benchmarks/scale.py DIRECTORY --num-watches 2000000 --num-users 100000 --num-items 100000

`make` writes Parquet, five million watches a file. `prepare` checks and sorts them. `train` learns
64-d vectors of the 100,000 most watched items, then of a million, and stops after `--seconds`. Each
is a process of its own. It tells its wall and CPU time and the peak of its memory, mapped files
included. What is there already is not made again.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

WATCHES_PER_FILE = 5_000_000
FIRST_MS, LAST_MS = 1_780_000_000_000, 1_785_184_000_000
"""Sixty days of 2026."""
BAD_SHARE = 1e-4
"""Of all watches, those with a negative watch time, and as many that are repeated."""
WARM_UP_S = 20.0
"""Seconds of training before those that count."""


def main() -> None:
    """Prints a line of JSON for each step; progress goes to stderr."""
    # Threads that spin while they wait take the core from those that work; read at torch's import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--step", choices=("make", "prepare", "train"))
    parser.add_argument("--num-watches", type=int, default=100_000_000)
    parser.add_argument("--num-users", type=int, default=5_000_000)
    parser.add_argument("--num-items", type=int, default=1_000_000)
    parser.add_argument("--max-items", type=int, default=1_000_000, help="kept by `train`")
    parser.add_argument("--seconds", type=float, default=120.0, help="that `train` learns")
    arguments = parser.parse_args()
    if arguments.step is None:
        few_items = ["train", "--max-items", "100000"]
        for step in (["make"], ["prepare"], few_items, ["train"]):
            subprocess.run([sys.executable, *sys.argv, "--step", *step], check=True)
        return
    steps: dict[str, Callable[[argparse.Namespace], dict[str, float]]]
    steps = {"make": make_logs, "prepare": prepare_logs, "train": train_some}
    began = time.perf_counter()
    facts = steps[arguments.step](arguments)
    wall_s, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    told = {
        "step": arguments.step,
        **facts,
        "wall_s": round(wall_s, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_gib": round(used.ru_maxrss / 2**20, 2),
    }
    print(json.dumps(told), flush=True)


def make_logs(arguments: argparse.Namespace) -> dict[str, float]:
    """Writes watches in order of time. Items are popular as 1 / rank; few users watch much."""
    folder = arguments.directory / "logs" / "watches"
    folder.mkdir(parents=True, exist_ok=True)
    num_files = -(-arguments.num_watches // WATCHES_PER_FILE)
    edges_ms = np.linspace(FIRST_MS, LAST_MS, num_files + 1).astype(np.int64)
    for number in range(num_files):
        path = folder / f"{number:04}.parquet"
        if not path.exists():
            length = min(WATCHES_PER_FILE, arguments.num_watches - number * WATCHES_PER_FILE)
            generator = np.random.default_rng((7, number))
            frame = _watches(length, edges_ms[number : number + 2], arguments, generator)
            frame.write_parquet(path.with_name(f"_{path.name}"))
            path.with_name(f"_{path.name}").rename(path)
            _say(f"wrote {path}")
    return {"bytes": sum(path.stat().st_size for path in folder.iterdir())}


def prepare_logs(arguments: argparse.Namespace) -> dict[str, float]:
    """Checks and sorts the logs."""
    from upnext.examples.prepared import open_prepared
    from upnext.pipeline.prepare import prepare

    prepared = arguments.directory / "prepared"
    if not prepared.exists():
        prepare(arguments.directory / "logs", prepared, now_ms=LAST_MS, say=_say)
    logs = open_prepared(prepared)
    return {"num_watches": len(logs.places), "num_users": len(logs.users.ids)}


class _EnoughError(Exception):
    """The time for learning is over."""


def train_some(arguments: argparse.Namespace) -> dict[str, float]:
    """Learns from the prepared watches for a while; examples a second after warming up."""
    from upnext.examples.encoder import ExamplesConfig
    from upnext.examples.prepared import open_prepared
    from upnext.retrieval.config import RetrievalConfig
    from upnext.retrieval.train import train_retrieval
    from upnext.training.logbook import Logbook, Progress

    logs = open_prepared(arguments.directory / "prepared")
    began = time.perf_counter()
    encoder = logs.encoder(logs.everything, ExamplesConfig(max_items=arguments.max_items))
    history = logs.history(encoder, logs.everything)
    encoded_s = time.perf_counter() - began
    told: list[tuple[float, float, int]] = []

    def on_progress(progress: Progress) -> None:
        told.append((time.perf_counter(), time.process_time(), progress.step))
        _say(progress.to_text())
        if told[-1][0] - told[0][0] >= WARM_UP_S + arguments.seconds:
            raise _EnoughError

    config = RetrievalConfig(num_epochs=1)
    with contextlib.suppress(_EnoughError):
        train_retrieval(encoder, history, None, config, logbook=Logbook(on_progress=on_progress))
    warm = np.array([line for line in told if line[0] - told[0][0] >= WARM_UP_S])
    wall_s, cpu_s, num_steps = warm[-1] - warm[0]
    num_examples = num_steps * config.batch_size
    return {
        "num_items": len(encoder.catalogue.items.ids),
        "num_watches": len(history.watches.rows),
        "encoded_s": round(encoded_s, 1),
        "until_first_report_s": round(told[0][0] - began - encoded_s, 1),
        "examples_per_s": round(num_examples / wall_s),
        "examples_per_cpu_s": round(num_examples / cpu_s),
        "s_per_10m_examples": round(1e7 * wall_s / num_examples),
    }


def _watches(
    length: int,
    edges_ms: np.ndarray,
    arguments: argparse.Namespace,
    generator: np.random.Generator,
) -> pl.DataFrame:
    first_ms, end_ms = edges_ms.tolist()
    users = arguments.num_users * generator.random(length) ** 2
    items = arguments.num_items ** generator.random(length)
    seconds = generator.exponential(120.0, length)
    seconds[generator.random(length) < BAD_SHARE] = -1.0
    frame = pl.DataFrame(
        {
            "user_id": _ids("u", users.astype(np.int64), arguments.num_users),
            "item_id": _ids("i", items.astype(np.int64), arguments.num_items),
            "started_at_ms": np.sort(generator.integers(first_ms, end_ms, length)),
            "watch_time_s": np.minimum(seconds, 80_000.0).astype(np.float32),
        }
    )
    repeats = generator.choice(length, round(BAD_SHARE * length), replace=False)
    return pl.concat([frame, frame[repeats]]).sort("started_at_ms", maintain_order=True)


def _ids(letter: str, numbers: np.ndarray, count: int) -> pl.Series:
    """Ids whose order says nothing of how often they occur."""
    scattered = pl.Series(numbers * 7_368_787 % count)  # a prime, so every number has its own
    return letter + scattered.cast(pl.String).str.zfill(7)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
