"""A report on disk: JSON, text and plots. matplotlib is needed here alone; no window is opened."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from upnext.evaluation.calibration import CalibrationBin
from upnext.evaluation.intervals import MetricValue, short_number
from upnext.evaluation.report import (
    EvaluationReport,
    FunnelStep,
    PolicyValue,
    RankingSlice,
    SystemResult,
)
from upnext.metric_names import metric_label

INK, QUIET = "#1f2933", "#9aa5b1"
MODEL, BASELINE, LOST = "#2563a8", "#b8c1cc", "#e3e8ee"
DOTS_PER_INCH = 150
PANELS_A_ROW = 3


def write_report(report: EvaluationReport, directory: Path) -> None:
    """Writes report.json, report.txt and a PNG plot of each part that was measured."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report.to_table(), indent=2, ensure_ascii=False, allow_nan=False)
    (directory / "report.json").write_text(text + "\n", encoding="utf-8")
    (directory / "report.txt").write_text(report.to_text(), encoding="utf-8")
    if report.retrieval:
        plot_systems(report.retrieval, directory / "retrieval.png")
    if report.ranking:
        plot_systems(report.ranking, directory / "ranking.png")
    if report.ranking_slices:
        plot_slices(report.ranking_slices, directory / "ranking_slices.png")
    if report.calibration:
        plot_calibration(report, directory / "calibration.png")
    if report.funnel:
        plot_funnel(report.funnel, directory / "funnel.png")
    if report.policies:
        plot_policies(report.policies, directory / "policies.png")


def plot_systems(systems: Sequence[SystemResult], path: Path) -> None:
    """A panel for each metric, a bar for each system, baselines in grey, intervals as whiskers."""
    colors = [BASELINE if system.is_baseline else MODEL for system in systems]
    _panels([(system.name, system.metrics) for system in systems], colors, path)


def plot_slices(slices: Sequence[RankingSlice], path: Path) -> None:
    """A panel for each metric, a bar for each slice, intervals as whiskers."""
    _panels([(one.name, one.metrics) for one in slices], [MODEL] * len(slices), path)


def plot_calibration(report: EvaluationReport, path: Path) -> None:
    """Actual beside expected watch time by decile; their ratio by duration and by position.

    Whiskers are those of the ratio. By decile they are turned into seconds: what came may lie
    anywhere from what was expected / high to what was expected / low.
    """
    figure = _figure(12.0, 4.2)
    by_decile, by_duration, by_position = figure.subplots(1, 3)
    _plot_reliability(by_decile, report.calibration)
    _plot_ratios(by_duration, report.calibration_by_duration, "duration of the item, s")
    if report.calibration_by_duration:
        by_duration.set_xscale("log")
        by_duration.xaxis.set_major_formatter("{x:g}")
        by_duration.minorticks_off()
    _plot_ratios(by_position, report.calibration_by_position, "position on the page")
    for axes, about in (
        (by_decile, "decile"),
        (by_duration, "duration"),
        (by_position, "position"),
    ):
        axes.set_title(f"Calibration by {about}", loc="left", fontsize=11, color=INK)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _plot_reliability(axes: Axes, bins: Sequence[CalibrationBin]) -> None:
    predicted = np.array([part.predicted_s for part in bins])
    actual = np.array([part.actual_s for part in bins])
    limit = 1.06 * max(float(predicted.max()), float(actual.max()), 1e-6)
    axes.plot([0, limit], [0, limit], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(0.93 * limit, 0.96 * limit, "calibrated", ha="right", color=QUIET, fontsize=9)
    for part in bins:
        if part.ratio.low > 0:
            ends = [part.predicted_s / part.ratio.high, part.predicted_s / part.ratio.low]
            axes.plot([part.predicted_s] * 2, ends, color=INK, linewidth=1.2)
    axes.plot(predicted, actual, color=MODEL, marker="o", markersize=5, linewidth=1.4)
    axes.set(xlim=(0, limit), ylim=(0, limit))
    axes.set_xlabel("expected watch time, s an impression")
    axes.set_ylabel("actual watch time, s an impression")
    _quiet(axes)


def _plot_ratios(axes: Axes, bins: Sequence[CalibrationBin], quantity: str) -> None:
    """What was expected, in units of what came: a dot a bin, as broad a line as the bin."""
    axes.axhline(1, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    for part in bins:
        middle = (part.low * part.high) ** 0.5
        axes.plot([middle] * 2, [part.ratio.low, part.ratio.high], color=INK, linewidth=1.2)
        axes.plot([part.low, part.high], [part.ratio.value] * 2, color=MODEL, linewidth=1.4)
        axes.plot(middle, part.ratio.value, color=MODEL, marker="o", markersize=5)
    axes.set_xlabel(quantity)
    axes.set_ylabel("expected / actual watch time")
    _quiet(axes)


def plot_funnel(funnel: Sequence[FunnelStep], path: Path) -> None:
    """How many targets each step keeps, and in a lighter tone what it loses."""
    counts = np.array([step.num_events for step in funnel])
    before = np.concatenate([counts[:1], counts[:-1]])
    total = max(1, int(counts[0]))
    figure = _figure(7.6, 0.8 + 0.48 * len(funnel))
    axes = figure.subplots()
    places = np.arange(len(funnel))
    axes.barh(places, before, color=LOST, height=0.66)
    axes.barh(places, counts, color=MODEL, height=0.66)
    for place, (count, reached) in enumerate(zip(counts, before, strict=True)):
        lost = f"   −{reached - count:,}" if reached > count else ""
        text = f"{count:,}  ({count / total:.1%}){lost}"
        axes.text(float(reached) + 0.012 * total, place, text, va="center", fontsize=9, color=INK)
    axes.set_yticks(places, [step.name for step in funnel])
    axes.set_ylim(len(funnel) - 0.5, -0.5)
    axes.set_xlim(0, 1.32 * total)
    axes.set_title("Targets left after each step", loc="left", fontsize=11, color=INK)
    _quiet(axes)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def plot_policies(policies: Sequence[PolicyValue], path: Path) -> None:
    """True expected watch time of each way to choose."""
    figure = _figure(6.4, 1.0 + 0.4 * len(policies))
    axes = figure.subplots()
    values = [
        MetricValue(policy.expected_watch_time_s, policy.low, policy.high) for policy in policies
    ]
    labels = [f"{policy.name}  ({policy.share_of_best:.0%} of best)" for policy in policies]
    _bars(axes, labels, values, [MODEL] * len(policies))
    axes.set_title("Expected watch time, s a slot", loc="left", fontsize=11, color=INK)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _panels(
    lines: Sequence[tuple[str, Mapping[str, MetricValue]]], colors: Sequence[str], path: Path
) -> None:
    """A panel for each metric, a bar in it for each line."""
    names = list(dict.fromkeys(name for _, metrics in lines for name in metrics))
    num_columns = min(PANELS_A_ROW, len(names))
    num_rows = -(-len(names) // num_columns)
    figure = _figure(1.6 + 3.4 * num_columns, num_rows * (0.8 + 0.36 * len(lines)))
    grid = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True)
    undefined = MetricValue(float("nan"))
    for axes, name in zip(grid.flat, names, strict=False):
        values = [metrics.get(name, undefined) for _, metrics in lines]
        _bars(axes, [line for line, _ in lines], values, colors)
        axes.set_title(metric_label(name), loc="left", fontsize=10, color=INK)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _bars(
    axes: Axes, names: Sequence[str], values: Sequence[MetricValue], colors: Sequence[str]
) -> None:
    """Horizontal bars, the first on top, each with its whisker and its number."""
    places = np.arange(len(values))
    lengths = np.nan_to_num([value.value for value in values])
    ends = np.fmax(lengths, [value.high for value in values])
    axes.barh(places, lengths, color=colors, height=0.66)
    for place, (value, end) in enumerate(zip(values, ends, strict=True)):
        axes.plot([value.low, value.high], [place, place], color=INK, linewidth=1.2)
        is_defined = not np.isnan(value.value)
        axes.annotate(
            short_number(value.value) if is_defined else "not measured",
            (end, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK if is_defined else QUIET,
        )
    axes.set_yticks(places, names)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlim(0, 1.25 * max(float(ends.max(initial=0.0)), 1e-6))
    axes.locator_params(axis="x", nbins=5)
    _quiet(axes)


def _figure(width: float, height: float) -> Figure:
    """An empty figure, inches, with room at the edges."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, hspace=0.05, wspace=0.03)
    return Figure(figsize=(width, height), layout=layout)


def _quiet(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.tick_params(axis="x", colors=INK, labelsize=8, length=3, color=QUIET)
    axes.tick_params(axis="y", colors=INK, labelsize=9, length=0)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, size=9)
