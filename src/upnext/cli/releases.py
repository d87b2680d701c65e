"""The verbs of releases and labels, over one or several servers or none."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from upnext.cli.terminal import AsJson, Registry, print_result, stderr, stdout
from upnext.errors import ConfigError, ReleaseError

if TYPE_CHECKING:
    from upnext.registry.journal import LabelMove, Previous
    from upnext.registry.moves import Moved, Step
    from upnext.registry.overview import Overview

RegistryOrUrl = Annotated[
    str,
    typer.Argument(metavar="REGISTRY", help="Directory of releases, or the URL of storage."),
]
Label = Annotated[str, typer.Argument(metavar="LABEL", help="Such as `stable` or `canary`.")]
Reason = Annotated[str, typer.Option(help="Kept in the journal.")]
ExpectedPrevious = Annotated[
    str | None,
    typer.Option(
        metavar="VERSION", help="Move only if the label stands there now; `none`: nowhere yet."
    ),
]


def releases(registry: RegistryOrUrl, as_json: AsJson = False) -> None:
    """List the releases, which labels point at them and which servers have them loaded."""
    rows = _rows(registry)
    if as_json:
        print_result([asdict(row) for row in rows])
        return
    names = ("version", "labels", "created", "trained until", "items", "MB", "servers")
    table = Table(*names, box=None)
    for row in rows:
        table.add_row(
            str(row.version),
            ", ".join(row.labels),
            row.created_at,
            _or_dash(row.train_until),
            _or_dash(row.num_items),
            f"{row.size_bytes / 1e6:.1f}",
            ", ".join(f"{one.pid} {one.state}" for one in row.servers),
        )
    stdout.print(table)
    for row in rows:
        if row.problem:
            stderr.print(row.problem)
        for one in row.servers:
            if one.cause:
                stderr.print(f"server {one.pid}, release {row.version}: {one.cause}")


def load(
    registry: Registry,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The release to load.")],
) -> None:
    """Make a release ready in every server, without a label."""
    from upnext.registry.moves import load_release

    _say_steps(load_release(registry, version))


def unload(
    registry: Registry,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The release to let go.")],
) -> None:
    """Let every server drop a release that no label needs."""
    from upnext.registry.moves import unload_release

    refuse_missing(registry)
    _say_steps(unload_release(registry, version))


def label(
    registry: RegistryOrUrl,
    name: Label,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The release to point at.")],
    expected_previous: ExpectedPrevious = None,
    reason: Reason = "",
) -> None:
    """Point a label at a release, once it is verified and ready in every server."""
    from upnext.registry.moves import move_label
    from upnext.registry.storage.labels import move_stored_label
    from upnext.registry.storage.objects import is_url, open_storage

    previous, actor = _previous(expected_previous), _actor()
    if is_url(registry):
        storage = open_storage(registry)
        _say_move(
            move_stored_label(
                storage, name, version, expected_previous=previous, actor=actor, reason=reason
            )
        )
        return
    moved = move_label(
        Path(registry), name, version, expected_previous=previous, actor=actor, reason=reason
    )
    _say_moved(moved)


def rollback(
    registry: RegistryOrUrl,
    name: Label,
    expected_previous: ExpectedPrevious = None,
    reason: Reason = "",
) -> None:
    """Point a label at the release that it pointed at before."""
    from upnext.registry.moves import rollback as rollback_
    from upnext.registry.storage.labels import roll_back_stored_label
    from upnext.registry.storage.objects import is_url, open_storage

    previous, actor = _previous(expected_previous), _actor()
    if is_url(registry):
        storage = open_storage(registry)
        _say_move(
            roll_back_stored_label(
                storage, name, expected_previous=previous, actor=actor, reason=reason
            )
        )
        return
    moved = rollback_(Path(registry), name, expected_previous=previous, actor=actor, reason=reason)
    _say_moved(moved)


def refuse_missing(registry: Path) -> None:
    """Raises ReleaseError: there is no such directory."""
    if not registry.is_dir():
        raise ReleaseError(str(registry), expected="a directory of releases", got="none")


def _rows(registry: str) -> "Sequence[Overview]":
    from upnext.registry.overview import overview
    from upnext.registry.storage.objects import is_url
    from upnext.registry.storage.overview import stored_overview

    if is_url(registry):
        return stored_overview(registry)
    refuse_missing(Path(registry))
    return overview(Path(registry))


def _or_dash(value: object) -> str:
    """What a damaged release, or one that another program wrote, does not tell is a dash."""
    return "–" if value is None else str(value)


def _previous(text: str | None) -> "Previous":
    if text is None:
        return "any"
    if text == "none":
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    raise ConfigError("--expected-previous", expected="a version or `none`", got=repr(text))


def _actor() -> str:
    """Who is logged in, for the journal; nobody where the system does not say."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _say_moved(moved: "Moved") -> None:
    _say_steps(moved.steps)
    _say_move(moved.move)


def _say_move(move: "LabelMove") -> None:
    stderr.print(f"{move.label}: {move.from_version or 'nothing'} → {move.to_version}")


def _say_steps(steps: "Sequence[Step]") -> None:
    for step in steps:
        stderr.print(f"{step.after_s:8.3f} s  {step.what}")
