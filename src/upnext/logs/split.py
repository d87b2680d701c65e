"""Train, validation and test, parted by time: nothing is learned from what comes later."""

from dataclasses import dataclass, replace

import polars as pl

from upnext.errors import DataError
from upnext.schema import MS_PER_DAY, Impressions, Logs, Searches, Watches


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Three parts of one log, each strictly later than the one before; all know all items, users.

    `validation_from_ms`, `test_from_ms`: the part holds the events from this time on. None where
    each user has times of their own, as in `split_last_event`.
    """

    train: Logs
    validation: Logs
    test: Logs
    validation_from_ms: int | None = None
    test_from_ms: int | None = None

    @property
    def train_and_validation(self) -> Logs:
        """All that comes before the test."""
        first, second = self.train, self.validation
        impressions = [logs.impressions.frame for logs in (first, second) if logs.impressions]
        searches = [logs.searches.frame for logs in (first, second) if logs.searches]
        return replace(
            first,
            watches=Watches(pl.concat([first.watches.frame, second.watches.frame])),
            impressions=Impressions(pl.concat(impressions)) if impressions else None,
            searches=Searches(pl.concat(searches)) if searches else None,
        )


def split_by_time(
    logs: Logs, *, validation_days: float, test_days: float, train_days: float = 0.0
) -> Split:
    """The last `test_days` are the test, the `validation_days` before them validation.

        train < validation_from_ms ≤ validation < test_from_ms ≤ test ≤ last event

    Both are counted back from the end of the last event's millisecond, whatever its table.
    `train_days` limits training to so many days before validation; 0 takes all there are.

    Raises:
        DataError: a length is not above 0 days, or a part would have no watches.
    """
    if not (validation_days > 0 and test_days > 0):
        raise DataError(
            "split_by_time",
            expected="lengths above 0 days",
            got=f"validation_days {validation_days:g}, test_days {test_days:g}",
        )
    last_ms = _last_ms(logs)
    cuts = time_cuts(
        last_ms, validation_days=validation_days, test_days=test_days, train_days=train_days
    )
    parts = {
        "train": _between(logs, cuts.train_from_ms, cuts.validation_from_ms),
        "validation": _between(logs, cuts.validation_from_ms, cuts.test_from_ms),
        "test": _between(logs, cuts.test_from_ms, None),
    }
    for name, part in parts.items():
        if part.watches.frame.is_empty():
            raise _empty_part(name, logs, last_ms + 1, validation_days + test_days)
    return Split(
        **parts, validation_from_ms=cuts.validation_from_ms, test_from_ms=cuts.test_from_ms
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeCuts:
    """From when on each part has its events; training takes all there are where it is None."""

    train_from_ms: int | None
    validation_from_ms: int
    test_from_ms: int


def time_cuts(
    last_ms: int, *, validation_days: float, test_days: float, train_days: float
) -> TimeCuts:
    """Counted back from the end of the millisecond of the last event.

    >>> cuts = time_cuts(4 * MS_PER_DAY - 1, validation_days=1, test_days=0.5, train_days=0)
    >>> cuts.validation_from_ms / MS_PER_DAY, cuts.test_from_ms / MS_PER_DAY
    (2.5, 3.5)
    """
    test_from_ms = last_ms + 1 - round(test_days * MS_PER_DAY)
    validation_from_ms = test_from_ms - round(validation_days * MS_PER_DAY)
    train_from_ms = validation_from_ms - round(train_days * MS_PER_DAY) if train_days else None
    return TimeCuts(
        train_from_ms=train_from_ms,
        validation_from_ms=validation_from_ms,
        test_from_ms=test_from_ms,
    )


def split_last_event(logs: Logs) -> Split:
    """Each user's last watch is the test, the one before it validation, the rest train.

    Of watches at one time the later row counts as the later watch. A user with fewer than 3
    watches stays whole in train. Impressions and searches of a user at or after the time of that
    user's validation watch are left out of train and belong to no part, for they would tell what
    comes next; validation and test hold watches alone. Only the order of times counts, so logs
    whose times are 0, 1, 2, … are welcome.

    Raises:
        DataError: no user has 3 watches.
    """
    watches = logs.watches.frame
    num_watches = pl.len().over("user_id")
    place = pl.col("started_at_ms").rank("ordinal").over("user_id")
    num_later = watches.select(
        pl.when(num_watches >= 3).then(num_watches - place).alias("num_later")
    ).to_series()
    validation = watches.filter(num_later == 1)
    if validation.is_empty():
        raise DataError(
            "split_last_event",
            expected="a user with at least 3 watches",
            got=f"{watches['user_id'].n_unique()} users with fewer",
        )
    ends = validation.select("user_id", end_ms="started_at_ms")
    train = Logs(
        watches=Watches(watches.filter((num_later > 1).fill_null(True))),
        items=logs.items,
        users=logs.users,
        impressions=logs.impressions
        and Impressions(_before(logs.impressions.frame, "shown_at_ms", ends)),
        searches=logs.searches and Searches(_before(logs.searches.frame, "searched_at_ms", ends)),
    )
    watches_alone = replace(logs, impressions=None, searches=None)
    return Split(
        train=train,
        validation=replace(watches_alone, watches=Watches(validation)),
        test=replace(watches_alone, watches=Watches(watches.filter(num_later == 0))),
    )


def _before(events: pl.DataFrame, time: str, ends: pl.DataFrame) -> pl.DataFrame:
    """The events of each user before that user's end; all of a user without one."""
    end_ms = events.select("user_id").join(ends, on="user_id", how="left", maintain_order="left")
    return events.filter((events[time] < end_ms["end_ms"]).fill_null(True))


def _between(logs: Logs, from_ms: int | None, to_ms: int | None) -> Logs:
    """The events at `from_ms` or later and before `to_ms`; None is no limit."""

    def cut(frame: pl.DataFrame, time: str) -> pl.DataFrame:
        is_in = pl.lit(True)
        if from_ms is not None:
            is_in &= pl.col(time) >= from_ms
        if to_ms is not None:
            is_in &= pl.col(time) < to_ms
        return frame.filter(is_in)

    impressions, searches = logs.impressions, logs.searches
    return Logs(
        watches=Watches(cut(logs.watches.frame, "started_at_ms")),
        items=logs.items,
        users=logs.users,
        impressions=impressions and Impressions(cut(impressions.frame, "shown_at_ms")),
        searches=searches and Searches(cut(searches.frame, "searched_at_ms")),
    )


def _last_ms(logs: Logs) -> int:
    times = [logs.watches.frame["started_at_ms"]]
    if logs.impressions is not None:
        times.append(logs.impressions.frame["shown_at_ms"])
    if logs.searches is not None:
        times.append(logs.searches.frame["searched_at_ms"])
    return max((int(t.to_numpy().max()) for t in times if t.len()), default=0)


def _empty_part(name: str, logs: Logs, end_ms: int, num_days: float) -> DataError:
    times_ms = logs.watches.frame["started_at_ms"].to_numpy()
    length_days = (end_ms - int(times_ms.min(initial=end_ms))) / MS_PER_DAY
    return DataError(
        f"split_by_time, {name}",
        expected="at least one watch",
        got="none",
        hint=f"the first watch is {length_days:.3g} days before the end of the logs, and "
        f"validation and test together take {num_days:g}. [split] validation_days and test_days "
        "may be fractions; protocol = 'last-event' needs no days.",
    )
