"""upnext's ranking beside DeepCTR-Torch's networks: impressions a second and how well they rank.

    python -m benchmarks.ranking_speed --environments ENVIRONMENTS --results speed.jsonl

ENVIRONMENTS/deepctr_torch is the virtual environment of benchmarks/rivals/deepctr_torch.py, whose
docstring says what to install. All learn the same impressions of a simulated platform, of 8 days
after 20 of history, with the same loss, the same features and the same sizes; the last day, which
nobody learned from, is ranked. upnext runs before each rival, in every round, so that each ratio is
of neighbours in time. Each result is kept at once: the same command goes on where it ended, after
`--minutes` or after a crash, and prints the table of what there is.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
from benchmarks.ranking_arrays import write_arrays
from benchmarks.rivals.contest import (
    Contest,
    Contestant,
    Line,
    contest_arguments,
    lead,
    present,
    rival,
)
from benchmarks.rivals.entry import add_settings, read_settings, to_options
from benchmarks.rivals.ranking_task import Network, RankingSettings, logs_of, take_scores
from benchmarks.upnext_ranking import Encoded

from upnext.evaluation.metrics import auc, weighted_per_user_loss
from upnext.examples.impressions import ImpressionExamples
from upnext.logs.read import read_logs
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.world import SimulationConfig
from upnext.schema import Floats

RATES = ("examples_per_s", "examples_per_cpu_s")
METRICS = ("auc", "weighted_per_user_loss")


def main() -> None:
    """Runs what is missing, as far as the minutes reach, and prints the table."""
    given = read_command_line()
    settings = read_settings(given, RankingSettings)
    options = to_options(settings)
    pairs = [pair_of(network, given.environments) for network in given.networks]
    pairs = [pair for pair in pairs if len(present(pair)) == len(pair)]
    contest = Contest(
        pairs=pairs,
        options=options,
        terms={
            "num_users": given.num_users,
            "options": options,
            "num_threads": given.num_threads,
        },
        results=given.results,
        num_threads=given.num_threads,
        num_rounds=given.num_rounds,
    )
    with tempfile.TemporaryDirectory() as scratch:
        task = Path(scratch)
        asked = write_task(task, num_users=given.num_users).part(settings.part)
        lines = contest.hold(
            task, minutes=given.minutes, measured=lambda: quality(asked, take_scores(task))
        )
    print(to_table(lines, pairs))


def read_command_line() -> argparse.Namespace:
    parser = contest_arguments((__doc__ or "").splitlines()[0])
    parser.add_argument("--num-users", type=int, default=1_000, help="of the simulated platform")
    parser.add_argument("--networks", nargs="*", choices=get_args(Network), default=("mlp", "din"))
    add_settings(parser, RankingSettings)
    return parser.parse_args()


def pair_of(network: Network, environments: Path) -> tuple[Contestant, Contestant]:
    """upnext and its rival, with the same network."""
    options, library = ("--network", network), rival("deepctr_torch", environments)
    return (
        Contestant(f"upnext_{network}", "benchmarks.upnext_ranking", options=options),
        Contestant(f"{library.name}_{network}", library.module, library.python, options),
    )


def write_task(task: Path, *, num_users: int) -> Encoded:
    """Simulates the platform and encodes its impressions, for upnext and for its rivals."""
    simulate(SimulationConfig(num_users=num_users), logs_of(task))
    logs, _ = read_logs(logs_of(task))
    encoded = Encoded.of(logs)
    write_arrays(task, encoded)
    return encoded


def quality(asked: ImpressionExamples, scores: Floats) -> Line:
    """How well the scores tell watched from unwatched, and order the watch time of a request."""
    _, request_index = asked.impressions_of(np.arange(asked.num_requests))
    loss = weighted_per_user_loss(request_index, asked.watched, asked.watch_time_s, scores)
    return {"auc": auc(asked.watched, scores), "weighted_per_user_loss": loss}


def to_table(lines: list[Line], pairs: list[tuple[Contestant, Contestant]]) -> str:
    """Medians over the rounds, and how many times as fast as its neighbour upnext was."""
    rows = [
        "| | impressions/s | a CPU second | upnext is faster by | by CPU | AUC | weighted loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for ours, theirs in pairs:
        for one in (ours, theirs):
            own = [line for line in lines if line["name"] == one.name]
            if own:
                rates = [f"{median(line[rate] for line in own):,.0f}" for rate in RATES]
                faster = [lead(ours, one, lines, rate) for rate in RATES]
                metrics = [f"{median(line[metric] for line in own):.3f}" for metric in METRICS]
                rows.append(f"| {' | '.join([one.name, *rates, *faster, *metrics])} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
