"""What an evaluation found, as pictures: from the plain values of its report.json.

Each function draws one part of the report, and returns no picture where that was not measured.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from upnext.metric_names import metric_label, metric_meaning
from upnext.pictures.bars import Bar, bar_picture
from upnext.pictures.numbers import is_number, minute, percent, short, signed
from upnext.pictures.picture import Picture

Table = Mapping[str, Any]
"""An object of JSON."""

INTERVALS = "Whiskers: 95%, by user."


def window(report: Table) -> str:
    """When the test was.

    >>> window({"from_ms": 0, "until_ms": 86_400_000})
    '1970-01-01 00:00 to 1970-01-02 00:00 UTC'
    """
    start, end = (minute(report.get(name)) for name in ("from_ms", "until_ms"))
    return f"{start} to {end} UTC"


def measured(told: Table | None) -> tuple[float | None, float | None, float | None]:
    """A value with its 95% interval; None for what is not told."""
    found = told or {}
    return found.get("value"), found.get("low"), found.get("high")


def retrieval_pictures(report: Table) -> list[Picture]:
    """A picture a metric: each system ranks all items; baselines are grey."""
    counts = report.get("counts") or {}
    about = f"{window(report)}, {_counted(counts.get('targets'), 'targets')} of "
    about += f"{_counted(counts.get('users'), 'users')}. {INTERVALS}"
    return _of_systems(report.get("retrieval"), "Retrieval", about)


def ranking_pictures(report: Table) -> list[Picture]:
    """A picture a metric: each system orders what was shown; baselines are grey."""
    return _of_systems(report.get("ranking"), "Ranking", about_shown(report))


def about_shown(report: Table) -> str:
    """Window and number of the impressions that ranking was measured on."""
    first_slice: Table = next(iter(report.get("ranking_slices") or ()), {})
    overall = report.get("calibration_overall") or first_slice
    return (
        f"{window(report)}, {_counted(overall.get('num_impressions'), 'impressions')}. {INTERVALS}"
    )


def difference_pictures(report: Table) -> list[Picture]:
    """A picture a system: how far it is above the baseline that is best at each metric."""
    by_system: dict[str, list[Table]] = {}
    for line in report.get("differences") or ():
        by_system.setdefault(line["system"], []).append(line)
    return [_differences(system, lines, report) for system, lines in by_system.items()]


def _differences(system: str, lines: Sequence[Table], report: Table) -> Picture:
    baselines = list(dict.fromkeys(line["baseline"] for line in lines))
    bars = []
    for line in lines:
        value, low, high = measured(line.get("difference"))
        is_above = is_number(low) and low > 0
        is_below = is_number(high) and high < 0
        bars.append(
            Bar(
                name=metric_label(line["metric"]),
                value=value,
                low=low,
                high=high,
                note=line["baseline"] if len(baselines) > 1 else "",
                tone="model" if is_above else "bad" if is_below else "baseline",
            )
        )
    than = "the best baseline" if len(baselines) > 1 else baselines[0]
    about = f"Paired by user, {window(report)}. Grey: not surely different. {INTERVALS}"
    return bar_picture(
        f"{system[:1].upper()}{system[1:]} above {than}",
        about,
        bars=bars,
        quantity=f"above {than}",
        tell=signed,
    )


def slice_pictures(report: Table) -> list[Picture]:
    """A picture a metric: the ranker on parts of what was shown."""
    slices = report.get("ranking_slices") or ()
    about = f"Beside each, its impressions. {about_shown(report)}"
    return [
        bar_picture(
            f"Ranking by slice: {metric_label(metric)}",
            f"{metric_meaning(metric)} {about}".lstrip(),
            bars=[
                _bar(one["name"], one["metrics"].get(metric), note=_slice_size(one))
                for one in slices
            ],
            quantity=metric_label(metric),
        )
        for metric in metrics_of(slices)
    ]


def funnel_pictures(report: Table) -> list[Picture]:
    """What each step keeps of the targets, and in a lighter tone what it loses."""
    funnel = report.get("funnel") or ()
    if not funnel:
        return []
    bars, first = [], funnel[0].get("num_events")
    before = first
    for step in funnel:
        kept, note = step.get("num_events"), ""
        if is_number(kept) and is_number(before):
            share = percent(kept / first) if first else ""
            note = f"{share}, {signed(kept - before)}" if kept < before else share
        bars.append(Bar(name=step["name"], value=kept, of=before, note=note))
        before = kept
    about = f"{window(report)}, {_counted(first, 'targets')}. Light: what the step loses."
    return [bar_picture("Funnel", about, bars=bars, quantity="targets left", of="before")]


def importance_pictures(report: Table) -> list[Picture]:
    """How much worse ranking becomes when a group of its inputs is shuffled; greatest first."""
    groups = report.get("feature_importance") or ()
    bars = [_bar(one["name"], one.get("loss_increase")) for one in groups]
    if not bars:
        return []
    about = "Increase of the weighted per-user loss when each group is shuffled among requests. "
    return [
        bar_picture(
            "What ranking rests on",
            about + about_shown(report),
            bars=sorted(bars, key=lambda bar: -(bar.value if is_number(bar.value) else -1e9)),
            quantity="increase of the loss",
            tell=signed,
        )
    ]


def metrics_of(systems: Iterable[Table]) -> list[str]:
    """Names of all metrics that any of the systems has, in the order of the report."""
    return list(dict.fromkeys(name for one in systems for name in one.get("metrics") or ()))


def _of_systems(systems: Sequence[Table] | None, stage: str, about: str) -> list[Picture]:
    return [
        bar_picture(
            f"{stage}: {metric_label(metric)}",
            f"{metric_meaning(metric)} {about}".lstrip(),
            bars=[
                _bar(
                    one["name"],
                    one["metrics"].get(metric),
                    tone="baseline" if one.get("is_baseline") else "model",
                )
                for one in systems or ()
            ],
            quantity=metric_label(metric),
        )
        for metric in metrics_of(systems or ())
    ]


def _bar(name: str, told: Table | None, *, tone: str = "model", note: str = "") -> Bar:
    value, low, high = measured(told)
    return Bar(name=name, value=value, low=low, high=high, tone=tone, note=note)


def _slice_size(one: Table) -> str:
    num = one.get("num_impressions")
    return f"of {short(num)}" if is_number(num) else ""


def _counted(num: float | None, things: str) -> str:
    return f"{short(num)} {things}" if is_number(num) else f"{things} not counted"
