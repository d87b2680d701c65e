"""How fast do counted sources nominate, and what do they add to the candidates of retrieval?

    python -m benchmarks.candidate_sources times
    python -m benchmarks.candidate_sources worth LOGS REGISTRY VERSION --segment region

`times` makes up a catalogue whose watches follow Zipf's law and asks for one request after the
other; machines are busy, so a time is the smallest of a few rounds' medians. `worth` fits the
sources on what a release was trained on and asks on the day after it: which share of the first
watches do the candidates hold, of all items and of those not older than three days? On simulated
logs it also tells the true value of the best page among the candidates, in seconds a slot.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.examples.impressions import build_impression_examples
from upnext.examples.watches import WatchTargets
from upnext.pipeline.measuring.baselines import SLOTS
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.oracle import Oracle
from upnext.pipeline.measuring.policies import PAGE_SIZE
from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, UNKNOWN_ROW, Logs, Rows
from upnext.sources import (
    NOMINATORS,
    SOURCES,
    Events,
    Moments,
    Shown,
    Sources,
    SourcesConfig,
    fit_sources,
)
from upnext.sources.blend import Nominator

NUM_ITEMS, NUM_USERS, NUM_WATCHES, NUM_SEGMENTS = 100_000, 50_000, 1_000_000, 20
END_MS = 100 * MS_PER_DAY
NUM_REQUESTS, NUM_ROUNDS = 200, 5
NUM_FOUND, NUMS_MORE_FOUND, NUM_EXCLUDED = 300, (400, 500), 100

FRESH_DAYS = 3.0
NUM_MOMENTS, BATCH_SIZE = 2_000, 256


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("times")
    worth = verbs.add_parser("worth")
    worth.add_argument("logs", type=Path)
    worth.add_argument("registry", type=Path)
    worth.add_argument("version", type=int)
    worth.add_argument("--segment", help="a user feature that the release was trained with")
    given = parser.parse_args()
    if given.verb == "times":
        print_times()
    else:
        bench = Bench.prepare(given.logs, given.registry, given.version)
        print_worth(bench, given.logs, given.segment)


def print_times() -> None:
    rng = np.random.default_rng(7)
    began = perf_counter()
    sources = fit_sources(made_up_events(rng), SourcesConfig())
    print(
        f"{NUM_ITEMS:,} items, {NUM_WATCHES:,} watches: counted in {perf_counter() - began:.1f} s"
    )
    moments = Moments(
        zipf_rows(rng, (NUM_REQUESTS, SLOTS)),
        rng.integers(NUM_RESERVED_ROWS, NUM_SEGMENTS + 2, NUM_REQUESTS).astype(np.int32),
        rng.integers(END_MS, END_MS + MS_PER_DAY, NUM_REQUESTS),
    )
    found = zipf_rows(rng, (NUM_REQUESTS, NUM_FOUND))
    excluded = zipf_rows(rng, (NUM_REQUESTS, NUM_EXCLUDED))
    print("\n| one request | p50 ms |\n|---|---|")
    for name, ask in questions(sources, moments, found, excluded).items():
        print(f"| {name} | {p50_ms(ask):.3f} |")


def made_up_events(rng: np.random.Generator) -> Events:
    user_rows = rng.integers(NUM_RESERVED_ROWS, NUM_USERS, NUM_WATCHES)
    return Events(
        user_rows=user_rows,
        item_rows=zipf_rows(rng, NUM_WATCHES),
        at_ms=rng.integers(0, END_MS, NUM_WATCHES),
        segment_rows=(user_rows % NUM_SEGMENTS + NUM_RESERVED_ROWS).astype(np.int32),
        published_at_ms=rng.integers(0, END_MS, NUM_ITEMS + NUM_RESERVED_ROWS),
        shown=Shown(
            zipf_rows(rng, NUM_WATCHES),
            rng.integers(0, END_MS, NUM_WATCHES),
            rng.random(NUM_WATCHES) < 0.1,
        ),
    )


def zipf_rows(rng: np.random.Generator, shape: int | tuple[int, ...]) -> Rows:
    """Item rows, the r-th item drawn at a rate of about 1 / r."""
    return (NUM_ITEMS ** rng.random(shape) + 1).astype(np.int32)


def questions(
    sources: Sources, moments: Moments, found: Rows, excluded: Rows
) -> dict[str, Callable[[int], object]]:
    """What may be asked for one request; 100 candidates of each source."""
    together, popular, fresh = sources.together, sources.popular, sources.fresh
    assert together is not None
    assert popular is not None
    assert fresh is not None
    histories, segments, at_ms = moments.history_rows, moments.segment_rows, moments.at_ms
    left_out = [list(excluded[b : b + 1]) for b in range(len(excluded))]
    first = np.zeros(NUM_FOUND, np.int64)
    return {
        "together, 100": lambda b: together.candidates(
            histories[b : b + 1], 100, excluded_rows=left_out[b]
        ),
        "popular, 100": lambda b: popular.candidates(
            segments[b : b + 1], 100, excluded_rows=left_out[b]
        ),
        "fresh, 100": lambda b: fresh.candidates(at_ms[b : b + 1], 100, excluded_rows=left_out[b]),
        f"all three, and the union with {NUM_FOUND} found": lambda b: sources.nominate(
            part_of(moments, slice(b, b + 1)),
            found_rows=found[b : b + 1],
            excluded_rows=left_out[b],
        ),
        f"scores of {NUM_FOUND} candidates": lambda b: sources.scores(
            part_of(moments, slice(b, b + 1)), found[b], first
        ),
    }


def part_of(moments: Moments, part: slice) -> Moments:
    return Moments(moments.history_rows[part], moments.segment_rows[part], moments.at_ms[part])


def p50_ms(ask: Callable[[int], object]) -> float:
    times_s = np.empty((NUM_ROUNDS, NUM_REQUESTS))
    for round_times_s in times_s:
        for request in range(NUM_REQUESTS):
            began = perf_counter()
            ask(request)
            round_times_s[request] = perf_counter() - began
    return 1000 * float(np.median(times_s, axis=1).min())


@dataclass(frozen=True)
class Contest:
    """A release and the sources that were fitted on the logs it was trained on."""

    bench: Bench
    sources: Sources
    segment: str | None

    @classmethod
    def of(cls, bench: Bench, segment: str | None) -> "Contest":
        """With the sources' default settings."""
        events = events_of(bench, segment)
        return cls(bench, fit_sources(events, SourcesConfig(segment=segment)), segment)

    def pools(self, part: WatchTargets) -> dict[str, Rows]:
        """[B, K] rows by the name of who proposes them, -1 pads."""
        retriever = self.bench.recommender.retriever
        starts, seen = part.watched_before()
        excluded = list(np.split(seen, starts[1:-1]))
        vectors = retriever.user_vectors(part.history, part.user_rows, part.at_ms)
        near, _ = retriever.nearest(vectors, NUMS_MORE_FOUND[-1], excluded)
        union = self.sources.nominate(
            Moments(
                part.history_rows(SLOTS),
                segment_rows_of(self.bench, part.user_rows, self.segment),
                part.at_ms,
            ),
            found_rows=near[:, :NUM_FOUND],
            excluded_rows=excluded,
        )

        def nominated_by(*names: Nominator) -> Rows:
            columns = [NOMINATORS.index(name) for name in names]
            return np.where(union.nominated_by[:, :, columns].any(axis=2), union.item_rows, -1)

        first = f"retrieval, {NUM_FOUND}"
        return {
            first: nominated_by("retrieval"),
            **{name: nominated_by(name) for name in SOURCES},
            **{f"{first}, and {name}": nominated_by("retrieval", name) for name in SOURCES},
            f"{first}, and all three": union.item_rows,
            **{f"retrieval, {count}": near[:, :count] for count in NUMS_MORE_FOUND},
        }


def events_of(bench: Bench, segment: str | None) -> Events:
    """What the release was trained on, in rows of its vocabularies."""
    items, watches = bench.recommender.encoder.catalogue.items, bench.fitted_on.watches.frame
    user_rows = bench.users.rows(watches["user_id"])
    shown = bench.fitted_on.impressions
    return Events(
        user_rows=user_rows,
        item_rows=items.rows(watches["item_id"]),
        at_ms=watches["started_at_ms"].to_numpy(),
        segment_rows=segment_rows_of(bench, user_rows, segment),
        published_at_ms=bench.recommender.encoder.catalogue.published_at_ms,
        shown=None
        if shown is None
        else Shown(
            items.rows(shown.frame["item_id"]),
            shown.frame["shown_at_ms"].to_numpy(),
            shown.frame["watched"].to_numpy(),
        ),
    )


def segment_rows_of(bench: Bench, user_rows: NDArray[Any], segment: str | None) -> Rows:
    if segment is None:
        return np.zeros(len(user_rows), np.int32)
    column = list(bench.recommender.encoder.user_features).index(segment)
    rows: Rows = bench.history.feature_rows[user_rows, column]
    return rows


def print_worth(bench: Bench, logs_directory: Path, segment: str | None) -> None:
    """The day after training: that of validation, or of the test where validation was learned."""
    contest = Contest.of(bench, segment)
    day, targets = bench.split.validation, bench.validation
    if bench.config.refit:
        day, targets = bench.split.test, bench.targets
    sizes, is_held = what_is_held(contest, targets)
    values_s = best_pages_s(contest, logs_directory, day)
    published_ms = bench.recommender.encoder.catalogue.published_at_ms[targets.item_rows]
    is_fresh = targets.at_ms - published_ms < FRESH_DAYS * MS_PER_DAY
    is_fresh &= targets.item_rows > UNKNOWN_ROW
    print(f"{len(targets):,} watches, {is_fresh.sum():,} of them of fresh items.\n")
    print("| candidates | a request | of all watches | of fresh items' | best page, s a slot |")
    print("|---|---|---|---|---|")
    for name, held in is_held.items():
        shares = f"{held.mean():.3f} | {held[is_fresh].mean():.3f}"
        print(f"| {name} | {sizes[name]:.0f} | {shares} | {values_s.get(name, np.nan):.1f} |")


def what_is_held(
    contest: Contest, targets: WatchTargets
) -> tuple[dict[str, float], dict[str, NDArray[np.bool_]]]:
    """By pool: candidates a request, and whether each target is among them."""
    sizes, held = defaultdict[str, float](float), defaultdict[str, list[NDArray[np.bool_]]](list)
    for part in in_parts(targets):
        wanted = np.where(part.item_rows > UNKNOWN_ROW, part.item_rows, -2)[:, None]
        for name, rows in contest.pools(part).items():
            sizes[name] += (rows > UNKNOWN_ROW).sum() / len(targets)
            held[name].append((rows == wanted).any(axis=1))
    return sizes, {name: np.concatenate(parts) for name, parts in held.items()}


def best_pages_s(contest: Contest, logs_directory: Path, day: Logs) -> dict[str, float]:
    """By pool: true seconds a slot of the best page, at the requests of a day; {} if not known."""
    bench = contest.bench
    oracle = Oracle.open(logs_directory, bench.logs, bench.recommender, bench.users)
    if oracle is None or day.impressions is None:
        return {}
    encoder = bench.recommender.encoder
    examples = build_impression_examples(encoder, bench.history, bench.users, day.impressions)
    nothing = np.full(examples.num_requests, UNKNOWN_ROW, np.int32)
    every = WatchTargets(bench.history, examples.user_rows, examples.at_ms, nothing)
    moments = every.sample(NUM_MOMENTS, seed=2)
    values_s = defaultdict[str, float](float)
    for part in in_parts(moments):
        for name, rows in contest.pools(part).items():
            truth = oracle.expected_watch_time_s(part.user_rows, part.at_ms, rows)
            page = -np.sort(-truth, axis=1)[:, :PAGE_SIZE]
            values_s[name] += float(page.mean(axis=1).sum()) / len(moments)
    return values_s


def in_parts(targets: WatchTargets) -> Iterator[WatchTargets]:
    for start in range(0, len(targets), BATCH_SIZE):
        yield targets[start : start + BATCH_SIZE]


if __name__ == "__main__":
    main()
