"""What a ranker promised beside what came, as pictures, from the bins in an evaluation's report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from upnext.pictures.evaluation import INTERVALS, window
from upnext.pictures.numbers import interval, is_number, short
from upnext.pictures.picture import Picture, Table
from upnext.pictures.series import Axis, Mark, Series
from upnext.pictures.xy import xy_picture

Bin = Mapping[str, Any]
Numbers = list[float | None]


def calibration_pictures(report: Mapping[str, Any]) -> list[Picture]:
    """By decile of the expected watch time, by duration and by position; what was measured."""
    pictures = []
    if bins := report.get("calibration"):
        pictures.append(_reliability(bins, _about(report, bins)))
    if bins := report.get("calibration_by_duration"):
        about = f"Expected over actual watch time of a tenth each. {_about(report, bins)}"
        axis = Axis(name="duration of the item, s", kind="log")
        pictures.append(_ratios("Calibration by duration", about, bins, axis))
    if bins := report.get("calibration_by_position"):
        about = f"Expected over actual watch time. {_about(report, bins)}"
        axis = Axis(name="position, 0 is the top", is_whole=True)
        pictures.append(_ratios("Calibration by position", about, bins, axis))
    return pictures


def _about(report: Mapping[str, Any], bins: Sequence[Bin]) -> str:
    num = sum(part.get("num_impressions") or 0 for part in bins)
    return f"{window(report)}, {num:,} impressions. {INTERVALS}"


def _reliability(bins: Sequence[Bin], about: str) -> Picture:
    expected, (actual, lows, highs) = _all(bins, "predicted_s"), _actual(bins)
    drawn = [value for part in (expected, actual, highs) for value in part if is_number(value)]
    limit = 1.04 * max([*drawn, 1e-6])
    picture = xy_picture(
        "Calibration by decile",
        f"Impressions by expected watch time, a tenth a dot. {about}",
        x=Axis(name="expected, s an impression", low=0.0, high=limit),
        y=Axis(name="actual, s an impression", low=0.0, high=limit),
        series=[
            Series(
                name="actual",
                x=[e if is_number(e) else 0.0 for e in expected],
                y=[a if is_number(e) else None for e, a in zip(expected, actual, strict=True)],
                low=lows,
                high=highs,
                style="line and dots",
                names=[f"expected {short(e)}" for e in expected],
            )
        ],
        marks=[Mark(name="calibrated", is_diagonal=True)],
    )
    return replace(picture, table=_table("expected, s", bins))


def _ratios(title: str, about: str, bins: Sequence[Bin], axis: Axis) -> Picture:
    ratios = [part.get("ratio") or {} for part in bins]
    picture = xy_picture(
        title,
        about,
        x=axis,
        y=Axis(name="expected / actual"),
        series=[
            Series(
                name="expected / actual",
                x=[_middle(part, axis) for part in bins],
                y=_all(ratios, "value"),
                low=_all(ratios, "low"),
                high=_all(ratios, "high"),
                style="line and dots",
                names=[_bounds(part) for part in bins],
            )
        ],
        marks=[Mark(name="calibrated", y=1.0)],
    )
    return replace(picture, table=_table(axis.name, bins))


def _table(quantity: str, bins: Sequence[Bin]) -> Table:
    """All that is known of the bins, what is drawn among it."""
    rows = []
    for part, *actual in zip(bins, *_actual(bins), strict=True):
        ratio = part.get("ratio") or {}
        told = interval(ratio.get("value"), ratio.get("low"), ratio.get("high"))
        num = short(part.get("num_impressions"))
        rows.append([_bounds(part), short(part.get("predicted_s")), interval(*actual), told, num])
    header = [quantity, "expected, s", "actual, s", "expected / actual", "impressions"]
    return Table(header=header, rows=rows)


def _actual(bins: Sequence[Bin]) -> tuple[Numbers, Numbers, Numbers]:
    """Actual seconds with the ratio's interval: from expected / high to expected / low."""
    ratios = [(part.get("predicted_s"), part.get("ratio") or {}) for part in bins]
    return (
        _all(bins, "actual_s"),
        [_over(expected, ratio.get("high")) for expected, ratio in ratios],
        [_over(expected, ratio.get("low")) for expected, ratio in ratios],
    )


def _middle(part: Bin, axis: Axis) -> float:
    low, high = part.get("low") or 0.0, part.get("high") or 0.0
    if axis.kind == "log" and low > 0:
        return float((low * high) ** 0.5)
    return float(high if axis.kind == "log" else (low + high) / 2)


def _bounds(part: Bin) -> str:
    return " to ".join(dict.fromkeys(short(part.get(name)) for name in ("low", "high")))


def _all(bins: Sequence[Bin], name: str) -> Numbers:
    return [part.get(name) for part in bins]


def _over(value: float | None, ratio: float | None) -> float | None:
    return value / ratio if is_number(value) and is_number(ratio) and ratio > 0 else None
