"""The live store of many machines: Redis or Valkey, which sync every write before they answer.

Four sorted sets a user, one for each kind, scored by time. A member is the event_id, what a past
tells of it in JSON, and a page's details, with null bytes between them: equal times so fall in
order of event_id, as they do in SQLite. What must not come apart is one script, and one round trip:
all that waits is appended by one, a past is read by another.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import msgspec
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from upnext.errors import ConfigError, StoreError
from upnext.events.config import EventsConfig, refuse_untimely
from upnext.events.event import Event, ImpressionEvent, ServedPage, UserEvents
from upnext.events.group import Appended, Batch, GroupWriter
from upnext.events.past import Found, live_past
from upnext.events.rows import Kind, Row, decode_ids, event_row, page_row, user_events
from upnext.schema import MS_PER_DAY, Id, LivePast

FORMAT = 1
OLDEST_VERSION = 7
"""Of Redis; a Valkey calls itself a Redis 7.2."""
USERS_A_STEP = 20
"""Users whose old events one append forgets."""
USERS_AT_ONCE = 500
"""User ids that are listed in one round trip."""

# Arguments: prefix, now, what is forgotten lies before ('' forgets nothing), where among users that
# begins, how many users; then for each row user, kind, id, the id's time to live, time, member, and
# the request that the user has posted impressions of, or ''. Answers 1 for each new row, and the
# last user that was walked past.
_APPEND = """
local prefix, now, before = ARGV[1], ARGV[2], ARGV[3]
local function key(kind, user) return prefix .. ':' .. kind .. ':' .. user end
local fresh = {}
for i = 6, #ARGV, 7 do
  local user, is_fresh = ARGV[i], 0
  if redis.call('SET', prefix .. ':id:' .. ARGV[i + 2], '', 'NX', 'PX', ARGV[i + 3]) then
    is_fresh = 1
    redis.call('ZADD', key(ARGV[i + 1], user), ARGV[i + 4], ARGV[i + 5])
    redis.call('ZADD', prefix .. ':users', 0, user)
    if ARGV[i + 6] ~= '' then
      redis.call('ZADD', key('seen', user), 'GT', ARGV[i + 4], ARGV[i + 6])
    end
  end
  fresh[#fresh + 1] = is_fresh
end
local walked_to = ''
if before ~= '' then
  local kept = redis.call('GET', prefix .. ':kept_since_ms')
  if not kept or tonumber(kept) < tonumber(before) then
    redis.call('SET', prefix .. ':kept_since_ms', before)
  end
  local users = redis.call(
    'ZRANGE', prefix .. ':users', ARGV[4], '+', 'BYLEX', 'LIMIT', 0, ARGV[5])
  for _, user in ipairs(users) do
    local left = 0
    for _, kind in ipairs({0, 1, 2, 3, 'seen'}) do
      redis.call('ZREMRANGEBYSCORE', key(kind, user), '-inf', '(' .. before)
      left = left + redis.call('ZCARD', key(kind, user))
    end
    if left == 0 then redis.call('ZREM', prefix .. ':users', user) end
    walked_to = user
  end
end
redis.call('SET', prefix .. ':written_at_ms', now)
return {fresh, walked_to}
"""
# Arguments: prefix, user, from when on, until when, how many of each, how many pages.
_PAST = """
local prefix, user = ARGV[1], ARGV[2]
local function newest(kind, most)
  local key = prefix .. ':' .. kind .. ':' .. user
  local found = {}
  for _, member in ipairs(redis.call(
      'ZRANGE', key, '(' .. ARGV[4], ARGV[3], 'BYSCORE', 'REV', 'LIMIT', 0, most)) do
    local first = string.find(member, '\\0', 1, true)
    local id = string.sub(member, 1, first - 1)
    if kind ~= 3 or not redis.call('ZSCORE', prefix .. ':seen:' .. user, id) then
      local second = string.find(member, '\\0', first + 1, true)
      found[#found + 1] = string.sub(member, first + 1, second - 1)
    end
  end
  return '[' .. table.concat(found, ',') .. ']'
end
return {newest(0, ARGV[5]), newest(1, ARGV[5]), newest(2, ARGV[5]), newest(3, ARGV[6])}
"""

T = TypeVar("T")
Told = tuple[int, Id, int | None, str | None]
"""When, the item, the amount and the request_id: a row without its kind, event_id and details."""

_decode_told = msgspec.json.Decoder(Told).decode
_decode_all_told = msgspec.json.Decoder(list[Told]).decode


class RedisStore:
    """An `EventStore` in Redis 7 or Valkey. Any number of machines may share it.

    Raises: StoreError: it cannot be reached, is too old, holds another format, or does not promise
        to keep what it has acknowledged.
    """

    def __init__(
        self, config: EventsConfig, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6
    ) -> None:
        self._config, self._now_ms = config, now_ms
        self._reader = _client(config, config.read_timeout_ms)
        self._writer = _client(config, config.write_timeout_ms)
        # Without what may be a password.
        pool = self._writer.connection_pool.connection_kwargs
        self._where = f"redis at {pool.get('host', pool.get('path'))}:{pool.get('port', '')}"
        self._append_script = self._writer.register_script(_APPEND)
        self._past_script = self._reader.register_script(_PAST)
        self._walked_to = b""
        self._forgotten_before_ms: int | None = None
        self._is_closed = False
        with self._as_store_error():
            _check_server(self._writer, config, self._where)
        self._group = GroupWriter(
            self._commit,
            max_waiting_pages=config.max_waiting_pages,
            pages_wait_s=config.pages_wait_ms / 1_000,
        )

    @property
    def num_lost_pages(self) -> int:
        """As all below, see `EventStore`."""
        return self._group.num_lost_pages

    def append(self, events: Sequence[Event]) -> Appended:
        """Goes with the next round trip."""
        refuse_untimely(events, self._config, self._now_ms())
        return self._group.append(events)

    def log_pages(self, pages: Sequence[ServedPage]) -> None:
        """Goes with a later round trip."""
        self._group.log_pages(pages)

    def past_of(self, user_id: Id, *, since_ms: int, until_ms: int) -> LivePast:
        """One script."""
        most, max_pages = self._config.max_past_events, self._config.max_past_pages
        asked: list[str | int] = [self._config.key_prefix, _user_key(user_id), since_ms, until_ms]
        with self._as_store_error():
            found = cast(list[bytes], self._past_script(args=[*asked, most, max_pages]))
        watches, impressions, searches, pages = map(_decode_all_told, found)
        return live_past(
            watches=_found(watches, _item),
            watch_ms=[row[2] or 0 for row in watches],
            impressions=_found(impressions, _item),
            pages=_found(pages, lambda row: decode_ids(str(row[1]))),
            searches=_found(searches, lambda row: str(row[1])),
            max_shown=most,
        )

    def users(self) -> Iterator[UserEvents]:
        """In order of their keys; one round trip a user."""
        start = b"-"
        while users := self._users_from(start):
            for user in users:
                yield user_events(_user_id(user), self._rows_of(user))
            start = b"(" + users[-1]

    def kept_since_ms(self) -> int | None:
        """Kept in Redis."""
        with self._as_store_error():
            kept = self._writer.get(f"{self._config.key_prefix}:kept_since_ms")
        return None if kept is None else int(cast(bytes, kept))

    def check(self) -> None:
        """An empty batch: every append notes its time."""
        self._group.append(())

    def close(self) -> None:
        """By then every call must have returned."""
        if not self._is_closed:
            self._group.close()
            self._is_closed = True
            self._reader.close()
            self._writer.close()

    def _commit(self, batches: Sequence[Batch], pages: Sequence[ServedPage]) -> Sequence[Appended]:
        now_ms = self._now_ms()
        rows: list[Any] = []
        for event in (event for batch in batches for event in batch):
            seen = event.request_id if isinstance(event, ImpressionEvent) else None
            row = event_row(event)
            rows += self._arguments(event.user_id, row, row.event_id, seen or "", now_ms)
        for page in pages:
            row = page_row(page)
            row_id = f"{_user_key(page.user_id)}\0{row.at_ms}\0{row.event_id}"
            rows += self._arguments(page.user_id, row, row_id, "", now_ms)
        fresh = iter(self._append_rows(rows, now_ms))
        results = []
        for batch in batches:
            num_accepted = sum(next(fresh) for _ in batch)
            num_duplicates = len(batch) - num_accepted
            results.append(Appended(num_accepted=num_accepted, num_duplicates=num_duplicates))
        return results

    def _append_rows(self, rows: Sequence[Any], now_ms: int) -> Sequence[int]:
        """1 for each new row; days that are over are forgotten as well, of the next few users."""
        before_ms = self._config.kept_since_ms(now_ms)
        is_due = self._forgotten_before_ms is None or before_ms > self._forgotten_before_ms
        start = b"(" + self._walked_to if self._walked_to else b"-"
        walk = [before_ms if is_due else "", start, USERS_A_STEP]
        with self._as_store_error():
            fresh, walked_to = self._append_script(
                args=[self._config.key_prefix, now_ms, *walk, *rows]
            )
        if is_due:
            self._walked_to = walked_to
            if not walked_to:
                self._forgotten_before_ms = before_ms
        return cast(list[int], fresh)

    def _arguments(self, user_id: Id, row: Row, row_id: str, seen: str, now_ms: int) -> list[Any]:
        # An id may be forgotten once its event would be refused as too old.
        lives_ms = row.at_ms - now_ms + round((self._config.retention_days + 2) * MS_PER_DAY)
        told: Told = (row.at_ms, row.item, row.amount, row.request_id)
        parts = (row.event_id.encode(), msgspec.json.encode(told), row.details or b"")
        place = [_user_key(user_id), int(row.kind), row_id, max(1, lives_ms)]
        return [*place, row.at_ms, b"\0".join(parts), seen]

    def _users_from(self, start: bytes) -> list[bytes]:
        with self._as_store_error():
            found = self._writer.zrange(
                f"{self._config.key_prefix}:users",
                start,
                "+",
                bylex=True,
                offset=0,
                num=USERS_AT_ONCE,
            )
        return cast(list[bytes], found)

    def _rows_of(self, user: bytes) -> Iterator[Row]:
        with self._as_store_error(), self._writer.pipeline(transaction=True) as pipeline:
            for kind in Kind:
                key = f"{self._config.key_prefix}:{kind:d}:".encode() + user
                pipeline.zrange(key, 0, -1)
            of_kinds = pipeline.execute()
        for kind, members in zip(Kind, of_kinds, strict=True):
            for member in members:
                event_id, told, details = member.split(b"\0", maxsplit=2)
                at_ms, item, amount, request_id = _decode_told(told)
                yield Row(kind, at_ms, event_id.decode(), item, amount, request_id, details)

    @contextmanager
    def _as_store_error(self) -> Iterator[None]:
        if self._is_closed:
            raise StoreError(self._where, expected="an open store", got="a closed one")
        try:
            yield
        except (RedisError, OSError) as error:
            raise StoreError(
                self._where,
                expected="a Redis that takes and gives events",
                got=f"{type(error).__name__}: {error}".rstrip("."),
                hint="does it run, has it room, and do `url` and its password fit?",
            ) from error


def _client(config: EventsConfig, timeout_ms: int) -> Redis:
    """A pool of connections. One that broke while it lay idle is opened anew, once; none waits.

    Raises: ConfigError: the URL cannot be understood.
    """
    try:
        return Redis.from_url(
            config.url,
            protocol=2,
            socket_timeout=timeout_ms / 1_000,
            socket_connect_timeout=timeout_ms / 1_000,
            retry=Retry(NoBackoff(), 1, supported_errors=(NotConnected,)),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
    except ValueError:  # which may quote the URL, and so a password
        expected = "redis://, rediss:// or unix:// and where Redis listens"
        raise ConfigError("[events] url", expected=expected, got="another form") from None


def _check_server(client: Redis, config: EventsConfig, where: str) -> None:
    """Refuses a server that is too old, may lose what it acknowledged, or has another format."""
    version = str(client.info("server")["redis_version"])
    if int(version.split(".")[0]) < OLDEST_VERSION:
        raise StoreError(where, expected=f"Redis {OLDEST_VERSION} or later", got=version)
    if not config.trust_durability:
        _check_durability(client, where)
    key = f"{config.key_prefix}:format"
    client.set(key, FORMAT, nx=True)
    if (found := cast(bytes, client.get(key)).decode()) != str(FORMAT):
        hint = "is another version of upnext meant, or another `key_prefix`?"
        raise StoreError(where, expected=f"format {FORMAT}", got=found, hint=hint)


def _check_durability(client: Redis, where: str) -> None:
    names = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
    try:
        there = cast(dict[str, str], client.config_get(*names))
    except ResponseError as error:
        raise StoreError(
            where,
            expected="to be told by CONFIG GET whether writes are synced",
            got=str(error),
            hint="if you know that it runs with appendonly yes and appendfsync always, set "
            "trust_durability = true.",
        ) from error
    faults = [
        f"{name} {there[name]}"
        for name, value in (("appendonly", "yes"), ("appendfsync", "always"))
        if there[name] != value
    ]
    if there["maxmemory"] != "0" and there["maxmemory-policy"] != "noeviction":
        faults.append(f"maxmemory-policy {there['maxmemory-policy']}")
    if faults:
        raise StoreError(
            where,
            expected="appendonly yes, appendfsync always and no eviction",
            got=", ".join(faults),
            hint="else it loses events that it has acknowledged; trust_durability = true takes "
            "that risk.",
        )


def _user_key(user_id: Id) -> str:
    """The text "7" and the number 7 are two users."""
    return f"i{user_id}" if isinstance(user_id, int) else f"s{user_id}"


def _user_id(key: bytes) -> Id:
    text = key[1:].decode()
    return int(text) if key[:1] == b"i" else text


def _item(told: Told) -> Id:
    return told[1]


def _found(all_told: Sequence[Told], what: Callable[[Told], T]) -> Found[T]:
    return Found([told[0] for told in all_told], [what(told) for told in all_told])
