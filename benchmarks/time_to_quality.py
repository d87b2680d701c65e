"""upnext's best encoder beside RecBole's SASRec on MovieLens 1M: how good after how many seconds?

    python -m benchmarks.time_to_quality --environments ENVIRONMENTS --results quality.jsonl

ENVIRONMENTS/recbole is the virtual environment that benchmarks/rivals/recbole.py tells of. Both
learn from the same ratings, each user's last two held out, and rank all items for each user's
validation rating, seen ones not left out, again and again while they learn. SASRec's seconds are of
training alone, upnext's hold its validation too. Each point is kept at once; a contestant whose
last line is there is not run again.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.rivals.contest import (
    UPNEXT,
    Contestant,
    Line,
    keep_line,
    movielens_1m,
    present,
    read_lines,
    rival,
    run,
)
from benchmarks.rivals.task import write_task

HERE = Path(__file__).parent
GUIDE = "recall_at_50"
METRICS = (GUIDE, "recall_at_10", "ndcg_at_10")
CONTESTANTS = ("recbole", UPNEXT.name)


def main() -> None:
    """Runs who is missing, and prints both curves and where upnext overtakes."""
    given = read_command_line()
    contest = {"num_users": given.num_users, "num_threads": given.num_threads}
    lines = [line for line in read_lines(given.results) if line["contest"] == contest]
    options = {
        "recbole": ["--minutes", str(given.minutes)],
        "upnext": ["--config", str(given.config.resolve())],
    }
    field = present([rival("recbole", given.environments), UPNEXT])
    with tempfile.TemporaryDirectory() as scratch:
        task = Path(scratch) / "task.npz"
        write_task(movielens_1m(given.num_users), task)
        for contestant in field:
            if any("name" in line for line in of(contestant, lines)):
                continue

            begun = len(lines)

            def keep(line: Line, runner: str = contestant.name, begun: int = begun) -> None:
                lines.append({"runner": runner, "begun": begun, **line, "contest": contest})
                keep_line(given.results, lines[-1])

            run(
                contestant,
                task,
                options[contestant.name],
                num_threads=given.num_threads,
                on_line=keep,
            )
    print(to_text(lines, field))


def read_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--environments", type=Path, required=True, help="folder of environments")
    parser.add_argument("--results", type=Path, required=True, help="lines of JSON, appended to")
    parser.add_argument(
        "--config", type=Path, default=HERE / "movielens-1m-attention.toml", help="upnext's"
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="that SASRec trains")
    parser.add_argument("--num-users", type=int, default=0, help="the first so many; 0 takes all")
    parser.add_argument("--num-threads", type=int, default=2, help="of each contestant")
    return parser.parse_args()


def of(contestant: Contestant, lines: list[Line]) -> list[Line]:
    """What it told, in its last run alone."""
    own = [line for line in lines if line["runner"] == contestant.name]
    return [line for line in own if line["begun"] == own[-1]["begun"]]


def to_text(lines: list[Line], field: list[Contestant]) -> str:
    """Each one's way on validation, its test, and how much sooner upnext was as good."""
    rows = ["| | after s | Recall@50 on validation |", "|---|---|---|"]
    tests = ["| | Recall@50 on the test | Recall@10 | NDCG@10 |", "|---|---|---|---|"]
    points: dict[str, list[Line]] = {}
    for contestant in field:
        for line in of(contestant, lines):
            if "name" in line:
                quality = " | ".join(f"{line[metric]:.3f}" for metric in METRICS)
                tests.append(f"| {contestant.name} | {quality} |")
            else:
                rows.append(
                    f"| {contestant.name} | {line['training_s']:,.0f} | {line[GUIDE]:.3f} |"
                )
                points.setdefault(contestant.name, []).append(line)
    texts = ["\n".join(rows), "\n".join(tests)]
    if len(points) == len(CONTESTANTS):
        texts.append(lead(*(points[name] for name in CONTESTANTS)))
    return "\n\n".join(texts)


def lead(rival_points: list[Line], own_points: list[Line]) -> str:
    """When upnext was first as good as the rival's best on validation."""
    best = max(rival_points, key=lambda line: float(line[GUIDE]))
    told = f"SASRec's best is {best[GUIDE]:.3f}, after {best['training_s']:,.0f} s."
    as_good = [line["training_s"] for line in own_points if line[GUIDE] >= best[GUIDE]]
    if not as_good:
        return f"{told} upnext does not reach it."
    sooner = best["training_s"] / as_good[0]
    return f"{told} upnext is there after {as_good[0]:,.0f} s, {sooner:.1f} times sooner."


if __name__ == "__main__":
    main()
