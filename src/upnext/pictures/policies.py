"""What other choices would have brought, as pictures, from an evaluation's report."""

from collections.abc import Mapping
from typing import Any

from upnext.pictures.bars import Bar, bar_picture
from upnext.pictures.evaluation import INTERVALS, measured, window
from upnext.pictures.numbers import interval, percent, short
from upnext.pictures.picture import Picture

_ESTIMATES = {
    "doubly_robust_s": ("doubly robust", "model"),
    "snips_s": ("SNIPS", "model"),
    "ips_s": ("IPS", "model"),
    "logged_s": ("what was logged", "baseline"),
}


def policy_pictures(report: Mapping[str, Any]) -> list[Picture]:
    """True expected watch time of each way to choose whole pages; simulated logs alone tell it."""
    policies = report.get("policies") or ()
    if not policies:
        return []
    bars = [
        Bar(
            name=one["name"],
            value=one.get("expected_watch_time_s"),
            low=one.get("low"),
            high=one.get("high"),
            note=f"{percent(one.get('share_of_best'))} of best",
        )
        for one in policies
    ]
    about = "What each way to fill a slot truly brings; best: the best order of the candidates. "
    about += f"{window(report)}. {INTERVALS}"
    return [bar_picture("True watch time a slot", about, bars=bars, quantity="s a slot")]


def off_policy_pictures(report: Mapping[str, Any]) -> list[Picture]:
    """A picture a policy: what it would have brought, estimated from logged propensities."""
    return [_off_policy(one, window(report)) for one in report.get("off_policy") or ()]


def _off_policy(one: Mapping[str, Any], test_window: str) -> Picture:
    bars = []
    for field, (name, tone) in _ESTIMATES.items():
        value, low, high = measured(one.get(field))
        bars.append(Bar(name=name, value=value, low=low, high=high, tone=tone))
    if one.get("truth_s") is not None:
        bars.insert(0, Bar(name="truth, as simulated", value=one["truth_s"], tone="tone-2"))
    weight = interval(*measured(one.get("mean_weight")))
    about = (
        f"Seconds a slot, from {short(one.get('num_slots'))} logged slots of {test_window}, "
        f"{short(one.get('effective_num_slots'))} of them effective; mean weight "
        f"{weight}, should be 1; greatest {short(one.get('max_weight'))}; "
        f"{short(one.get('num_clipped'))} clipped. {INTERVALS}"
    )
    return bar_picture(f"Off-policy: {one['policy']}", about, bars=bars, quantity="s a slot")
