"""How fast do indexes find what share of the true best 100? One thread, one user at a time.

    python -m benchmarks.index curve FOLDER
    python -m benchmarks.index sizes FOLDER

FOLDER holds `item_vectors.npy` and `user_vectors.npy`: those of a release, or what
`benchmarks/trained_vectors.py` makes. `curve` measures upnext's indexes and those of other
libraries, as far as they are installed. `sizes` tells from how many items on the approximate index
is faster than the exact one. Machines are busy, so all take turns: p50 is the smallest of a few
rounds' medians, p99 that of each user's fastest round, and building is told in processor seconds.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter, process_time

import faiss
import numpy as np
from benchmarks.index_rivals import RIVALS, Built, Search
from numpy.typing import NDArray

from upnext.index import ApproximateIndex, HashingIndex, Index, IndexConfig, build_index
from upnext.index.recall import recall_of
from upnext.schema import Floats, Rows

K = 100
NUM_USERS, NUM_ROUNDS = 300, 7
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
PROBES = (8, 16, 24, 32, 48, 64, 80, 100, 120, 150, 200)


@dataclass(frozen=True)
class Point:
    """One setting of one index; times in milliseconds a search."""

    name: str
    setting: str
    recall: float
    p50_ms: float
    p99_ms: float


def main() -> None:
    """Prints Markdown tables; what goes on meanwhile goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["curve", "sizes"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="names of indexes, by commas")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    items: Floats = np.load(arguments.folder / "item_vectors.npy", mmap_mode="r")
    users: Floats = np.load(arguments.folder / "user_vectors.npy")
    users = np.random.default_rng(0).permutation(users)
    asked, typical = users[:NUM_USERS], users[NUM_USERS:]
    if arguments.what == "sizes":
        _print_sizes(items, asked, typical)
    else:
        _print_curve(items, asked, typical, arguments.only.split(",") if arguments.only else [])


def _print_curve(items: Floats, asked: Floats, typical: Floats, only: Sequence[str]) -> None:
    makers: dict[str, Callable[[], Built]] = {
        "exact": lambda: _exact(items),
        "approximate": lambda: _approximate(items, typical),
        "hashing": lambda: _hashing(items),
    }
    makers |= {name: partial(make, items) for name, make in RIVALS.items()}
    built = []
    for name in only or makers:
        began = process_time()
        try:
            built.append(makers[name]())
        except ImportError as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
            continue
        print(f"{name}: {process_time() - began:.0f} s", file=sys.stderr, flush=True)
    print("| index | built in, s | beside the vectors, MB |\n|---|---|---|")
    for one in built:
        print(f"| {one.name} | {one.build_s:.0f} | {one.size_bytes / 1e6:.0f} |")
    truth, _ = build_index(items, IndexConfig(kind="exact")).search(asked, K)
    print("\n| index | setting | recall@100 | p50 ms | p99 ms |\n|---|---|---|---|---|")
    for point in _points(built, asked, truth):
        times = f"{point.p50_ms:.3f} | {point.p99_ms:.3f}"
        print(f"| {point.name} | {point.setting} | {point.recall:.3f} | {times} |")


def _points(built: Sequence[Built], asked: Floats, truth: Rows) -> list[Point]:
    """Recall and times of every setting; within a round every setting has its turn."""
    searches = [(one.name, name, search) for one in built for name, search in one.searches.items()]
    found = [np.concatenate([search(user[None]) for user in asked]) for *_, search in searches]
    times_s = np.empty((NUM_ROUNDS, len(searches), len(asked)))
    for round_times_s in times_s:
        for line, (*_, search) in zip(round_times_s, searches, strict=True):
            line[:] = _times_s(search, asked)
    p50_s = np.median(times_s, axis=2).min(axis=0)
    p99_s = np.quantile(times_s.min(axis=0), 0.99, axis=1)
    return [
        Point(name, setting, recall_of(rows, truth), 1000 * float(p50), 1000 * float(p99))
        for (name, setting, _), rows, p50, p99 in zip(searches, found, p50_s, p99_s, strict=True)
    ]


def _times_s(search: Search, asked: Floats) -> NDArray[np.float64]:
    times_s = np.empty(len(asked))
    for place in range(len(asked)):
        user = asked[place : place + 1]
        began = perf_counter()
        search(user)
        times_s[place] = perf_counter() - began
    return times_s


def _exact(items: Floats) -> Built:
    index = build_index(items, IndexConfig(kind="exact"))
    return Built("upnext exact", 0.0, 0, {"": _ours(index)})


def _approximate(items: Floats, typical: Floats) -> Built:
    began = process_time()
    index = build_index(items, IndexConfig(kind="approximate"), user_vectors=typical)
    assert isinstance(index, ApproximateIndex)
    build_s = process_time() - began
    chosen = index.facts.num_searched
    return Built(
        "upnext approximate",
        build_s,
        index.facts.size_bytes,
        {
            f"{count} of {index.facts.num_cells} cells" + ", its choice" * (count == chosen): _ours(
                replace(index, facts=replace(index.facts, num_searched=count))
            )
            for count in sorted({chosen, *PROBES})
        },
    )


def _hashing(items: Floats) -> Built:
    began = process_time()
    searches: dict[str, Search] = {}
    size_bytes = 0
    for num_bits in (256, 512):
        config = IndexConfig(kind="hashing", num_bits=num_bits, num_compared=K)
        index = build_index(items, config)
        assert isinstance(index, HashingIndex)
        size_bytes = index.facts.size_bytes
        for count in (100, 500, 2_000, 10_000):
            facts = replace(index.facts, num_searched=count)
            searches[f"{num_bits} bits, {count:,} scored"] = _ours(replace(index, facts=facts))
    return Built("upnext hashing", process_time() - began, size_bytes, searches)


def _ours(index: Index) -> Search:
    return lambda user: index.search(user, K)[0]


def _print_sizes(items: Floats, asked: Floats, typical: Floats) -> None:
    print("| items | exact, p50 ms | approximate, p50 ms | recall@100 | built in, s |")
    print("|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for num_items in (size for size in SIZES if size <= len(items)):
        drawn = items[np.sort(rng.permutation(len(items))[:num_items])]
        began = process_time()
        config = IndexConfig(kind="approximate")
        approximate = build_index(drawn, config, user_vectors=typical)
        build_s = process_time() - began
        exact = build_index(drawn, IndexConfig(kind="exact"))
        truth, _ = exact.search(asked, K)
        searches = {"exact": _ours(exact), "approximate": _ours(approximate)}
        first, second = _points([Built("", build_s, 0, searches)], asked, truth)
        times = f"{first.p50_ms:.3f} | {second.p50_ms:.3f}"
        print(f"| {num_items:,} | {times} | {second.recall:.3f} | {build_s:.1f} |", flush=True)


if __name__ == "__main__":
    main()
