"""Runs contestants, each in a process and a virtual environment of its own, and keeps their lines.

Results are lines of JSON in a file; what stands there already is not run again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
from benchmarks.rivals.task import Task

from upnext import load_public

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("UPNEXT_DATA", ROOT.parent / "shared" / "data"))
LINES_OF_TROUBLE = 15
FIRST_GUESS_S = 150.0
"""How long a run may take before one of its kind has told."""

Line = dict[str, Any]
Place = tuple[int, str, str]
"""Round, rival, and who of the two ran."""


@dataclass(frozen=True)
class Contestant:
    """A module that trains, and the Python that has its library."""

    name: str
    module: str
    python: Path = Path(sys.executable)
    options: tuple[str, ...] = ()


UPNEXT = Contestant("upnext", "benchmarks.upnext_retrieval")
AVERAGE = Contestant("upnext_average", UPNEXT.module, options=("--inputs", "average"))
PLAIN = Contestant("plain_pytorch", "benchmarks.plain_pytorch")


def rival(name: str, environments: Path) -> Contestant:
    """The one of benchmarks/rivals of that name; environments/NAME is its virtual environment."""
    return Contestant(name, f"benchmarks.rivals.{name}", environments / name / "bin" / "python")


def present(contestants: Iterable[Contestant]) -> list[Contestant]:
    """Those whose Python is there; the others are named on stderr, with the reason."""
    here = []
    for contestant in contestants:
        if contestant.python.exists():
            here.append(contestant)
        else:
            tell(f"{contestant.name}: skipped, there is no {contestant.python}; see its docstring")
    return here


def movielens_1m(num_users: int) -> Task:
    """All ratings of MovieLens 1M, or those of its first users; 0 takes all."""
    source = DATA / "ml-1m"
    if not source.exists():
        sys.exit(f"{source}: not there; set UPNEXT_DATA to the folder that holds ml-1m.")
    frame = load_public("movielens-1m", source).watches.frame.sort("user_id", "started_at_ms")
    if num_users:
        users = frame["user_id"].unique().sort().head(num_users)
        frame = frame.filter(pl.col("user_id").is_in(users.implode()))
    _, item_rows = np.unique(frame["item_id"].to_numpy(), return_inverse=True)
    lengths = frame["user_id"].rle().struct.field("len").to_numpy()
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Task(starts, (item_rows + 1).astype(np.int32), frame["started_at_ms"].to_numpy())


def run(
    contestant: Contestant,
    task: Path,
    options: Iterable[str],
    *,
    num_threads: int,
    on_line: Callable[[Line], None] = lambda _: None,
) -> Line | None:
    """The contestant's last line; None if it failed, and then stderr has its last words.

    Args:
        on_line: told each line of JSON as it comes.
    """
    threads = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    environment = os.environ | dict.fromkeys(threads, str(num_threads))
    command = [
        str(contestant.python),
        "-m",
        contestant.module,
        str(task),
        *contestant.options,
        *options,
    ]
    line: Line | None = None
    with (
        tempfile.TemporaryFile("w+") as trouble,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=trouble
        ) as process,
    ):
        for text in process.stdout or ():
            if text.startswith("{"):
                line = json.loads(text)
                on_line(line)
        if process.wait() == 0:
            return line
        trouble.seek(0)
        last_words = trouble.read().splitlines()[-LINES_OF_TROUBLE:]
    tell(f"{contestant.name}: failed with exit code {process.returncode}", *last_words)
    return None


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Ours beside each rival, in every round, so that each ratio is of neighbours in time.

    Each line is kept at once, so that the same contest goes on where it ended. Lines are of the
    same contest if their `terms` are equal.
    """

    pairs: Sequence[tuple[Contestant, Contestant]]
    options: Sequence[str]
    terms: Line
    results: Path
    num_threads: int
    num_rounds: int

    def hold(
        self, task: Path, *, minutes: float, measured: Callable[[], Line] = dict
    ) -> list[Line]:
        """Runs what is missing, as far as the minutes reach; all lines that there are.

        Args:
            measured: asked after each run for what the contestant did not tell itself.
        """
        lines = [line for line in read_lines(self.results) if line["contest"] == self.terms]
        done = {_place_of(line) for line in lines}
        ends_s = time.perf_counter() + 60 * minutes
        for place, contestant in self._schedule():
            if place in done:
                continue
            began_s = time.perf_counter()
            if began_s + _expected_s(contestant, lines) > ends_s:
                tell("the minutes are over; the same command goes on from here")
                break
            line = run(contestant, task, self.options, num_threads=self.num_threads)
            if line is None:
                continue
            took = {"wall_s": time.perf_counter() - began_s, "contest": self.terms}
            lines.append({"round": place[0], "beside": place[1], **line, **measured(), **took})
            keep_line(self.results, lines[-1])
            tell(f"round {place[0]}, {line['name']}: {line['examples_per_s']:,.0f} examples/s")
        return lines

    def _schedule(self) -> Iterator[tuple[Place, Contestant]]:
        for number in range(self.num_rounds):
            for pair in self.pairs:
                for contestant in pair:
                    yield (number, pair[1].name, contestant.name), contestant


def contest_arguments(description: str) -> argparse.ArgumentParser:
    """The command line that contests of speed share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--environments", type=Path, required=True, help="folder of environments")
    parser.add_argument("--results", type=Path, required=True, help="lines of JSON, appended to")
    parser.add_argument("--num-rounds", type=int, default=3, help="of the whole field")
    parser.add_argument("--num-threads", type=int, default=2, help="of each contestant")
    parser.add_argument("--minutes", type=float, default=9.0, help="begin no run that goes beyond")
    return parser


def lead(
    own: Contestant, other: Contestant, lines: Iterable[Line], rate: str = "examples_per_s"
) -> str:
    """Our rate by that of this rival, neighbours in time: median [least, most]."""
    speed = {_place_of(line): line[rate] for line in lines if line["beside"] == other.name}
    rounds = {number for number, _, _ in speed}
    both = [[(number, other.name, who.name) for who in (own, other)] for number in rounds]
    ratios = [speed[ours] / speed[theirs] for ours, theirs in both if {ours, theirs} <= set(speed)]
    return f"{median(ratios):.1f} [{min(ratios):.1f}, {max(ratios):.1f}]" if ratios else ""


def _place_of(line: Line) -> Place:
    return line["round"], line["beside"], line["name"]


def _expected_s(contestant: Contestant, lines: Iterable[Line]) -> float:
    """The longest that this contestant has taken yet."""
    taken = [line["wall_s"] for line in lines if line["name"] == contestant.name]
    return max(taken, default=FIRST_GUESS_S)


def read_lines(results: Path) -> Iterator[Line]:
    """What earlier calls have kept."""
    if results.exists():
        yield from map(json.loads, results.read_text(encoding="utf-8").splitlines())


def keep_line(results: Path, line: Line) -> None:
    """Appends a line, at once."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def tell(*lines: str) -> None:
    """To stderr; stdout is for the table."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)
