"""For whom, and for what, does ranking work? The same metrics on parts of what was shown."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.calibration import quantile_bins
from upnext.evaluation.compare import ShownImpressions, ranking_metrics
from upnext.evaluation.report import RankingSlice

Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ImpressionFacts:
    """What slices and calibration ask of M impressions; all fields are [M], nan where not known.

    `num_watches_before`: of the user, strictly before the request. `item_age_days`: since the item
    was published, as of the request. `position` counts from 0.
    """

    num_watches_before: NDArray[np.int64]
    item_age_days: NDArray[np.floating]
    duration_s: NDArray[np.floating]
    position: NDArray[np.floating]


def ranking_slices(
    shown: ShownImpressions,
    facts: ImpressionFacts,
    expected_watch_time_s: NDArray[np.floating],
    *,
    num_new_user_watches: int,
    fresh_days: float,
) -> tuple[RankingSlice, ...]:
    """The ranking metrics of all, of new users, of new items, and by thirds of the duration.

    A pair, a page or a user's impressions are those *within* the slice: among new items, a watched
    new item is compared with unwatched new ones only. So slices do not add up to the whole.

    Args:
        expected_watch_time_s: [M] what the ranker expected.
        num_new_user_watches: a user is new with fewer watches before the request.
        fresh_days: an item is new when it was published fewer days before it was shown.

    Returns: the whole first; slices without impressions are left out.
    """
    return tuple(
        RankingSlice(
            name=name,
            num_impressions=int(chosen.sum()),
            metrics=ranking_metrics(
                shown[chosen], expected_watch_time_s[chosen], scores_are_seconds=True
            ),
        )
        for name, chosen in _slices(facts, num_new_user_watches, fresh_days)
        if chosen.any()
    )


def _slices(
    facts: ImpressionFacts, num_new_user_watches: int, fresh_days: float
) -> Iterator[tuple[str, Flags]]:
    yield "all", np.ones(len(facts.position), bool)
    is_new_user = facts.num_watches_before < num_new_user_watches
    yield f"new users, under {num_new_user_watches} watches", is_new_user
    yield f"new items, under {fresh_days:g} days", facts.item_age_days < fresh_days
    thirds = quantile_bins(facts.duration_s, 3)
    for number in range(3):
        chosen = thirds == number
        if chosen.any():
            durations_s = facts.duration_s[chosen]
            yield f"items of {durations_s.min():.0f} to {durations_s.max():.0f} s", chosen
