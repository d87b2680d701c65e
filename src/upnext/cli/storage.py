"""The verbs that copy releases and labels between a registry and storage that machines share."""

from typing import Annotated

import typer

from upnext.cli.terminal import ProgressLine, Registry, print_result, say

Url = Annotated[
    str, typer.Argument(metavar="URL", help="Storage, such as s3://bucket/prefix or file:///path.")
]
Releases = Annotated[
    list[str] | None, typer.Argument(metavar="RELEASE...", help="Versions or labels.")
]


def push(
    registry: Registry,
    url: Url,
    releases: Releases = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Labels there move to where they stand here.")
    ] = False,
) -> None:
    """Publish releases on storage too; prints their versions.

    Without RELEASE all of them. What is there already is not sent again, and a push that was cut
    short goes on.
    """
    from upnext.registry.storage.push import push as push_

    copied = push_(
        registry, url, releases or (), labels=labels, say=say, on_progress=ProgressLine().tell
    )
    print_result("\n".join(str(one.version) for one in copied))


def pull(
    url: Url,
    registry: Registry,
    releases: Releases = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Labels here move as they have moved there.")
    ] = False,
    follow: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="Look again so often, until Ctrl-C."),
    ] = None,
) -> None:
    """Publish releases of storage in a registry too; prints their versions.

    Without RELEASE those that labels there point at. Every file is hashed on its way, and a pull
    that was cut short goes on. With `--labels` servers of the registry load a release before its
    label moves, and nothing is printed; `--follow` does that whenever a label has moved on storage.
    """
    from upnext.registry.storage.mirror import keep_mirroring, mirror
    from upnext.registry.storage.pull import pull as pull_

    tell = ProgressLine().tell
    if releases or not (labels or follow):
        copied = pull_(url, registry, releases or (), say=say, on_progress=tell)
        print_result("\n".join(str(one.version) for one in copied))
    if follow:
        keep_mirroring(url, registry, follow, say=say, on_progress=tell)
    elif labels:
        mirror(url, registry, say=say, on_progress=tell)
