"""That parts are those of the same logs in memory is held by test_prepare.py; here: by hand."""

from pathlib import Path

import numpy as np
import pytest

from upnext.errors import DataError
from upnext.examples.prepared import Part, PreparedLogs
from upnext.pipeline.config import SplitConfig
from upnext.pipeline.prepare import prepare
from upnext.pipeline.split_prepared import split_prepared
from upnext.schema import MS_PER_DAY

LINES = [
    ("ann", "soup", 0.0),
    ("ann", "rice", 1.0),
    ("ann", "tea", 2.5),
    ("ben", "soup", 1.5),
    ("ben", "tea", 3.5),
]
"""User, item, day; the last event is that of day 3.5."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedLogs:
    directory = tmp_path_factory.mktemp("logs")
    lines = [f"{user},{item},{round(day * MS_PER_DAY)},9" for user, item, day in LINES]
    text = "\n".join(["user_id,item_id,started_at_ms,watch_time_s", *lines, ""])
    (directory / "watches.csv").write_text(text, encoding="utf-8")
    (directory / "searches.csv").write_text(
        f"user_id,searched_at_ms,query\nann,0,soup\nann,{round(1.5 * MS_PER_DAY)},tea\nben,1,x\n",
        encoding="utf-8",
    )
    return prepare(directory, directory / "prepared", now_ms=9 * MS_PER_DAY)


def days_of(prepared: PreparedLogs, part: Part) -> dict[str, list[float]]:
    """The days of each user's watches."""
    log, found = prepared.watches, {}
    for row in np.flatnonzero(part.hi > part.lo):
        days = log.at_ms[part.lo[row] : part.hi[row]] / MS_PER_DAY
        found[str(prepared.users.id(int(row)))] = days.tolist()
    return found


def queries_of(part: Part) -> list[str]:
    searches = part.others.searches
    return [] if searches is None else searches.frame["query"].to_list()


def test_time_cuts_count_back_from_the_last_event(prepared: PreparedLogs) -> None:
    split = split_prepared(prepared, SplitConfig(validation_days=1.0, test_days=1.0))
    assert days_of(prepared, split.train) == {"ann": [0.0, 1.0], "ben": [1.5]}
    assert days_of(prepared, split.validation) == {"ann": [2.5]}
    assert days_of(prepared, split.test) == {"ben": [3.5]}
    known = days_of(prepared, split.train_and_validation)
    assert known == {"ann": [0.0, 1.0, 2.5], "ben": [1.5]}
    assert split.train.num_watches == 3
    assert sorted(queries_of(split.train)) == ["soup", "tea", "x"]
    assert queries_of(split.validation) == queries_of(split.test) == []


def test_training_may_be_limited_to_its_last_days(prepared: PreparedLogs) -> None:
    how = SplitConfig(validation_days=1.0, test_days=1.0, train_days=0.75)
    split = split_prepared(prepared, how)
    assert days_of(prepared, split.train) == {"ann": [1.0], "ben": [1.5]}
    assert queries_of(split.train) == ["tea"]


def test_the_last_event_of_each_user_with_three(prepared: PreparedLogs) -> None:
    split = split_prepared(prepared, SplitConfig(protocol="last-event"))
    assert days_of(prepared, split.train) == {"ann": [0.0], "ben": [1.5, 3.5]}
    assert days_of(prepared, split.validation) == {"ann": [1.0]}
    assert days_of(prepared, split.test) == {"ann": [2.5]}
    assert sorted(queries_of(split.train)) == ["soup", "x"]
    assert split.test.others.searches is None


def test_a_part_without_watches_is_refused(prepared: PreparedLogs) -> None:
    with pytest.raises(DataError, match=r"split_by_time, train: .*\n.*together take 9 days"):
        split_prepared(prepared, SplitConfig(validation_days=5.0, test_days=4.0))


def test_logs_of_two_watches_a_user_have_no_last_but_one(tmp_path: Path) -> None:
    text = "user_id,item_id,started_at_ms,watch_time_s\nann,soup,1,2\nann,tea,2,2\n"
    (tmp_path / "watches.csv").write_text(text, encoding="utf-8")
    few = prepare(tmp_path, tmp_path / "prepared", now_ms=9)
    with pytest.raises(DataError, match="at least 3 watches, got 1 users with fewer"):
        split_prepared(few, SplitConfig(protocol="last-event"))
