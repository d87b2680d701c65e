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
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.rivals.contest import (
    AVERAGE,
    PLAIN,
    UPNEXT,
    Contestant,
    Line,
    keep_line,
    movielens_1m,
    present,
    read_lines,
    rival,
    run,
    tell,
)
from benchmarks.rivals.task import add_settings, read_settings, to_options, write_task

RIVALS = ("torch_rechub", "deepmatch", "librecommender")
RATES = ("examples_per_s", "examples_per_cpu_s")
METRICS = ("recall_at_50", "recall_at_10", "ndcg_at_10")
FIRST_GUESS_S = 150.0
"""How long a run may take before one of its kind has told."""

Place = tuple[int, str, str]
"""Round, rival, and who of the two ran."""


def main() -> None:
    """Runs what is missing, as far as the minutes reach, and prints the table."""
    given = read_command_line()
    settings = read_settings(given)
    contest = {"num_users": given.num_users, "options": to_options(settings)}
    contest |= {"num_threads": given.num_threads}
    lines = [line for line in read_lines(given.results) if line["contest"] == contest]
    done = {place_of(line) for line in lines}
    rivals = present([AVERAGE, PLAIN, *(rival(name, given.environments) for name in RIVALS)])
    wanted = [one for one in schedule(rivals, given.num_rounds) if one[0] not in done]
    ends_s = time.perf_counter() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as scratch:
        task = Path(scratch) / "task.npz"
        write_task(movielens_1m(given.num_users), task)
        for place, contestant in wanted:
            if time.perf_counter() + expected_s(contestant, lines) > ends_s:
                tell("the minutes are over; the same command goes on from here")
                break
            began_s = time.perf_counter()
            line = run(contestant, task, to_options(settings), num_threads=given.num_threads)
            if line is None:
                continue
            took = {"wall_s": time.perf_counter() - began_s, "contest": contest}
            lines.append({"round": place[0], "beside": place[1], **line, **took})
            keep_line(given.results, lines[-1])
            tell(f"round {place[0]}, {line['name']}: {line['examples_per_s']:,.0f} examples/s")
    print(to_table(lines, rivals))


def read_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--environments", type=Path, required=True, help="folder of environments")
    parser.add_argument("--results", type=Path, required=True, help="lines of JSON, appended to")
    parser.add_argument("--num-rounds", type=int, default=3, help="of the whole field")
    parser.add_argument("--num-users", type=int, default=0, help="the first so many; 0 takes all")
    parser.add_argument("--num-threads", type=int, default=2, help="of each contestant")
    parser.add_argument("--minutes", type=float, default=9.0, help="begin no run that goes beyond")
    add_settings(parser)
    return parser.parse_args()


def schedule(rivals: list[Contestant], num_rounds: int) -> Iterator[tuple[Place, Contestant]]:
    """upnext, rival, upnext, next rival, and so on, round after round."""
    for number in range(num_rounds):
        for other in rivals:
            for contestant in (UPNEXT, other):
                yield (number, other.name, contestant.name), contestant


def place_of(line: Line) -> Place:
    return line["round"], line["beside"], line["name"]


def expected_s(contestant: Contestant, lines: list[Line]) -> float:
    """The longest that this contestant has taken yet."""
    taken = [line["wall_s"] for line in lines if line["name"] == contestant.name]
    return max(taken, default=FIRST_GUESS_S)


def to_table(lines: list[Line], rivals: list[Contestant]) -> str:
    """Medians over the rounds, and how many times as fast as its neighbour upnext was."""
    rows = [
        "| | examples/s | a CPU second | upnext is faster by | Recall@50 | Recall@10 | NDCG@10 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in (UPNEXT.name, *(one.name for one in rivals)):
        own = [line for line in lines if line["name"] == name]
        if own:
            rates = [f"{median(line[rate] for line in own):,.0f}" for rate in RATES]
            metrics = [f"{median(line[metric] for line in own):.3f}" for metric in METRICS]
            rows.append(f"| {' | '.join([name, *rates, lead(name, lines), *metrics])} |")
    return "\n".join(rows)


def lead(name: str, lines: list[Line]) -> str:
    """upnext's speed by that of this rival, neighbours in time: median [least, most]."""
    speed = {place_of(line): line["examples_per_s"] for line in lines if line["beside"] == name}
    places = [(number, name, UPNEXT.name) for number, _, ran in speed if ran == name]
    ratios = [speed[own] / speed[own[0], name, name] for own in places if own in speed]
    return f"{median(ratios):.1f} [{min(ratios):.1f}, {max(ratios):.1f}]" if ratios else ""


if __name__ == "__main__":
    main()
