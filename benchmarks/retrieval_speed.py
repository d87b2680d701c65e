"""upnext's retrieval beside a plain PyTorch version and three libraries: examples/s and recall.

    python -m benchmarks.retrieval_speed --environments ENVIRONMENTS --results speed.jsonl

ENVIRONMENTS/NAME is the virtual environment of benchmarks/rivals/NAME.py, whose docstring says what
to install; one that is not there is skipped. Every contestant learns MovieLens 1M, each user's last
two ratings held out, at the same sizes. upnext runs before each rival, in every round, so that each
ratio is of neighbours in time; `upnext_average` is upnext without what its rivals have not: recency
windows and a linear path. Each result is kept at once: the same command goes on where it ended,
after `--minutes` or after a crash, and prints the table of what there is.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.rivals.contest import (
    AVERAGE,
    PLAIN,
    UPNEXT,
    Contest,
    Contestant,
    Line,
    contest_arguments,
    lead,
    movielens_1m,
    present,
    rival,
)
from benchmarks.rivals.entry import add_settings, read_settings, to_options
from benchmarks.rivals.task import Settings, write_task

RIVALS = ("torch_rechub", "deepmatch", "librecommender")
RATES = ("examples_per_s", "examples_per_cpu_s")
METRICS = ("recall_at_50", "recall_at_10", "ndcg_at_10")


def main() -> None:
    """Runs what is missing, as far as the minutes reach, and prints the table."""
    given = read_command_line()
    options = to_options(read_settings(given, Settings))
    terms = {"num_users": given.num_users, "options": options, "num_threads": given.num_threads}
    rivals = present([AVERAGE, PLAIN, *(rival(name, given.environments) for name in RIVALS)])
    contest = Contest(
        pairs=[(UPNEXT, other) for other in rivals],
        options=options,
        terms=terms,
        results=given.results,
        num_threads=given.num_threads,
        num_rounds=given.num_rounds,
    )
    with tempfile.TemporaryDirectory() as scratch:
        task = Path(scratch) / "task.npz"
        write_task(movielens_1m(given.num_users), task)
        lines = contest.hold(task, minutes=given.minutes)
    print(to_table(lines, rivals))


def read_command_line() -> argparse.Namespace:
    parser = contest_arguments((__doc__ or "").splitlines()[0])
    parser.add_argument("--num-users", type=int, default=0, help="the first so many; 0 takes all")
    add_settings(parser, Settings)
    return parser.parse_args()


def to_table(lines: list[Line], rivals: list[Contestant]) -> str:
    """Medians over the rounds, and how many times as fast as its neighbour upnext was."""
    rows = [
        "| | examples/s | a CPU second | upnext is faster by | Recall@50 | Recall@10 | NDCG@10 |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in (UPNEXT, *rivals):
        own = [line for line in lines if line["name"] == one.name]
        if own:
            rates = [f"{median(line[rate] for line in own):,.0f}" for rate in RATES]
            metrics = [f"{median(line[metric] for line in own):.3f}" for metric in METRICS]
            faster = lead(UPNEXT, one, lines)
            rows.append(f"| {' | '.join([one.name, *rates, faster, *metrics])} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
