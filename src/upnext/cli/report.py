"""The verb that writes what is known of a release on one page, and what `evaluate` writes too."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from upnext.cli.terminal import Registry, print_result, stderr

DEFAULT_LABEL = "stable"


def report(
    registry: Registry,
    version: Annotated[
        int | None,
        typer.Option(
            metavar="VERSION", help="The release; else that labelled stable, else the newest."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.HTML", help="Else REGISTRY/evaluations/VERSION/report.html."),
    ] = None,
) -> None:
    """Write a page about a release: how good it is, how it was trained, of what; prints its path.

    One file of HTML, which needs no server and no network and runs no script: pictures with their
    tables, in light and dark. What was not evaluated, it says.
    """
    asked = _default_version(registry) if version is None else version
    print_result(str(write_page(registry, asked, out)))


def write_page(registry: Path, version: int, path: Path | None = None) -> Path:
    """Writes all that a registry knows of a release on one page, and says where.

    `path`: else beside the evaluation's report. A damaged release has a page that says so.

    Raises: ReleaseError: there is no such release.
    """
    from upnext.pictures.page import release_page
    from upnext.registry.detail import detail
    from upnext.registry.labels import resolve
    from upnext.registry.training_runs import read_training_run, training_names

    told = detail(registry, resolve(registry, str(version)))
    if told.problem:
        stderr.print(told.problem)
    name = told.lineage.training
    run = read_training_run(registry, name) if name in training_names(registry) else None
    page = release_page(asdict(told), asdict(run) if run else None)
    path = path or registry / "evaluations" / str(version) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


def _default_version(registry: Path) -> int:
    """The release that is labelled stable, else the newest.

    Raises: ReleaseError: there is none at all.
    """
    from upnext.cli.terminal import version_of
    from upnext.registry.labels import read_labels

    stable = read_labels(registry).get(DEFAULT_LABEL)
    return version_of(registry, "latest") if stable is None else stable
