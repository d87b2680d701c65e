"""How popular an item was: what happened day by day, and what the model believes as it ages."""

from collections.abc import Mapping
from typing import Any

from upnext.pictures.numbers import day, minute, percent, short
from upnext.pictures.picture import Picture
from upnext.pictures.series import Axis, Mark, Series, Style
from upnext.pictures.xy import xy_picture


def item_picture(told: Mapping[str, Any]) -> Picture:
    """Impressions and watches of an item a day, from `/insight/v1/items/{item_id}`."""
    days = told.get("per_day") or ()
    item = told.get("item") or {}
    totals = {
        name: sum(one.get(name) or 0 for one in days) for name in ("num_impressions", "num_watches")
    }
    window = f"{day(days[0]['day_ms'])} to {day(days[-1]['day_ms'])}: " if days else ""
    published = item.get("published_at_ms")
    return xy_picture(
        "Impressions and watches a day",
        f"{window}{short(totals['num_impressions'])} impressions, "
        f"{short(totals['num_watches'])} watches; known until {minute(told.get('known_until_ms'))} "
        "UTC.",
        x=Axis(name="day, UTC", kind="time"),
        y=Axis(name="a day", low=0.0, is_whole=True),
        series=[
            Series(
                name=name,
                x=[one["day_ms"] for one in days],
                y=[one.get(field) for one in days],
                style="steps",
            )
            for name, field in (("impressions", "num_impressions"), ("watches", "num_watches"))
        ],
        marks=_published(published, days),
    )


def _published(at_ms: float | None, days: Any) -> list[Mark]:
    """Where the days hold it; an item may be older than all of them."""
    if at_ms is None or not days or not days[0]["day_ms"] <= at_ms <= days[-1]["day_ms"]:
        return []
    return [Mark(name="published", x=at_ms)]


def probability_picture(told: Mapping[str, Any]) -> Picture:
    """Figure 4 of the paper for one item, from `/insight/v1/probability`.

    The mean probability that the next watch is of this item by days since it was published: at the
    example age that training saw then, at the age that is asked, and beside them the share that it
    really had of all watches.
    """
    days = told.get("days") or ()
    age = told.get("example_age_days")
    num_watches = sum(num or 0 for num in told.get("num_watches") or ())
    curves: tuple[tuple[str, str, Style], ...] = (
        ("as trained", "as_trained", "line"),
        (f"at example age {short(age)} d", "at_age", "dashed"),
        ("really watched", "watched_share", "steps"),
    )
    window = f"Day {short(days[0])} to {short(days[-1])}; " if days else ""
    return xy_picture(
        "Probability by days since publication",
        f"{window}mean of {short(told.get('num_users'))} users at each moment; "
        f"{short(num_watches)} watches, published {minute(told.get('published_at_ms'))} UTC.",
        x=Axis(name="days since publication"),
        y=Axis(name="share of watches", tell=percent, low=0.0),
        series=[
            Series(name=name, x=days, y=told.get(field) or [None] * len(days), style=style)
            for name, field, style in curves
        ],
        marks=[Mark(name="published", x=0.0)] if days and days[0] <= 0 <= days[-1] else [],
    )
