"""What a store found of one user becomes the `LivePast` that a recommender reads."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from upnext.schema import Id, LivePast

T = TypeVar("T")


class Found(NamedTuple, Generic[T]):
    """When, in ms, and what: of one kind, the newest first."""

    at_ms: Sequence[int]
    what: Sequence[T]


def live_past(
    *,
    watches: Found[Id],
    watch_ms: Sequence[int],
    impressions: Found[Id],
    pages: Found[Sequence[Id]],
    searches: Found[str],
    max_shown: int,
) -> LivePast:
    """Turns all round, oldest first, and puts impressions and the slots of pages together.

    At one time pages come first, and in a page the top. A watch that was told again and again while
    it ran, as players do, counts once and at its longest, as `crediting.longest_watches` has it for
    training: a history of one watch must not look like one of many.

    Args:
        watch_ms: how long each watch was.
        impressions: what clients posted.
        pages: their items; without those that impressions took the place of.
        max_shown: of what was shown the newest so many are kept.
    """
    shown_at_ms, shown = _slots(pages)
    shown_at_ms += impressions.at_ms[::-1]
    shown += impressions.what[::-1]
    if pages.at_ms and impressions.at_ms:
        order = sorted(range(len(shown)), key=shown_at_ms.__getitem__)
        shown_at_ms = [shown_at_ms[place] for place in order]
        shown = [shown[place] for place in order]
    started_at_ms, watched, spent_ms = _longest(watches, watch_ms)
    return LivePast(
        watched=watched[::-1],
        started_at_ms=started_at_ms[::-1],
        watch_time_s=[milliseconds / 1_000 for milliseconds in spent_ms[::-1]],
        shown=shown[-max_shown:],
        shown_at_ms=shown_at_ms[-max_shown:],
        searched=searches.what[::-1],
        searched_at_ms=searches.at_ms[::-1],
    )


def _longest(
    watches: Found[Id], watch_ms: Sequence[int]
) -> tuple[Sequence[int], Sequence[Id], Sequence[int]]:
    """When, what and how long, the newest first; each item once at a time, at its longest."""
    if len(set(watches.at_ms)) == len(watches.at_ms):
        return watches.at_ms, watches.what, watch_ms
    longest: dict[tuple[int, str], tuple[Id, int]] = {}
    for at_ms, item_id, spent_ms in zip(watches.at_ms, watches.what, watch_ms, strict=True):
        key = (at_ms, str(item_id))
        if key not in longest or longest[key][1] < spent_ms:
            longest[key] = (item_id, spent_ms)
    return (
        [at_ms for at_ms, _ in longest],
        [item_id for item_id, _ in longest.values()],
        [spent_ms for _, spent_ms in longest.values()],
    )


def _slots(pages: Found[Sequence[Id]]) -> tuple[list[int], list[Id]]:
    """When each slot was shown, and which item stood there."""
    oldest_first = list(zip(pages.at_ms[::-1], pages.what[::-1], strict=True))
    at_ms = [page_at_ms for page_at_ms, items in oldest_first for _ in items]
    return at_ms, [item_id for _, items in oldest_first for item_id in items]
