"""The live store in one file of this machine: SQLite, whose log is synced at every commit.

All that happened to one user lies side by side in one clustered table, in order of kind and time,
so that a past is four short ranges. Each range comes back as one row: a row handed to Python lets
go of the interpreter's lock, and under load every single one may wait to get it back.
"""

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from upnext.errors import StoreError
from upnext.events.config import EventsConfig, refuse_untimely
from upnext.events.event import Event, ImpressionEvent, ServedPage, UserEvents
from upnext.events.group import Appended, Batch, GroupWriter
from upnext.events.past import Found, live_past
from upnext.events.rows import Kind, Row, decode_ids, event_row, page_row, user_events
from upnext.schema import Id, LivePast

FORMAT = 1
APPLICATION = 0x75704E78
"""What marks a file of SQLite as ours, beside its tables."""
USERS_A_STEP = 20
"""Users whose old events one commit forgets."""

# Ids have no declared type, so that the text "7" and the number 7 stay two. `taken`: every event_id
# there is. `seen`: requests of which a client posted impressions, and when the last one was.
_TABLES = f"""
CREATE TABLE happened (
    user_id NOT NULL, kind INTEGER NOT NULL, at_ms INTEGER NOT NULL, event_id TEXT NOT NULL,
    item NOT NULL, amount INTEGER, request_id TEXT, details BLOB,
    PRIMARY KEY (user_id, kind, at_ms, event_id)
) WITHOUT ROWID;
CREATE TABLE taken (event_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE seen (
    user_id NOT NULL, request_id TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (user_id, request_id)
) WITHOUT ROWID;
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT}
"""
_INSERT = "INSERT OR IGNORE INTO happened VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_TAKE = "INSERT OR IGNORE INTO taken VALUES (?)"
_SEE = """
INSERT INTO seen VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET at_ms = max(at_ms, excluded.at_ms)
"""
_FORGET = "DELETE FROM happened WHERE user_id = ? AND kind = ? AND at_ms < ? RETURNING event_id"
_NEXT_USER = "SELECT min(user_id) FROM happened WHERE user_id > ?"
_FIRST_USER = "SELECT min(user_id) FROM happened"
_ALL_OF_USER = """
SELECT kind, at_ms, event_id, item, amount, request_id, details FROM happened
WHERE user_id = ? ORDER BY kind, at_ms, event_id
"""


def _newest(kind: Kind, items: str, amounts: str = "'[]'", condition: str = "true") -> str:
    """One row, or none: the kind, and times, items and amounts as JSON lists, the newest first."""
    # SQLite before 3.39 has no HAVING without GROUP BY, and LIMIT keeps it from making one of this.
    return f"""
    SELECT * FROM (
        SELECT {kind:d}, json_group_array(at_ms) AS times, {items}, {amounts} FROM (
            SELECT user_id, at_ms, event_id, item, amount FROM happened
            WHERE user_id = :user_id AND kind = {kind:d}
            AND at_ms >= :since_ms AND at_ms < :until_ms
            ORDER BY at_ms DESC, event_id DESC
            LIMIT {":max_pages" if kind == Kind.PAGE else ":most"}
        ) AS one WHERE {condition} LIMIT 1
    ) WHERE times != '[]'
    """


_NOTHING, _NO_PAST = ("[]", "[]", "[]"), LivePast()
_UNSEEN = """NOT EXISTS (
    SELECT 1 FROM seen WHERE seen.user_id = one.user_id AND seen.request_id = one.event_id)"""
_PAST = " UNION ALL ".join(
    [
        _newest(Kind.WATCH, "json_group_array(item)", "json_group_array(amount)"),
        _newest(Kind.IMPRESSION, "json_group_array(item)"),
        _newest(Kind.SEARCH, "json_group_array(item)"),
        _newest(Kind.PAGE, "'[' || group_concat(item) || ']'", condition=_UNSEEN),
    ]
)
_numbers = msgspec.json.Decoder(list[int]).decode
_queries = msgspec.json.Decoder(list[str]).decode
_pages = msgspec.json.Decoder(list[list[Id]]).decode


class SqliteStore:
    """An `EventStore` in a file. Several processes may have it open, each opened after its fork.

    Args:
        now_ms: the clock.

    Raises: StoreError: the file cannot be opened, is another program's or of another format.
    """

    def __init__(
        self, config: EventsConfig, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6
    ) -> None:
        self._config, self._now_ms = config, now_ms
        self._path = Path(config.path)
        self._idle_readers: deque[sqlite3.Connection] = deque()
        self._writer: sqlite3.Connection | None = None
        self._walked_to: Id | None = None
        self._forgotten_before_ms: int | None = None
        self._is_closed = False
        with self._as_store_error("a file that can be opened"):
            self._writer = self._connect()
            try:
                _prepare(self._writer, self._path)
            except BaseException:
                self._writer.close()
                raise
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
        """Waits for the next commit."""
        refuse_untimely(events, self._config, self._now_ms())
        return self._group.append(events)

    def log_pages(self, pages: Sequence[ServedPage]) -> None:
        """Goes with a later commit."""
        self._group.log_pages(pages)

    def past_of(self, user_id: Id, *, since_ms: int, until_ms: int) -> LivePast:
        """One statement, which sees one state of the file."""
        most, max_pages = self._config.max_past_events, self._config.max_past_pages
        asked = {"user_id": user_id, "since_ms": since_ms, "until_ms": until_ms}
        with self._reading() as connection:
            limits = {"most": most, "max_pages": max_pages}
            rows = connection.execute(_PAST, asked | limits).fetchall()
        if not rows:
            return _NO_PAST
        of_kind = {kind: columns for kind, *columns in rows}
        watches, impressions, searches, pages = (of_kind.get(kind, _NOTHING) for kind in Kind)
        return live_past(
            watches=Found(_numbers(watches[0]), decode_ids(watches[1])),
            watch_ms=_numbers(watches[2]),
            impressions=Found(_numbers(impressions[0]), decode_ids(impressions[1])),
            pages=Found(_numbers(pages[0]), _pages(pages[1])),
            searches=Found(_numbers(searches[0]), _queries(searches[1])),
            max_shown=most,
        )

    def users(self) -> Iterator[UserEvents]:
        """One range of the table after another."""
        with self._reading() as connection:
            user_id = _next_user(connection, None)
            while user_id is not None:
                rows = connection.execute(_ALL_OF_USER, (user_id,)).fetchall()
                yield user_events(user_id, map(Row._make, rows))
                user_id = _next_user(connection, user_id)

    def kept_since_ms(self) -> int | None:
        """Kept in the file."""
        with self._reading() as connection:
            return _state(connection, "kept_since_ms")

    def check(self) -> None:
        """An empty batch: every commit notes its time."""
        self._group.append(())

    def close(self) -> None:
        """By then every call must have returned."""
        if not self._is_closed:
            self._group.close()
            self._is_closed = True
            for connection in filter(None, [*self._idle_readers, self._writer]):
                connection.close()

    def _commit(self, batches: Sequence[Batch], pages: Sequence[ServedPage]) -> Sequence[Appended]:
        with self._as_store_error("a file that can be written"):
            writer = self._writer = self._writer or self._connect()
            try:
                writer.execute("BEGIN IMMEDIATE")
                results = [_insert(writer, batch) for batch in batches]
                writer.executemany(_INSERT, [(page.user_id, *page_row(page)) for page in pages])
                _set_state(writer, "written_at_ms", self._now_ms())
                self._forget_some(writer)
                writer.execute("COMMIT")
            except BaseException:
                # What is remembered of a disk that failed is not to be trusted: open it anew.
                self._writer = self._walked_to = self._forgotten_before_ms = None
                writer.close()
                raise
        return results

    def _forget_some(self, connection: sqlite3.Connection) -> None:
        """What the next few users did on days that are over; all have their turn once a day."""
        before_ms = self._config.kept_since_ms(self._now_ms())
        if self._forgotten_before_ms is not None and before_ms <= self._forgotten_before_ms:
            return
        kept_since_ms = _state(connection, "kept_since_ms")
        if kept_since_ms is None or kept_since_ms < before_ms:
            _set_state(connection, "kept_since_ms", before_ms)
        for _ in range(USERS_A_STEP):
            self._walked_to = _next_user(connection, self._walked_to)
            if self._walked_to is None:
                self._forgotten_before_ms = before_ms
                return
            _forget(connection, self._walked_to, before_ms)

    def _connect(self) -> sqlite3.Connection:
        wait_s = self._config.write_timeout_ms / 1_000
        connection = sqlite3.connect(
            self._path, timeout=wait_s, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own for a while."""
        if self._is_closed:
            raise StoreError(str(self._path), expected="an open store", got="a closed one")
        with self._as_store_error("a file that can be read"):
            try:
                connection = self._idle_readers.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._idle_readers.append(connection)

    @contextmanager
    def _as_store_error(self, expected: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                str(self._path),
                expected=expected,
                got=f"{error} ({getattr(error, 'sqlite_errorname', 'no code')})",
                hint="is there room on the disk, and may this user write there?",
            ) from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the tables of a new file; refuses one that is not ours, and leaves it as it is."""
    connection.execute("BEGIN IMMEDIATE")
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    is_new = not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if is_new:
        for statement in _TABLES.split(";"):
            connection.execute(statement)
    connection.execute("COMMIT")
    if not is_new and (application, version) != (APPLICATION, FORMAT):
        is_ours = application == APPLICATION
        raise StoreError(
            str(path),
            expected=f"a live store of format {FORMAT}",
            got=f"format {version}" if is_ours else "another program's database",
            hint="is another version of upnext, or another file, meant?",
        )
    journal = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if journal != "wal":
        hint = "a network file system has none."
        raise StoreError(str(path), expected="a write-ahead log", got=str(journal), hint=hint)


def _insert(connection: sqlite3.Connection, batch: Batch) -> Appended:
    num_accepted = 0
    for event in batch:
        if not connection.execute(_TAKE, (event.event_id,)).rowcount:
            continue
        num_accepted += 1
        connection.execute(_INSERT, (event.user_id, *event_row(event)))
        if isinstance(event, ImpressionEvent) and event.request_id is not None:
            connection.execute(_SEE, (event.user_id, event.request_id, event.at_ms))
    return Appended(num_accepted=num_accepted, num_duplicates=len(batch) - num_accepted)


def _next_user(connection: sqlite3.Connection, user_id: Id | None) -> Id | None:
    if user_id is None:
        found = connection.execute(_FIRST_USER)
    else:
        found = connection.execute(_NEXT_USER, (user_id,))
    after: Id | None = found.fetchone()[0]
    return after


def _forget(connection: sqlite3.Connection, user_id: Id, before_ms: int) -> None:
    for kind in Kind:
        gone = connection.execute(_FORGET, (user_id, kind, before_ms)).fetchall()
        if kind != Kind.PAGE:
            connection.executemany("DELETE FROM taken WHERE event_id = ?", gone)
    connection.execute("DELETE FROM seen WHERE user_id = ? AND at_ms < ?", (user_id, before_ms))


def _state(connection: sqlite3.Connection, name: str) -> int | None:
    found = connection.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    return None if found is None else int(found[0])


def _set_state(connection: sqlite3.Connection, name: str, value: int) -> None:
    connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))
