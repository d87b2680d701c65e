"""What is to be recommended to whom: the fields of a form, the URL that holds them, the request."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlencode

from upnext.console.asked import VERSION
from upnext.console.client import Json
from upnext.console.forms import Fields, finite, number, number_in
from upnext.errors import RequestError
from upnext.schema import Id

PATH = "/recommend"
NUM_REASONS = 6
MAX_HISTORY = 100
LAST_MS = 253_402_300_799_999
"""The end of the year 9999."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One watch of a history made by hand; None: to the end."""

    item_id: str
    watch_time_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Question:
    """All that a visitor may say; each field has the name that it has in the URL, but for these.

    `release`: a label or the digits of a version, in the URL `label` or `version`; None leaves it
    to traffic. `beside`: another one, to compare with. `history`: repeated, the oldest first, with
    a `watched_s` for each. `why`: the item that shall be explained. `asks_token`: whether forms
    that tell events ask for a token, because the server wants one.
    """

    user_id: str | None = None
    history: tuple[Watched, ...] = ()
    k: int = 10
    release: str | None = None
    beside: str | None = None
    at_ms: int | None = None
    exclude_watched: bool = True
    diversity: float | None = None
    max_per_channel: int | None = None
    num_fresh: int | None = None
    num_explored: int | None = None
    seed: int | None = None
    why: str | None = None
    asks_token: bool = False

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Reads a URL; an empty field is as good as none.

        Raises: RequestError: a number or a time is none.
        """
        k = number_in(fields, "k", int, "a whole number")
        release = fields.get("version") or fields.get("label") or None
        if release is not None and release.isdecimal():
            release = str(number(release, "version", int, "a whole number"))
        return cls(
            user_id=fields.get("user_id") or None,
            history=_history(fields),
            k=cls.k if k is None else k,
            release=release,
            beside=fields.get("beside") or None,
            at_ms=number_in(
                fields, "at_ms", _time_ms, "milliseconds, or a time such as 2026-02-03T18"
            ),
            exclude_watched=fields.get("exclude_watched") != "0",
            diversity=number_in(fields, "diversity", finite, "a number"),
            max_per_channel=number_in(fields, "max_per_channel", int, "a whole number"),
            num_fresh=number_in(fields, "num_fresh", int, "a whole number"),
            num_explored=number_in(fields, "num_explored", int, "a whole number"),
            seed=number_in(fields, "seed", int, "a whole number"),
            why=fields.get("why") or None,
            asks_token=fields.get("asks_token") == "1",
        )

    def url(self, **more: object) -> str:
        """The page that shows it; `more`: fields of the page that are no part of the question."""
        plain = {
            "user_id": self.user_id,
            **self.of_release(),
            "beside": self.beside,
            "k": self.k,
            "at_ms": self.at_ms,
            "exclude_watched": None if self.exclude_watched else 0,
            **self._page(),
            "why": self.why,
            "asks_token": 1 if self.asks_token else None,
            **more,
        }
        pairs = [(name, str(value)) for name, value in plain.items() if value is not None]
        for one in self.history:
            spent = "" if one.watch_time_s is None else str(one.watch_time_s)
            pairs += [("history", one.item_id), ("watched_s", spent)]
        return f"{PATH}?{urlencode(pairs)}"

    def but(self, **changes: Any) -> Self:
        """Another one that differs in some fields."""
        return replace(self, **changes)

    def with_watched(self, item_id: Id) -> Self:
        """Another one, in whose history an item was watched last, to the end."""
        return self.but(history=(*self.history, Watched(item_id=str(item_id))))

    def without(self, place: int) -> Self:
        """Another one, whose history lacks the watch in a place."""
        return self.but(history=self.history[:place] + self.history[place + 1 :])

    @property
    def has_page_options(self) -> bool:
        """Whether it asks more of the page than long watches."""
        return not self.exclude_watched or any(value is not None for value in self._page().values())

    def of_release(self) -> dict[str, str | int | None]:
        """How questions to the server name the release."""
        if self.release is not None and re.fullmatch(VERSION, self.release):
            return {"version": int(self.release)}
        return {"label": self.release}

    def body(self, user_id: Id | None) -> Json:
        """What is asked of the server; nobody is shown the page, so it is never logged.

        `user_id`: in the owner's own type.
        """
        told = {
            "user_id": user_id,
            "history": [_past_watch(one) for one in self.history] or None,
            "k": self.k,
            "at_ms": self.at_ms,
            "exclude_watched": self.exclude_watched,
            "page": {name: value for name, value in self._page().items() if value is not None},
            "num_reasons": None if self.why is None else NUM_REASONS,
            **self.of_release(),
            "is_logged": False,
        }
        return {name: value for name, value in told.items() if value not in (None, {})}

    def _page(self) -> dict[str, float | None]:
        return {
            "diversity": self.diversity,
            "max_per_channel": self.max_per_channel,
            "num_fresh": self.num_fresh,
            "num_explored": self.num_explored,
            "seed": self.seed,
        }


def time_field(at_ms: int | None) -> str:
    """A time as the fields of forms write it, in UTC.

    >>> time_field(1770163331123), time_field(None)
    ('2026-02-04T00:02:11.123', '')
    """
    if at_ms is None:
        return ""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _history(fields: Fields) -> tuple[Watched, ...]:
    items = fields.getlist("history")
    if len(items) > MAX_HISTORY:
        got = f"{len(items):,}"
        raise RequestError("history", expected=f"up to {MAX_HISTORY} items", got=got)
    spent = [*fields.getlist("watched_s"), *[""] * len(items)]
    return tuple(
        Watched(item_id=item_id, watch_time_s=number(text, "watched_s", finite, "seconds"))
        for item_id, text in zip(items, spent, strict=False)
        if item_id
    )


def _past_watch(one: Watched) -> Json:
    told: Json = {"item_id": one.item_id}
    return told if one.watch_time_s is None else told | {"watch_time_s": one.watch_time_s}


def _time_ms(text: str) -> int:
    """Milliseconds as such, or a time as forms send it, which is one of UTC.

    >>> _time_ms("1770163331123"), _time_ms("2026-02-04T00:02:11.123")
    (1770163331123, 1770163331123)
    """
    if text.strip().isdecimal():
        at_ms = int(text)
    else:
        moment = datetime.fromisoformat(text)
        at_ms = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e3)
    if not 0 <= at_ms <= LAST_MS:
        raise ValueError
    return at_ms
