"""The live store, whichever it is: events in, a user's past out, everything once a day to logs."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from upnext.errors import ConfigError
from upnext.events.config import EventsConfig
from upnext.events.event import Event, ServedPage, UserEvents
from upnext.events.group import Appended
from upnext.events.sqlite import SqliteStore
from upnext.schema import Id, LivePast

__all__ = ["Appended", "EventStore", "EventsConfig", "open_store"]


class EventStore(Protocol):
    """What SQLite and Redis both do. Any thread may call anything.

    All raise StoreError where the store cannot be reached, read or written; it stays whole, and
    goes on once the cause is gone.
    """

    @property
    def num_lost_pages(self) -> int:
        """Pages that were lost to a full queue or disk since the store was opened."""

    def append(self, events: Sequence[Event]) -> Appended:
        """Takes events on, durable on return, all or none; of those with one id the first stays.

        After a StoreError it is not known whether they were taken: send them again.

        Raises: RequestError: an event is too old, or too far ahead of now; none is taken then.
        """

    def log_pages(self, pages: Sequence[ServedPage]) -> None:
        """Queues what a server answered, and returns without waiting for the disk; never raises."""

    def past_of(self, user_id: Id, *, since_ms: int, until_ms: int) -> LivePast:
        """What a user did from `since_ms` on and before `until_ms`: the newest of each kind.

        A page counts as shown, unless impressions with its request_id were appended.
        """

    def users(self) -> Iterator[UserEvents]:
        """Everything, one user after another."""

    def kept_since_ms(self) -> int | None:
        """Events before this time may be forgotten already; None: nothing ever was."""

    def check(self) -> None:
        """Writes a line, durably, as an append would. Raises: StoreError: it cannot be written."""

    def close(self) -> None:
        """Writes what waits, then closes. What comes later is refused."""


def open_store(config: EventsConfig) -> EventStore:
    """Opens the store that a config names; a new file of SQLite is made.

    Raises:
        StoreError: it cannot be opened, is not ours or a newer upnext's, or Redis does not promise
            to keep what it has acknowledged.
        ConfigError: the library that Redis needs is not installed.
    """
    match config.store:
        case "sqlite":
            return SqliteStore(config)
        case "redis":
            try:
                from upnext.events.redis import RedisStore
            except ModuleNotFoundError as error:
                if error.name != "redis":
                    raise
                hint = "pip install 'upnext[redis]'"
                raise ConfigError(
                    "[events] store", expected="the library redis", got="none", hint=hint
                ) from None
            return RedisStore(config)
