"""What is stage 2 worth? Depths, networks and objectives, trained on the same examples.

    python -m benchmarks.ranking_table [--num-users 1000 --num-days 14] [--results FILE.jsonl]

One process reads the logs and builds the examples once, then trains a ranker after another:
the paper's Table 1 in its own setting (no factors, no manners, no logs, weights of the paper's
variant), and today's networks and objectives beside each other. Each is measured on the next day,
on a simulated platform also by the truth of the best ten of fixed candidates. With UPNEXT_DATA (or
--data) naming a folder that holds `kuairand`, the same on that excerpt. Nobody is told the scores
of sources.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from benchmarks.ranking_calibration import Calibrations, plot_calibration, print_calibration
from benchmarks.ranking_worlds import (
    Measured,
    World,
    difference,
    kuairand_world,
    measured,
    simulated_world,
    summary,
)

from upnext.evaluation.compare import ranking_metrics
from upnext.evaluation.intervals import MetricValue, metric_value, sum_by_user
from upnext.evaluation.metrics import mispredicted_watch_time
from upnext.evaluation.pairs import share_of_pairs_by_user
from upnext.logs.simulation.world import SimulationConfig
from upnext.ranking.config import RankingConfig, RankingNetworkConfig

DEEPEST = (1024, 512, 256)
PAPERS_NETWORK = RankingNetworkConfig(factors=0, manner_size=0, logs=False, hidden_sizes=DEEPEST)
MLP, WIDE_AND_DEEP, DIN = "mlp", "wide-and-deep", "din"
PAPER, CLICK = "mlp, weighted logistic of the paper", "mlp, click"
Line = dict[str, object]


def main() -> None:
    """Prints Markdown; progress goes to stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num-users", type=int, default=1_000)
    parser.add_argument("--num-items", type=int, default=3_000)
    parser.add_argument("--num-days", type=int, default=14)
    parser.add_argument("--requests-per-day", type=float, default=2.5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--num-epochs", type=int, default=3)
    parser.add_argument("--num-moments", type=int, default=1_000)
    parser.add_argument("--data", type=Path, default=os.environ.get("UPNEXT_DATA"))
    parser.add_argument("--results", type=Path)
    here = Path(__file__).parent
    parser.add_argument("--plot", type=Path, default=here / "ranking_calibration.png")
    arguments = parser.parse_args()
    told = RankingConfig(num_epochs=arguments.num_epochs, seed=arguments.seed)
    lines, calibrations = [], []
    for world in worlds(arguments):
        print(f"\n## {summary(world)}", flush=True)
        lines += table_1(replace(world, choices=None), told)
        rankers = all_measured(world, today(told))
        lines += [*print_rankers(world, rankers), *print_slices(world, rankers)]
        both = (rankers[name] for name in (MLP, PAPER, CLICK))
        calibrations.append(Calibrations.of(world, *both))
    lines += print_calibration(calibrations)
    plot_calibration(calibrations, arguments.plot)
    if arguments.results:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        arguments.results.write_text(text, encoding="utf-8")


def worlds(arguments: argparse.Namespace) -> list[World]:
    """The simulator, and KuaiRand where it lies."""
    sizes = ("num_users", "num_items", "num_days", "requests_per_day", "seed")
    config = SimulationConfig(**{name: getattr(arguments, name) for name in sizes})
    with tempfile.TemporaryDirectory() as directory:
        found = [simulated_world(Path(directory), config, arguments.num_moments)]
    excerpt = Path(arguments.data or ".") / "kuairand"
    if arguments.data and excerpt.is_dir():
        return [*found, kuairand_world(excerpt)]
    print(f"KuaiRand is left out: no {excerpt}; UPNEXT_DATA names its parent", file=sys.stderr)
    return found


def papers(base: RankingConfig) -> Mapping[str, tuple[RankingConfig, float]]:
    """The lines of the paper's table, and the losses in per cent that it reports."""

    def of(**network: object) -> RankingConfig:
        return replace(base, variant="paper", network=replace(PAPERS_NETWORK, **network))  # type: ignore[arg-type]

    depths: Mapping[tuple[int, ...], float] = {
        (): 41.6,
        (256,): 36.9,
        (512,): 36.7,
        (1024,): 35.8,
        (512, 256): 35.2,
        (1024, 512): 34.7,
        DEEPEST: 34.6,
    }
    by_depth = {
        "-".join(map(str, sizes)) or "none": (of(hidden_sizes=sizes), loss)
        for sizes, loss in depths.items()
    }
    return by_depth | {
        "… without powers": (of(powers=False), 34.8),
        "… with equal weights": (replace(of(), objective="click"), 38.7),
    }


def today(base: RankingConfig) -> Mapping[str, RankingConfig]:
    """Networks by today's objective, and objectives by today's network."""

    def network(kind: str) -> RankingConfig:
        return replace(base, network=replace(base.network, kind=kind))  # type: ignore[arg-type]

    return {
        MLP: base,
        WIDE_AND_DEEP: network("wide-and-deep"),
        DIN: network("din"),
        PAPER: replace(base, variant="paper"),
        "mlp, up-sampling": replace(base, weighting="up-sampling"),
        CLICK: replace(base, objective="click"),
        "mlp, click and share": replace(base, objective="click-and-share"),
        "mlp, regression": replace(base, objective="regression"),
        "mlp, d2q": replace(base, objective="d2q"),
    }


def all_measured(world: World, configs: Mapping[str, RankingConfig]) -> dict[str, Measured]:
    """One after another."""
    rankers = {}
    for name, config in configs.items():
        rankers[name] = measured(world, name, config)
        speed = rankers[name].examples_per_cpu_s
        print(f"{world.name}, {name}: {speed:,.0f} examples / CPU s", file=sys.stderr, flush=True)
    return rankers


def table_1(world: World, base: RankingConfig) -> list[Line]:
    """Weighted per-user loss in per cent, its difference from the deepest paired by user."""
    lines = papers(base)
    rankers = all_measured(world, {name: config for name, (config, _) in lines.items()})
    lost = {name: lost_by_user(world, one.uncalibrated_s) for name, one in rankers.items()}
    deepest = lost["-".join(map(str, DEEPEST))][0]
    print(f"\n### Table 1, {world.name}\n")
    print("| hidden layers | loss, % | more than the deepest | the paper's loss | epochs |")
    print("|---|---|---|---|---|")
    told: list[Line] = []
    for name, (_, papers_loss) in lines.items():
        loss = in_percent(metric_value(*lost[name]))
        more = in_percent(difference(lost[name][0], deepest, lost[name][1]))
        num_epochs = rankers[name].num_epochs
        print(f"| {name} | {cell(loss)} | {cell(more)} | {papers_loss} | {num_epochs} |")
        told.append(
            {
                "table": "1",
                "world": world.name,
                "layers": name,
                "paper_percent": papers_loss,
                "loss_percent": asdict(loss),
                "more_percent": asdict(more),
            }
        )
    return told


def lost_by_user(world: World, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seconds mispredicted and compared, by user: 2 × [U]."""
    shown = world.shown
    parts = mispredicted_watch_time(shown.request_ids, shown.watched, shown.watch_time_s, seconds)
    mispredicted, compared = (sum_by_user(shown.user_rows, part) for part in parts)
    return mispredicted, compared


def print_rankers(world: World, rankers: Mapping[str, Measured]) -> list[Line]:
    """One line a ranker with everything that is measured of it."""
    rows: list[dict[str, MetricValue]] = []
    for one in rankers.values():
        found = ranking_metrics(world.shown, one.uncalibrated_s, scores_are_seconds=True)
        calibrated = ranking_metrics(world.shown, one.calibrated_s, scores_are_seconds=True)
        found["mean_absolute_error_s"] = calibrated["mean_absolute_error_s"]
        found["calibrated_ratio"] = calibrated["calibration_ratio"]
        del found["per_user_xauc"]
        found |= truth_of(world, one, rankers[MLP])
        found["examples_per_cpu_s"] = MetricValue(one.examples_per_cpu_s)
        rows.append(found)
    print(f"\n### Networks and objectives, {world.name}\n")
    print("| ranker | " + " | ".join(name.replace("_", " ") for name in rows[0]) + " |")
    print("|---|" + "---|" * len(rows[0]))
    for name, row in zip(rankers, rows, strict=True):
        print(f"| {name} | " + " | ".join(str(value) for value in row.values()) + " |")
    return [
        {
            "table": "rankers",
            "world": world.name,
            "ranker": name,
            **{metric: asdict(value) for metric, value in row.items()},
        }
        for name, row in zip(rankers, rows, strict=True)
    ]


def truth_of(world: World, one: Measured, first: Measured) -> dict[str, MetricValue]:
    """True seconds a slot of its best ten; their share of the best order; more than the first."""
    choices = world.choices
    if choices is None or one.page_s is None or first.page_s is None:
        return {}
    users = choices.user_rows
    moments = sum_by_user(users, np.ones(len(users)))
    ours, best = sum_by_user(users, one.page_s), sum_by_user(users, choices.best_page_s())
    return {
        "true_watch_time_s": metric_value(ours, moments),
        "share_of_best": metric_value(ours, best),
        "more_than_the_first_s": difference(ours, sum_by_user(users, first.page_s), moments),
    }


def print_slices(world: World, rankers: Mapping[str, Measured]) -> list[Line]:
    """Where Wide & Deep and DIN differ from the MLP: paired differences by user."""
    print(f"\n### Less loss and more per-user AUC than the MLP, in hundredths, {world.name}\n")
    print("| impressions | number | network | loss | per-user AUC |\n|---|---|---|---|---|")
    lines: list[Line] = []
    for part, chosen in world.slices.items():
        for name in (WIDE_AND_DEEP, DIN):
            loss, auc = differences_in(world, chosen, rankers[name], rankers[MLP])
            print(f"| {part} | {chosen.sum():,} | {name} | {cell(loss)} | {cell(auc)} |")
            lines.append(
                {
                    "table": "slices",
                    "world": world.name,
                    "slice": part,
                    "network": name,
                    "loss_percent": asdict(loss),
                    "per_user_auc_percent": asdict(auc),
                }
            )
    return lines


def differences_in(
    world: World, chosen: np.ndarray, one: Measured, other: Measured
) -> tuple[MetricValue, MetricValue]:
    """Of loss and per-user AUC on some impressions, in per cent; pairs are within them."""
    shown = world.shown[chosen]
    lost, won = [], []
    for ranker in (one, other):
        scores = ranker.uncalibrated_s[chosen]
        parts = mispredicted_watch_time(
            shown.request_ids, shown.watched, shown.watch_time_s, scores
        )
        lost.append([sum_by_user(shown.user_rows, part) for part in parts])
        won.append(share_of_pairs_by_user(shown.user_rows, shown.watched, scores))
    return (
        in_percent(difference(lost[0][0], lost[1][0], lost[0][1])),
        in_percent(difference(won[0][0], won[1][0], won[0][1])),
    )


def in_percent(share: MetricValue) -> MetricValue:
    return MetricValue(100 * share.value, 100 * share.low, 100 * share.high)


def cell(value: MetricValue) -> str:
    """Two decimals: `36.91 [35.20, 38.44]`."""
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


if __name__ == "__main__":
    main()
