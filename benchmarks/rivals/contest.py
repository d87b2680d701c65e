"""Runs contestants, each in a process and a virtual environment of its own, and keeps their lines.

Results are lines of JSON in a file; what stands there already is not run again.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from benchmarks.rivals.task import Task

from upnext import load_public

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("UPNEXT_DATA", ROOT.parent / "shared" / "data"))
LINES_OF_TROUBLE = 15

Line = dict[str, Any]


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
