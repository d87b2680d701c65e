"""Prepared logs parted as `logs.split` parts logs in memory: by moments of each user."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from upnext.errors import DataError
from upnext.examples.prepared import Part, PreparedLogs
from upnext.logs.split import Split, time_cuts
from upnext.pipeline.config import SplitConfig
from upnext.schema import Impressions, Logs, Searches, TimesMs

LONG_AGO_MS, NEVER_MS = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class PreparedSplit:
    """Three parts of prepared logs, as `Split` has them."""

    train: Part
    validation: Part
    test: Part

    @property
    def train_and_validation(self) -> Part:
        """All that comes before the test."""
        others = Split(
            train=self.train.others, validation=self.validation.others, test=self.test.others
        )
        return Part(self.train.lo, self.validation.hi, others.train_and_validation)


def split_prepared(prepared: PreparedLogs, config: SplitConfig) -> PreparedSplit:
    """What `split_by_time` or `split_last_event` make of the same logs.

    Raises:
        DataError: a part would have no watches.
    """
    match config.protocol:
        case "time":
            return _by_time(prepared, config)
        case "last-event":
            return _by_last_event(prepared)


def _by_time(prepared: PreparedLogs, config: SplitConfig) -> PreparedSplit:
    cuts = time_cuts(
        _last_ms(prepared),
        validation_days=config.validation_days,
        test_days=config.test_days,
        train_days=config.train_days,
    )
    train_from_ms = LONG_AGO_MS if cuts.train_from_ms is None else cuts.train_from_ms
    edges_ms = (train_from_ms, cuts.validation_from_ms, cuts.test_from_ms, NEVER_MS)
    num_users = prepared.users.num_rows
    moments = [np.full(num_users, edge_ms) for edge_ms in edges_ms]
    everybody = np.arange(num_users)
    bounds = [prepared.watches.window_before(everybody, at_ms, 0)[1] for at_ms in moments]
    parts = {
        name: Part(bounds[i], bounds[i + 1], _between(prepared, moments[i], moments[i + 1]))
        for i, name in enumerate(("train", "validation", "test"))
    }
    for name, part in parts.items():
        if not part.num_watches:
            days = config.validation_days + config.test_days
            hint = f"validation and test together take {days:g} days, which may be fractions."
            where = f"split_by_time, {name}"
            raise DataError(where, expected="at least one watch", got="none", hint=hint)
    return PreparedSplit(**parts)


def _by_last_event(prepared: PreparedLogs) -> PreparedSplit:
    starts = prepared.watches.starts
    first, end = starts[:-1], starts[1:]
    has_three = end - first >= 3
    if not has_three.any():
        got = f"{np.count_nonzero(end > first)} users with fewer"
        raise DataError("split_last_event", expected="a user with at least 3 watches", got=got)
    validation, test = end - 2 * has_three, end - has_three
    until_ms = np.full(len(first), NEVER_MS)
    until_ms[has_three] = prepared.watches.at_ms[validation[has_three]]
    always_ms = np.full(len(first), LONG_AGO_MS)
    watches_alone = replace(prepared.others, impressions=None, searches=None)
    return PreparedSplit(
        train=Part(first, validation, _between(prepared, always_ms, until_ms)),
        validation=Part(validation, test, watches_alone),
        test=Part(test, end, watches_alone),
    )


def _between(prepared: PreparedLogs, from_ms: TimesMs, to_ms: TimesMs) -> Logs:
    """Impressions and searches of each user from that user's from_ms[u] on, before to_ms[u]."""

    def cut(frame: pl.DataFrame, time: str) -> pl.DataFrame:
        user_rows = prepared.users.rows(frame["user_id"])
        at_ms = frame[time].to_numpy()
        is_in = (from_ms[user_rows] <= at_ms) & (at_ms < to_ms[user_rows])
        return frame.filter(pl.Series(is_in))

    impressions, searches = prepared.others.impressions, prepared.others.searches
    return replace(
        prepared.others,
        impressions=impressions and Impressions(cut(impressions.frame, "shown_at_ms")),
        searches=searches and Searches(cut(searches.frame, "searched_at_ms")),
    )


def _last_ms(prepared: PreparedLogs) -> int:
    """The time of the last event, whatever its table."""
    last_ms = [table["last_ms"] for table in prepared.report["tables"].values()]
    return max(int(at_ms) for at_ms in last_ms if at_ms is not None)
