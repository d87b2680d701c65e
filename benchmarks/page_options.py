"""What do options of a page cost and bring? True watch time, variety and time of a request.

    python benchmarks/page_options.py LOGS REGISTRY [--release 1] [--num-moments 1000]

LOGS are simulated, so the true expected watch time of any page is known; REGISTRY holds a release
that was trained on them. Moments are those of logged requests of the test days, and each is asked
with every option, in an order drawn anew, as a server would ask. Watch time is that of a slot that
is looked at, wherever it stands; a slot left empty brings nothing. Machines are busy, so time is
that of the processor, as a median, and as the median difference from the page as ranked of the same
moment.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.evaluation.intervals import bootstrap_interval, paired_bootstrap_interval, sum_by_user
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.oracle import Oracle
from upnext.recommender import Recommender
from upnext.recommender.rules import allowed_by
from upnext.schema import (
    MS_PER_DAY,
    NUM_RESERVED_ROWS,
    ItemRules,
    PageOptions,
    RecommendationRequest,
    Recommendations,
    Rows,
)

PAGE_SIZE, FRESH_DAYS, NUM_WARM_UP = 10, 7.0, 20
NTH_CHANNEL = 20
AS_RANKED = "as ranked"
NO_ITEM = -1

Option = Callable[[RecommendationRequest], RecommendationRequest]
"""Asks the same of the same moment, and something more of the page."""


@dataclass(frozen=True)
class Moments:
    """B logged requests: rows of the users, and the requests themselves."""

    user_rows: NDArray[np.int64]
    requests: list[RecommendationRequest]

    @property
    def at_ms(self) -> NDArray[np.int64]:
        """[B]."""
        return np.array([request.at_ms for request in self.requests], np.int64)


@dataclass(frozen=True)
class Pages:
    """B pages: item rows [B, 10], -1 where a slot is empty; a request's CPU milliseconds [B]."""

    item_rows: Rows
    cpu_ms: NDArray[np.float64]


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("logs", type=Path)
    parser.add_argument("registry", type=Path)
    parser.add_argument("--release", type=int, default=1)
    parser.add_argument("--num-moments", type=int, default=1_000)
    arguments = parser.parse_args()
    bench = Bench.prepare(arguments.logs, arguments.registry, arguments.release)
    oracle = Oracle.open(arguments.logs, bench.logs, bench.recommender, bench.users)
    if oracle is None:
        parser.error(f"{arguments.logs}: expected simulated logs with impressions")
    # Asked at moments of the test, it must know what happened until then.
    published = Recommender.open(arguments.registry, arguments.release)
    recommender = replace(published, history=bench.history, users=bench.users)
    moments = moments_of(bench, arguments.num_moments)
    items = bench.logs.items.frame
    pages = pages_by_option(recommender, moments, options_of(items))
    for name, rules in rules_of(items).items():
        pages[f"{name}, after the cut"] = late_pages(recommender, moments, rules)
    print_table(oracle, recommender, moments, pages)


def moments_of(bench: Bench, num_moments: int) -> Moments:
    """Some of the logged requests of the test days."""
    impressions = bench.split.test.impressions
    assert impressions is not None
    every = impressions.frame.unique("request_id", keep="first", maintain_order=True)
    some = every.sample(min(num_moments, every.height), seed=3)
    requests = [
        RecommendationRequest(user_id=user, at_ms=at_ms, k=PAGE_SIZE)
        for user, at_ms in some.select("user_id", "shown_at_ms").iter_rows()
    ]
    return Moments(bench.users.rows(some["user_id"]).astype(np.int64), requests)


def rules_of(items: pl.DataFrame) -> Mapping[str, ItemRules]:
    """Rules that leave a tenth of the catalogue, and those that leave one channel of many."""
    tag = items["tags"].explode().mode().sort()[0]
    sizes = items.group_by("channel_id").len().sort(["len", "channel_id"], descending=True)
    channel, num_items = sizes.row(NTH_CHANNEL - 1)
    return {
        "only the commonest tag": ItemRules(allowed_tags=[tag]),
        f"only a channel of {num_items} items": ItemRules(allowed_channels=[channel]),
    }


def options_of(items: pl.DataFrame) -> Mapping[str, Option]:
    """What is asked, by name."""

    def page(options: PageOptions) -> Option:
        return lambda asked: replace(asked, page=replace(options, seed=asked.at_ms))

    def ruled(rules: ItemRules) -> Option:
        return lambda asked: replace(asked, rules=rules)

    def newest(asked: RecommendationRequest) -> RecommendationRequest:
        since_ms = (asked.at_ms or 0) - int(FRESH_DAYS * MS_PER_DAY)
        return replace(asked, rules=ItemRules(published_since_ms=since_ms))

    explored = PageOptions(num_explored=3)
    together = PageOptions(diversity=0.3, max_per_channel=2, num_fresh=2, num_explored=1)
    return {
        AS_RANKED: lambda asked: asked,
        **{f"diversity {x:g}": page(PageOptions(diversity=x)) for x in (0.1, 0.3, 0.5, 0.8)},
        **{f"max_per_channel {n}": page(PageOptions(max_per_channel=n)) for n in (3, 2, 1)},
        **{f"num_fresh {n}": page(PageOptions(num_fresh=n, fresh_days=FRESH_DAYS)) for n in (2, 5)},
        "num_explored 1": page(replace(explored, num_explored=1)),
        "num_explored 3": page(explored),
        "num_explored 3, temperature 1000": page(replace(explored, exploration_temperature=1e3)),
        "diversity 0.3, max_per_channel 2, num_fresh 2, num_explored 1": page(together),
        "at most 5 minutes": ruled(ItemRules(max_duration_s=300.0)),
        f"published in {FRESH_DAYS:g} days": newest,
        **{name: ruled(rules) for name, rules in rules_of(items).items()},
    }


def pages_by_option(
    recommender: Recommender, moments: Moments, options: Mapping[str, Option]
) -> dict[str, Pages]:
    """Asks each moment with every option before the next moment's turn."""
    for request in moments.requests[:NUM_WARM_UP]:
        recommender.recommend(request)
    generator = np.random.default_rng(0)
    asked = list(options.values())
    shape = (len(asked), len(moments.requests))
    rows = np.full((*shape, PAGE_SIZE), NO_ITEM, np.int32)
    cpu_ms = np.empty(shape)
    for moment, request in enumerate(moments.requests):
        for number in generator.permutation(len(asked)):
            began_s = process_time()
            answer = recommender.recommend(asked[number](request))
            cpu_ms[number, moment] = 1e3 * (process_time() - began_s)
            rows[number, moment, : len(answer.items)] = rows_of(recommender, answer)
    return {name: Pages(rows[n], cpu_ms[n]) for n, name in enumerate(options)}


def late_pages(recommender: Recommender, moments: Moments, rules: ItemRules) -> Pages:
    """What is left of the ranked candidates when rules come last; its time is not asked."""
    allowed = allowed_by(rules, recommender.encoder.catalogue).rows
    assert allowed is not None
    pages = np.full((len(moments.requests), PAGE_SIZE), NO_ITEM, np.int32)
    for page, request in zip(pages, moments.requests, strict=True):
        ranked = recommender.recommend(replace(request, k=recommender.config.num_candidates))
        rows = rows_of(recommender, ranked)
        left = rows[np.isin(rows, allowed)][:PAGE_SIZE]
        page[: len(left)] = left
    return Pages(pages, np.full(len(pages), np.nan))


def rows_of(recommender: Recommender, answer: Recommendations) -> Rows:
    """The item rows of an answer, from the top."""
    return recommender.encoder.catalogue.items.rows([item.item_id for item in answer.items])


def print_table(
    oracle: Oracle, recommender: Recommender, moments: Moments, pages: Mapping[str, Pages]
) -> None:
    """A line an option: means over moments, intervals by user, paired with the page as ranked."""
    print(
        "| option | s a slot | less than as ranked, paired | slots filled | channels | fresh | "
        "likeness | p50 CPU ms | more, p50 CPU ms |\n|---|---|---|---|---|---|---|---|---|"
    )
    values = {
        name: oracle.expected_watch_time_s(moments.user_rows, moments.at_ms, one.item_rows).mean(
            axis=1
        )
        for name, one in pages.items()
    }
    num_moments = sum_by_user(moments.user_rows, np.ones(len(moments.user_rows)))
    ranked = sum_by_user(moments.user_rows, values[AS_RANKED])
    for name, one in pages.items():
        sums = sum_by_user(moments.user_rows, values[name])
        low, high = bootstrap_interval(sums, num_moments)
        least, most = paired_bootstrap_interval(ranked, sums, num_moments)
        lost = (ranked - sums).sum() / num_moments.sum()
        more_ms = one.cpu_ms - pages[AS_RANKED].cpu_ms
        times = f"{np.median(one.cpu_ms):.2f} | {np.median(more_ms):+.2f}"
        print(
            f"| {name} | {values[name].mean():.1f} [{low:.1f}, {high:.1f}] "
            f"| {lost:.1f} [{least:.1f}, {most:.1f}] | {variety(recommender, moments, one)} "
            f"| {'– | –' if np.isnan(one.cpu_ms).any() else times} |"
        )


def variety(recommender: Recommender, moments: Moments, pages: Pages) -> str:
    """Slots filled, channels of a page, share that is fresh, mean cosine of two of its items."""
    catalogue, rows = recommender.encoder.catalogue, pages.item_rows
    is_item = rows >= NUM_RESERVED_ROWS
    channel_rows = np.where(is_item, catalogue.channel_rows[rows], 0)
    num_channels = [len(set(page[page > 0])) for page in channel_rows]
    age_days = (moments.at_ms[:, None] - catalogue.published_at_ms[rows]) / MS_PER_DAY
    is_fresh = (age_days >= 0) & (age_days <= FRESH_DAYS) & is_item
    vectors = recommender.retriever.item_vectors[rows] * is_item[..., None]
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-9)
    num_items = is_item.sum(axis=1)
    cosines = (unit @ unit.transpose(0, 2, 1)).sum(axis=(1, 2)) - num_items
    num_pairs = num_items * (num_items - 1)
    told = num_items.mean(), np.mean(num_channels), is_fresh.sum() / is_item.sum()
    return "{:.1f} | {:.1f} | {:.2f} | {:.2f}".format(*told, cosines.sum() / num_pairs.sum())


if __name__ == "__main__":
    main()
