"""How one item fared, day by day, as the release has counted it."""

import numpy as np
from numpy.typing import NDArray

from upnext.examples.counts import HourlyCounts
from upnext.insight import DayOfItem
from upnext.schema import MS_PER_DAY, MS_PER_HOUR

HOURS_PER_DAY = MS_PER_DAY // MS_PER_HOUR

Counts = NDArray[np.float64]


def days_of(counts: HourlyCounts, row: int) -> list[DayOfItem]:
    """Every day in UTC from the first to the last on which the row was shown or watched."""
    hours, added = counts.of_row(row)
    if not len(hours):
        return []
    days = hours // HOURS_PER_DAY
    sums = np.zeros((int(days[-1] - days[0]) + 1, added.shape[1]))
    np.add.at(sums, days - days[0], added)
    return [
        DayOfItem(
            day_ms=(int(days[0]) + place) * MS_PER_DAY,
            num_impressions=round(impressions),
            num_watches=round(watches),
            watch_time_s=watch_time_s,
        )
        for place, (impressions, watches, watch_time_s, _) in enumerate(sums.tolist())
    ]


def watches_of_row(counts: HourlyCounts, row: int) -> tuple[int, Counts]:
    """As `HourlyCounts.watches_by_hour`, of one row."""
    hours, added = counts.of_row(row)
    if not len(hours):
        return 0, np.zeros(0)
    ended = np.zeros(int(hours[-1] - hours[0]) + 1)
    ended[hours - hours[0]] = added[:, 1]
    return int(hours[0]), ended


def watches_by_day(
    first_hour: int, ended: Counts, from_hours: NDArray[np.int64]
) -> NDArray[np.int64]:
    """[P] watches that ended within a day from each hour on; `ended` begins at `first_hour`."""
    running = np.concatenate([[0], np.cumsum(ended)])
    places = from_hours - first_hour
    lo, hi = (np.clip(one, 0, len(ended)) for one in (places, places + HOURS_PER_DAY))
    counted: NDArray[np.int64] = np.rint(running[hi] - running[lo]).astype(np.int64)
    return counted
