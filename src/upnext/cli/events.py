"""The verb `collect`: from the live store back to logs."""

import time
from pathlib import Path
from typing import Annotated

import typer

from upnext.cli.terminal import AsJson, LogsDirectory, print_result, time_ms
from upnext.errors import StoreError
from upnext.events.config import EventsConfig

Store = Annotated[
    str, typer.Argument(metavar="STORE", help="File of the live store, or its redis:// URL.")
]


def collect(
    store: Store,
    logs: LogsDirectory,
    since: Annotated[
        str | None, typer.Option(help="Only the day of this ISO time or ms, and later ones.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only what happened before this ISO time or ms; now.")
    ] = None,
    watched_within: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="HOURS",
            help="How long after it was shown an item counts as watched because of that.",
        ),
    ] = 6.0,
    as_json: AsJson = False,
) -> None:
    """Write what the live store holds as logs, a file a day, for the next `train`.

    Days are written anew, so that it may run as often as one likes: LOGS/watches/live-DAY.parquet,
    and likewise impressions and searches. An impression is written once the time in which it may
    still be watched is over.
    """
    from upnext.events.collect import collect as collect_
    from upnext.events.store import open_store
    from upnext.schema import MS_PER_HOUR

    now_ms = time.time_ns() // 10**6
    until_ms = now_ms if until is None else min(now_ms, time_ms(until, flag="--until"))
    since_ms = 0 if since is None else time_ms(since, flag="--since")
    opened = open_store(_config(store))
    try:
        collected = collect_(
            opened,
            logs,
            since_ms=since_ms,
            until_ms=until_ms,
            watched_within_ms=round(watched_within * MS_PER_HOUR),
        )
    finally:
        opened.close()
    print_result(collected.to_dict() if as_json else collected.to_text())


def _config(store: str) -> EventsConfig:
    if store.startswith(("redis://", "rediss://", "unix://")):
        # Whoever only reads need not be promised that writes last.
        return EventsConfig(store="redis", url=store, trust_durability=True)
    if not Path(store).is_file():
        raise StoreError(store, expected="a file of the live store", got="none")
    return EventsConfig(path=store)
