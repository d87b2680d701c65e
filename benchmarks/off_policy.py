"""Do estimates from logged propensities find what other policies truly bring? And how surely?

    python benchmarks/off_policy.py simulator --num-worlds 8
    python benchmarks/off_policy.py intervals

`simulator` simulates platforms, estimates from the logs of the last days what other mixes of
sources would have brought a slot, and sets it beside the truth in closed form; the doubly robust
estimate's model is each item's mean in the days before. `own pages`: what that mix truly brings on
pages that it fills whole, which single slots do not tell. `intervals` counts how often 95%
intervals hold the truth of a made-up bandit, the fewer slots are effective.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.evaluation.off_policy import OffPolicyValue, RewardModel, off_policy_value
from upnext.logs.read import read_logs
from upnext.logs.simulation.replay import ReplayedPages, replayed_pages
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.truth import Truth, load_truth
from upnext.logs.simulation.world import START_MS, LoggingWeights, SimulationConfig
from upnext.schema import MS_PER_DAY, Floats

Table = NDArray[np.float64]
TARGETS = {
    "as logged": LoggingWeights(),
    "mostly related": LoggingWeights(popular=0.1, fresh=0.2, related=0.6, random=0.1),
    "nearly all related": LoggingWeights(popular=0.01, fresh=0.01, related=0.97, random=0.01),
    "mostly popular": LoggingWeights(popular=0.7, fresh=0.1, related=0.1, random=0.1),
    "mostly fresh": LoggingWeights(popular=0.1, fresh=0.7, related=0.1, random=0.1),
    "mostly random": LoggingWeights(popular=0.05, fresh=0.05, related=0.05, random=0.85),
}
ESTIMATES = ("ips_s", "snips_s", "doubly_robust_s")
PRIOR_IMPRESSIONS = 20
"""So many impressions at the mean of all are added to each item's own."""


@dataclass(frozen=True)
class Slots:
    """The logged slots of the last days, page after page, and how to ask other mixes about them."""

    pages: Sequence[ReplayedPages]
    true_s: Sequence[Floats]
    examination: Floats
    item_means_s: Table
    position_factors: Table

    def each(self, of_page: Callable[[ReplayedPages, Floats], Table]) -> Table:
        """[M] what a function says of every slot of every page."""
        parts = zip(self.pages, self.true_s, strict=True)
        return np.concatenate([of_page(page, true_s).ravel() for page, true_s in parts])


def main() -> None:
    """Prints tables; progress goes to stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    simulator = verbs.add_parser("simulator")
    simulator.add_argument("--num-worlds", type=int, default=8)
    simulator.add_argument("--num-users", type=int, default=1_000)
    simulator.add_argument("--num-items", type=int, default=2_000)
    simulator.add_argument("--num-days", type=int, default=10)
    simulator.add_argument("--test-days", type=int, default=2)
    verbs.add_parser("intervals")
    arguments = parser.parse_args()
    if arguments.verb == "intervals":
        print_intervals()
    else:
        sizes = {name: getattr(arguments, name) for name in ("num_users", "num_items", "num_days")}
        print_worlds(
            [SimulationConfig(seed=seed, **sizes) for seed in range(1, arguments.num_worlds + 1)],
            arguments.test_days,
        )


def print_worlds(configs: Sequence[SimulationConfig], test_days: int) -> None:
    covered: dict[tuple[str, str], int] = {}
    for config in configs:
        slots = logged_slots(config, test_days)
        print(f"\nseed {config.seed}, {sum(page.item_rows.size for page in slots.pages):,} slots")
        print(f"{'':20}{'IPS':>20}{'SNIPS':>20}{'doubly robust':>20}  truth  own pages  effective")
        for name, weights in TARGETS.items():
            value = estimate(name, weights, slots)
            cells = ""
            for kind in ESTIMATES:
                found = getattr(value, kind)
                holds = _holds(value, kind)
                covered[name, kind] = covered.get((name, kind), 0) + holds
                cells += f"{found!s:>19}{' ' if holds else '!'}"
            own_s = on_own_pages(weights, slots, config.seed)
            print(
                f"{name:20}{cells}{value.truth_s:7.2f}{own_s:11.2f}{value.effective_num_slots:11,.0f}"
            )
    print(f"\nintervals that hold the truth, of {len(configs)}; ! marks those that do not")
    for name in TARGETS:
        print(f"{name:20}" + "".join(f"{covered[name, kind]:20}" for kind in ESTIMATES))


def logged_slots(config: SimulationConfig, test_days: int) -> Slots:
    """Simulates a platform and replays its last days."""
    print(f"seed {config.seed}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as directory:
        simulate(config, Path(directory) / "logs")
        truth, logs = load_truth(Path(directory) / "logs"), read_logs(Path(directory) / "logs")[0]
    shown = logs.impressions
    assert shown is not None
    first_day = config.num_days - test_days
    before = shown.frame.filter(pl.col("shown_at_ms") < START_MS + first_day * MS_PER_DAY)
    pages = list(replayed_pages(truth, shown, logs.watches, from_day=first_day))
    item_means_s, position_factors = item_means(truth, before)
    return Slots(
        pages=pages,
        true_s=[page.true_watch_time_s() for page in pages],
        examination=truth.examination(np.arange(config.page_size)),
        item_means_s=item_means_s,
        position_factors=position_factors,
    )


def item_means(truth: Truth, before: pl.DataFrame) -> tuple[Table, Table]:
    """[N] each item's mean watch time so far, and [page_size] what a position multiplies it by."""
    rows, seconds = truth.item_rows(before["item_id"]), before["watch_time_s"].to_numpy()
    mean_s = float(seconds.mean())
    num_items = truth.world.config.num_items
    sums = np.bincount(rows, weights=seconds, minlength=num_items) + PRIOR_IMPRESSIONS * mean_s
    means_s = sums / (np.bincount(rows, minlength=num_items) + PRIOR_IMPRESSIONS)
    by_position = before.group_by("position").agg(pl.col("watch_time_s").mean()).sort("position")
    return means_s, by_position["watch_time_s"].to_numpy() / mean_s


def estimate(name: str, weights: LoggingWeights, slots: Slots) -> OffPolicyValue:
    """One target mix: its estimates, from the logs alone, and its truth."""

    def model_s(page: ReplayedPages) -> Table:
        return np.broadcast_to(slots.item_means_s, (len(page.at_ms), len(slots.item_means_s)))

    model = RewardModel(
        predicted_s=slots.each(
            lambda page, _: slots.item_means_s[page.item_rows] * slots.position_factors
        ),
        target_predicted_s=slots.each(
            lambda page, _: page.expected(weights, model_s(page)) * slots.position_factors
        ),
    )
    truth_s = slots.each(lambda page, true_s: page.expected(weights, true_s) * slots.examination)
    return off_policy_value(
        name,
        user_rows=slots.each(
            lambda page, _: np.repeat(page.user_rows, len(slots.examination)).astype(np.float64)
        ),
        watch_time_s=slots.each(lambda page, _: page.watch_time_s.astype(np.float64)),
        propensities=slots.each(lambda page, _: page.propensities.astype(np.float64)),
        target_probabilities=slots.each(lambda page, _: page.probabilities(weights)),
        model=model,
        truth_s=float(truth_s.mean()),
    )


def on_own_pages(weights: LoggingWeights, slots: Slots, seed: int) -> float:
    """The truth of pages that this mix fills from the first slot to the last, one a request."""
    rng = np.random.default_rng(seed)

    def of_page(page: ReplayedPages, true_s: Floats) -> Table:
        policy = page.policy.with_weights(weights)
        drawn = policy.draw_pages(rng, page.recent_rows, page.at_ms).item_rows
        return np.take_along_axis(true_s, drawn, axis=1).astype(np.float64) * slots.examination

    return float(slots.each(of_page).mean())


def print_intervals(num_logs: int = 400) -> None:
    """Eight items, six contexts, three slots a user, exponential rewards."""
    print(f"{'slots':>8}{'effective':>11}{'greatest weight':>17}{'IPS':>7}{'SNIPS':>7}{'DR':>7}")
    for floor in (0.1, 0.3, 0.5):
        for num_slots in (150, 600, 2_400):
            values = list(bandit_values(floor, num_slots, num_logs))
            effective = np.mean([value.effective_num_slots for value in values])
            greatest = np.mean([value.max_weight for value in values])
            shares = [np.mean([_holds(value, kind) for value in values]) for kind in ESTIMATES]
            cells = "".join(f"{share:7.2f}" for share in shares)
            print(f"{num_slots:8,}{effective:11.0f}{greatest:17.1f}{cells}")


def bandit_values(floor: float, num_slots: int, num_logs: int) -> Iterator[OffPolicyValue]:
    """Estimates from logs whose policy leaves that much to chance; the model says 30 s always."""
    rng = np.random.default_rng(0)
    logging = (1 - floor) * rng.dirichlet(np.full(8, 1.5), 6) + floor / 8
    target, means_s = rng.dirichlet(np.full(8, 0.7), 6), rng.gamma(2.0, 15.0, (6, 8))
    always = np.full(num_slots, 30.0)
    for _ in range(num_logs):
        contexts = rng.integers(6, size=num_slots)
        chances = np.cumsum(logging, axis=1)[contexts]
        items = np.minimum((chances < rng.random((num_slots, 1))).sum(axis=1), 7)
        yield off_policy_value(
            "target",
            user_rows=np.arange(num_slots) // 3,
            watch_time_s=rng.exponential(means_s[contexts, items]),
            propensities=logging[contexts, items],
            target_probabilities=target[contexts, items],
            model=RewardModel(predicted_s=always, target_predicted_s=always),
            truth_s=float((target * means_s).sum(axis=1).mean()),
        )


def _holds(value: OffPolicyValue, kind: str) -> bool:
    found = getattr(value, kind)
    return bool(found.low <= value.truth_s <= found.high)


if __name__ == "__main__":
    main()
