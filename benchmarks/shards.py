"""What do shards, and workers, cost and bring?

    python -m benchmarks.shards search [--items N]
    python -m benchmarks.shards recall [--items N]
    python -m benchmarks.shards evaluate LOGS REGISTRY

`search`: an exact search of one process, of threads over shards, and of Ray workers that keep a
shard each, one user and 32 at a time; and what merging takes. `recall`: approximate shards beside
the whole. `evaluate`: one process beside 1 and 2 workers of a cluster that is started for each.
Machines are busy, so all take turns; times are medians, ratios those of the same round.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from threadpoolctl import threadpool_limits

from upnext.best import Found
from upnext.cluster.evaluating import evaluate_apart
from upnext.cluster.indexing import ShardsApart
from upnext.cluster.start import connected
from upnext.index import ExactIndex, IndexConfig, build_index
from upnext.index.recall import recall_of
from upnext.index.shards import merged
from upnext.pipeline.evaluate import evaluate
from upnext.schema import Floats

K, D = 300, 64
NUM_ROUNDS = 15
NUM_SHARDS = (2, 4)
Work = Callable[[], object]


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    whats = parser.add_subparsers(dest="what", required=True)
    for name in ("search", "recall"):
        whats.add_parser(name).add_argument("--items", type=int, default=1_000_000)
    measured = whats.add_parser("evaluate")
    measured.add_argument("logs", type=Path)
    measured.add_argument("registry", type=Path)
    arguments = parser.parse_args()
    match arguments.what:
        case "search":
            _search(arguments.items)
        case "recall":
            _recall(arguments.items)
        case _:
            _evaluate(arguments.logs, arguments.registry)


def _search(num_items: int) -> None:
    rng = np.random.default_rng(0)
    items: Floats = rng.standard_normal((num_items, D)).astype(np.float32)
    users: Floats = rng.standard_normal((32, D)).astype(np.float32)
    with tempfile.TemporaryDirectory() as directory, connected("local", num_cpus=sum(NUM_SHARDS)):
        path = Path(directory) / "items.npy"
        np.save(path, items)
        whole = build_index(items, IndexConfig(kind="exact"))
        searches: dict[str, Callable[[Floats], Found]] = {
            "one index": lambda asked: whole.search(asked, K)
        }
        for num_shards in NUM_SHARDS:
            sharded = build_index(items, IndexConfig(kind="exact", num_shards=num_shards))
            saved = Path(directory) / str(num_shards)
            sharded.save(saved)
            apart = ShardsApart.open(path, saved)
            searches[f"{num_shards} shards, threads"] = lambda u, one=sharded: one.search(u, K)  # type: ignore[misc]
            searches[f"{num_shards} shards, workers"] = lambda u, one=apart: one.search(u, K)  # type: ignore[misc]
        found = [whole.search(users, K)] * max(NUM_SHARDS)
        for asked in (users[:1], users):
            work: dict[str, Work] = {
                name: (lambda search=search, asked=asked: search(asked))  # type: ignore[misc]
                for name, search in searches.items()
            }
            part = [(rows[: len(asked)], scores[: len(asked)]) for rows, scores in found]
            work |= {
                f"merging {num_shards}": (
                    lambda part=part, num_shards=num_shards: merged(part[:num_shards], K)  # type: ignore[misc]
                )
                for num_shards in NUM_SHARDS
            }
            _print(f"{num_items:,} items, {len(asked)} users", work)


def _recall(num_items: int) -> None:
    """Of items around some centres, as learned vectors are; users look their way."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((500, D))
    drawn = centres[rng.integers(0, 500, num_items)]
    items: Floats = (drawn + 0.7 * rng.standard_normal(drawn.shape)).astype(np.float32)
    looks = centres[rng.integers(0, 500, 2_000)]
    users: Floats = (looks + rng.standard_normal(looks.shape)).astype(np.float32)
    asked, typical = users[:300], users[300:]
    truth, _ = ExactIndex.build(items).search(asked, 100)
    work: dict[str, Work] = {}
    print("| shards | cells opened, of | recall@100, built to find .95 | built in, s |")
    print("|---|---|---|---|")
    for num_shards in (1, *NUM_SHARDS):
        config = IndexConfig(kind="approximate", num_shards=num_shards)
        index = build_index(items, config, user_vectors=typical)
        recall = recall_of(index.search(asked, 100)[0], truth)
        facts = index.facts
        opened = f"{facts.num_searched} of {facts.num_cells}"
        print(f"| {num_shards} | {opened} | {recall:.3f} | {facts.build_s:.1f} |", flush=True)
        work[f"{num_shards} shards"] = (
            lambda one=index: [  # type: ignore[misc]
                one.search(user[None], 100) for user in asked[:50]
            ]
        )
    _print("50 searches, one after another", work)


def _evaluate(logs: Path, registry: Path) -> None:
    reports = set[str]()

    def alone() -> None:
        reports.add(json.dumps(evaluate(logs, registry, 1).to_table()))

    def apart(num_workers: int) -> None:
        with connected("local", num_cpus=2):
            report = evaluate_apart(logs, registry, 1, num_workers=num_workers)
        reports.add(json.dumps(report.to_table()))

    work: dict[str, Work] = {
        "one process": alone,
        "1 worker": lambda: apart(1),
        "2 workers": lambda: apart(2),
    }
    _print("evaluation", work, num_rounds=2)
    print(f"\nreports that differ: {len(reports) - 1}")


def _print(title: str, work: Mapping[str, Work], *, num_rounds: int = NUM_ROUNDS) -> None:
    """Times of each, and how many times as fast as the first in the same round."""
    for one in work.values():
        if num_rounds == NUM_ROUNDS:
            one()
    times_s = np.array([_round(list(work.values())) for _ in range(num_rounds)])
    print(f"\n| {title} | median, ms | as fast as the first |\n|---|---|---|")
    for name, one_s in zip(work, times_s.T, strict=True):
        ratio = np.median(times_s[:, 0] / one_s)
        print(f"| {name} | {1000 * np.median(one_s):,.2f} | × {ratio:.2f} |", flush=True)


def _round(work: Sequence[Work]) -> list[float]:
    times_s = []
    with threadpool_limits(1):
        for one in work:
            began = perf_counter()
            one()
            times_s.append(perf_counter() - began)
    return times_s


if __name__ == "__main__":
    main()
