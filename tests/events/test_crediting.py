from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from upnext.events.crediting import ShownItem, credit, longest_watches, shown_items
from upnext.events.event import (
    ImpressionEvent,
    ServedItem,
    ServedPage,
    UserEvents,
    WatchEvent,
)

ITEMS = st.sampled_from(["a", "b", 3])
REQUESTS = st.sampled_from(["r1", "r2", "r3"])
TIMES_MS = st.integers(0, 12)
WATCHES = st.lists(
    st.builds(
        WatchEvent,
        event_id=st.integers(0, 99).map(str),
        user_id=st.just(1),
        item_id=ITEMS,
        started_at_ms=TIMES_MS,
        watch_time_s=st.sampled_from([0.0, 1.0, 50_000.0]),
        request_id=st.none() | REQUESTS,
    ),
    max_size=8,
    unique_by=lambda watch: watch.event_id,
)
IMPRESSIONS = st.lists(
    st.builds(
        ImpressionEvent,
        event_id=st.integers(0, 99).map(str),
        user_id=st.just(1),
        item_id=ITEMS,
        shown_at_ms=TIMES_MS,
        position=st.integers(0, 2),
        request_id=st.none() | REQUESTS,
    ),
    max_size=8,
)
PAGES = st.lists(
    st.builds(
        ServedPage,
        request_id=REQUESTS,
        user_id=st.just(1),
        served_at_ms=TIMES_MS,
        release=st.just("1"),
        label=st.just("stable"),
        items=st.lists(
            st.builds(
                ServedItem,
                item_id=ITEMS,
                source=st.sampled_from(["fresh", None]),
                propensity=st.sampled_from([0.25, 1.0, None]),
            ),
            min_size=1,
            max_size=3,
        ),
    ),
    max_size=3,
    unique_by=lambda page: page.request_id,
)


def best_of(shown: Sequence[ShownItem], watch: WatchEvent, within_ms: int) -> ShownItem | None:
    """Which impression a watch came of, by looking at every one."""
    alike = [one for one in shown if one.item_id == str(watch.item_id)]
    if watch.request_id is not None:
        alike = [one for one in alike if one.request_id == watch.request_id]
    before = [one for one in alike if one.shown_at_ms <= watch.started_at_ms]
    if watch.request_id is not None:
        return next(iter(before[-1:] or alike[:1]), None)
    return next(
        (one for one in reversed(before) if watch.started_at_ms - one.shown_at_ms <= within_ms),
        None,
    )


@given(WATCHES, IMPRESSIONS, PAGES, st.integers(0, 12))
def test_credit_is_what_looking_at_every_pair_finds(
    watches: list[WatchEvent],
    impressions: list[ImpressionEvent],
    pages: list[ServedPage],
    within_ms: int,
) -> None:
    user = UserEvents(user_id=1, watches=watches, impressions=impressions, pages=pages)
    shown, once = shown_items(user), longest_watches(watches)
    found = credit(shown, once, within_ms=within_ms)
    credited = [(best_of(shown, watch, within_ms), watch.watch_time_s) for watch in once]
    for one, with_seconds in zip(shown, found, strict=True):
        seconds = [watch_time_s for best, watch_time_s in credited if best is one]
        expected = min(sum(seconds), 86_400.0) if seconds else None
        assert with_seconds.watch_time_s == expected
        assert with_seconds.item_id == one.item_id


@given(IMPRESSIONS, PAGES)
def test_what_was_seen_takes_the_place_of_what_was_served(
    impressions: list[ImpressionEvent], pages: list[ServedPage]
) -> None:
    shown = shown_items(UserEvents(user_id=1, impressions=impressions, pages=pages))
    assert [one.shown_at_ms for one in shown] == sorted(one.shown_at_ms for one in shown)
    posted = {one.request_id for one in impressions}
    wanted = {
        (page.request_id, str(item.item_id), position)
        for page in pages
        if page.request_id not in posted
        for position, item in enumerate(page.items)
    }
    wanted |= {
        (one.request_id or f"at-{one.shown_at_ms}", str(one.item_id), one.position)
        for one in impressions
    }
    slots = [(one.request_id, one.item_id, one.position) for one in shown]
    assert len(slots) == len(wanted)
    assert set(slots) == wanted
    served = {
        (page.request_id, str(item.item_id)): item for page in pages for item in page.items[::-1]
    }
    for one in shown:
        if one.request_id in posted or one.request_id.startswith("at-"):
            item = served.get((one.request_id, one.item_id), ServedItem(item_id="none"))
            assert (one.source, one.propensity) == (item.source, item.propensity)


@given(WATCHES)
def test_a_watch_told_again_counts_once_and_at_its_longest(watches: list[WatchEvent]) -> None:
    once = longest_watches(watches)
    by_key: dict[tuple[str, int], list[WatchEvent]] = {}
    for watch in watches:
        by_key.setdefault((str(watch.item_id), watch.started_at_ms), []).append(watch)
    assert len(once) == len(by_key)
    for watch in once:
        alike = by_key[str(watch.item_id), watch.started_at_ms]
        assert watch.watch_time_s == max(one.watch_time_s for one in alike)
        longest = [one for one in alike if one.watch_time_s == watch.watch_time_s]
        assert (watch.request_id is None) == all(one.request_id is None for one in longest)
