"""What verbs of the command line share: its two streams, common arguments, how results are told."""

import json
import re
import shlex
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from upnext.errors import ReleaseError, RequestError

PIPE_WIDTH = 200
"""Characters a line of a table that goes to a pipe, where the usual 80 would cut it short."""

EPOCH = datetime.fromtimestamp(0, UTC)

CLEAR_LINE = "\r\x1b[2K"
SECONDS_BETWEEN_LINES = 60
"""In a file of log lines."""

# Ids and titles are the owner's: a "[red]" or ":star:" in them is text.
stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
stdout = Console(
    highlight=False,
    soft_wrap=True,
    markup=False,
    emoji=False,
    width=None if sys.stdout.isatty() else PIPE_WIDTH,
)


def local_directory(told: Path) -> Path:
    """A directory of this machine's, as a verb was told it.

    Raises: ReleaseError: it is a URL, of which a path would make a directory of that name.
    """
    if re.match("[A-Za-z][A-Za-z0-9+.-]+:/", str(told)):
        raise ReleaseError(
            str(told),
            expected="a directory on this machine",
            got="a URL",
            hint="`upnext pull URL REGISTRY --labels` brings releases here, `upnext push` there.",
        )
    return told


LogsDirectory = Annotated[Path, typer.Argument(metavar="LOGS", help="Directory of watch logs.")]
Registry = Annotated[
    Path,
    typer.Argument(metavar="REGISTRY", help="Directory of releases.", callback=local_directory),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="RUN.TOML", help="How to read and to learn.")
]
ReleaseName = Annotated[str, typer.Option("--release", help="A version, a label, or `latest`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def say(line: str) -> None:
    """A line for whoever watches, on stderr."""
    if stderr.is_terminal:
        stderr.file.write(CLEAR_LINE)
    stderr.print(line)


def next_step(*words: object) -> None:
    """What usually comes next, as it is typed, on stderr."""
    say(f"next: {shlex.join(['upnext', *map(str, words)])}")


class ProgressLine:
    """Where long work stands: on a terminal one line that is written over, else a line a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.told_at_s = clock()

    def tell(self, text: str) -> None:
        """Where it stands now."""
        if stderr.is_terminal:
            stderr.file.write(f"{CLEAR_LINE}{text}")
            stderr.file.flush()
        elif self.clock() - self.told_at_s >= SECONDS_BETWEEN_LINES:
            self.told_at_s = self.clock()
            stderr.print(text)


def print_result(result: Any) -> None:
    """Text as it is, or plain values as JSON, on stdout."""
    if isinstance(result, str):
        sys.stdout.write(result.rstrip("\n") + "\n")
    else:
        sys.stdout.write(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def version_of(registry: Path, release: str) -> int:
    """The version that a name means: a version, a label, or `latest`.

    Raises: ReleaseError: there is no such release, or none at all.
    """
    from upnext.registry.labels import resolve
    from upnext.registry.release import list_releases

    if release != "latest":
        return resolve(registry, release)
    if there := list_releases(registry):
        return max(there)
    hint = "`upnext train LOGS REGISTRY` publishes one."
    raise ReleaseError(str(registry), expected="a release", got="none", hint=hint)


def time_ms(text: str, *, flag: str = "--at") -> int:
    """A time as a person or a program writes it, in milliseconds since 1970 in UTC.

    ISO 8601, in UTC unless it says otherwise; or such milliseconds themselves, where 9 digits or
    more leave no doubt that they are no date.

    >>> time_ms("2027-01-15T09:00+01:00"), time_ms("2027-01-15 08:00"), time_ms("1800000000000")
    (1800000000000, 1800000000000, 1800000000000)

    Raises: RequestError: it is neither; the error names the flag.
    """
    try:
        if re.fullmatch("[0-9]{9,}", text):
            moment = EPOCH + timedelta(milliseconds=int(text))
        else:
            moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        hint = "milliseconds since 1970 in UTC, of 9 digits or more, are understood as well."
        raise RequestError(flag, expected="an ISO time", got=repr(text), hint=hint) from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(milliseconds=1)
