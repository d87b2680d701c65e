"""The section [events] of `serve.toml`: which store, what it keeps, how long it may take."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from upnext.config import require
from upnext.errors import ConfigError, RequestError
from upnext.events.event import Event
from upnext.schema import MS_PER_DAY


@dataclass(frozen=True, kw_only=True)
class EventsConfig:
    """The live store: where watches, impressions and searches go as they happen."""

    store: Literal["sqlite", "redis"] = "sqlite"
    """A file, for one machine and without another program, or a Redis or Valkey, for many."""

    path: str = "events.sqlite"
    """SQLite's file; two more lie beside it while it is open. No network file system."""

    url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    """Where Redis listens; `rediss://` for TLS. One primary, no cluster."""

    key_prefix: str = "upnext"
    """What all keys in Redis begin with."""

    trust_durability: bool = False
    """True: Redis is not asked whether it syncs each write to disk before it answers, because it
    will not tell. An acknowledged event may then be lost if it does not."""

    retention_days: float = 90.0
    """Older events are refused, and forgotten a day later; `upnext collect` them before."""

    max_past_events: int = 2_000
    """Watches, items shown and searches of a user that one request looks back on, the newest of
    each."""

    max_past_pages: int = 200
    """Served pages of a user that one request looks back on, the newest."""

    max_waiting_pages: int = 10_000
    """Served pages that may wait to be written; those beyond are lost, and counted."""

    pages_wait_ms: int = 100
    """How long a served page waits for others to be written together with."""

    read_timeout_ms: int = 50
    """How long a request waits for a user's past, in milliseconds, where the store is remote."""

    write_timeout_ms: int = 2_000
    """How long events wait for the store, in milliseconds: for SQLite's other processes, or for
    Redis."""

    def __post_init__(self) -> None:
        positive = ["max_past_events", "max_past_pages", "max_waiting_pages", "read_timeout_ms"]
        at_least = dict.fromkeys([*positive, "write_timeout_ms"], 1) | {"pages_wait_ms": 0}
        require("events", self, at_least=at_least, above={"retention_days": 0})
        if not re.fullmatch("[A-Za-z0-9_.-]+", self.key_prefix):
            expected = "letters, digits, dots, hyphens and underscores"
            raise ConfigError("[events] key_prefix", expected=expected, got=repr(self.key_prefix))

    def kept_since_ms(self, now_ms: int) -> int:
        """The start of the first UTC day that may not be forgotten yet.

        A whole day before what is still accepted, so that no day that is still filled is forgotten.
        """
        oldest_ms = now_ms - round((self.retention_days + 1) * MS_PER_DAY)
        return oldest_ms // MS_PER_DAY * MS_PER_DAY


def refuse_untimely(events: Sequence[Event], config: EventsConfig, now_ms: int) -> None:
    """Refuses events that no store would keep, or that a wrong clock has dated.

    Raises: RequestError: an event is older than the retention, or more than a day ahead of now.
    """
    first_ms = now_ms - round(config.retention_days * MS_PER_DAY)
    for place, event in enumerate(events):
        if not first_ms <= event.at_ms <= now_ms + MS_PER_DAY:
            raise RequestError(
                f"events[{place}]",
                expected=f"a time from {first_ms} to {now_ms + MS_PER_DAY} ms",
                got=str(event.at_ms),
                hint=f"events are kept for {config.retention_days:g} days; is the clock right?",
            )
