"""The verbs of `upnext export`: what a release has learned, for other tools."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from upnext.cli.terminal import (
    AsJson,
    Registry,
    ReleaseName,
    print_result,
    say,
    stderr,
    stdout,
    time_ms,
    version_of,
)

if TYPE_CHECKING:
    from upnext.recommender import Recommender

exports = typer.Typer(help="Hand what a release has learned to other tools.", no_args_is_help=True)

NewDirectory = Annotated[
    Path, typer.Argument(metavar="OUT", help="A new or empty directory, made whole in one step.")
]
AsOf = Annotated[
    str | None,
    typer.Option("--at", help="Users as of this ISO time or ms, if not of their last event."),
]


@exports.command()
def vectors(
    registry: Registry, out: NewDirectory, at: AsOf = None, release: ReleaseName = "latest"
) -> None:
    """Write all user and item vectors as Parquet, NumPy and word2vec text."""
    from upnext.export.vectors import export_vectors

    at_ms = None if at is None else time_ms(at)
    recommender = _open(registry, release)
    with Progress(console=stderr, transient=True) as progress:
        task = progress.add_task("user vectors", total=None)
        export_vectors(
            recommender,
            out,
            at_ms=at_ms,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    say(f"vectors of release {recommender.release} are in {out}")


@exports.command()
def projector(
    registry: Registry,
    out: NewDirectory,
    max_items: Annotated[
        int, typer.Option(min=0, help="How many items, the most watched first; 0 takes all.")
    ] = 10_000,
    release: ReleaseName = "latest",
) -> None:
    """Write item vectors for TensorBoard's embedding projector."""
    from upnext.export.projector import export_projector

    recommender = _open(registry, release)
    export_projector(recommender, out, max_items=max_items)
    say(f"item vectors of release {recommender.release} are in {out}: tensorboard --logdir {out}")


@exports.command()
def probabilities(
    registry: Registry,
    user: Annotated[str, typer.Option(help="User id.")],
    top: Annotated[int, typer.Option(min=0, help="How many items; 0 takes all.")] = 10,
    at: AsOf = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.PARQUET", help="Write Parquet, and print nothing.")
    ] = None,
    release: ReleaseName = "latest",
    as_json: AsJson = False,
) -> None:
    """Tell how probably a user's next watch is each item, of the whole catalogue."""
    from upnext.export.probabilities import most_probable
    from upnext.schema import UNKNOWN_ROW

    at_ms = None if at is None else time_ms(at)
    recommender = _open(registry, release)
    if recommender.users.row(user) == UNKNOWN_ROW:
        say(f"release {recommender.release} does not know {user!r}: as of somebody without history")
    found = most_probable(recommender, user, k=top, at_ms=at_ms)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        found.write_parquet(out)
    elif as_json:
        print_result(found.to_dicts())
    else:
        table = Table("#", "item", "title", "watches", "probability", box=None)
        for place, item in enumerate(found.iter_rows(named=True), start=1):
            told = [place, item["item_id"], item["title"] or "", item["num_watches"]]
            table.add_row(*map(str, told), f"{item['probability']:.3%}")
        stdout.print(table)


def _open(registry: Path, release: str) -> "Recommender":
    from upnext.recommender import Recommender

    return Recommender.open(registry, version_of(registry, release), num_threads=2)
