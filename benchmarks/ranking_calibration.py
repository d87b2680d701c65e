"""Are predicted seconds the seconds that come? Both variants of weighted logistic regression.

With the paper's weights the odds are E[T] / (1 − P), so at a click rate P the ratio of predicted to
actual watch time should be 1 / (1 − P); counting every impression as a negative should make it 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.ranking_worlds import Measured, World
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullFormatter

from upnext.evaluation.calibration import CalibrationBin, calibration_by_quantile
from upnext.evaluation.intervals import MetricValue, metric_value, sum_by_user
from upnext.schema import Floats

INK, QUIET, BASELINE = "#1f2933", "#9aa5b1", "#b8c1cc"
MODEL, PAPER = "#2563a8", "#c2571a"
DOTS_PER_INCH = 150
DASHES = (0, (4, 3))


@dataclass(frozen=True)
class Calibrations:
    """What the exact and the paper's variant promise, and the click rate [M] that theory asks."""

    world: World
    exact_s: Floats
    paper_s: Floats
    click_rate: Floats

    @classmethod
    def of(cls, world: World, exact: Measured, paper: Measured, click: Measured) -> "Calibrations":
        """All before calibration; the click rate is that which a ranker by clicks predicts."""
        rate = click.uncalibrated_s / np.float32(world.mean_watch_s)
        return cls(world, exact.uncalibrated_s, paper.uncalibrated_s, rate)

    def overall(self) -> dict[str, MetricValue]:
        """Σ predicted / Σ actual of both, and what theory has the paper's be, by user."""
        shown = self.world.shown
        actual = sum_by_user(shown.user_rows, shown.watch_time_s)
        biased_s = shown.watch_time_s / (1 - self.click_rate)
        return {
            name: metric_value(sum_by_user(shown.user_rows, seconds), actual)
            for name, seconds in (
                ("exact", self.exact_s),
                ("paper", self.paper_s),
                ("theory of paper", biased_s),
            )
        }

    def by_click_rate(self, predicted_s: Floats) -> tuple[CalibrationBin, ...]:
        """Deciles of the predicted click rate."""
        shown = self.world.shown
        return calibration_by_quantile(
            self.click_rate, predicted_s, shown.watch_time_s, shown.user_rows
        )

    def by_seconds(self, predicted_s: Floats) -> tuple[CalibrationBin, ...]:
        """Deciles of the predicted seconds themselves."""
        shown = self.world.shown
        return calibration_by_quantile(
            predicted_s, predicted_s, shown.watch_time_s, shown.user_rows
        )

    def bin_rates(self) -> list[float]:
        """The mean predicted click rate of each decile of it."""
        bins = self.by_click_rate(self.exact_s)
        rate = self.click_rate
        return [float(rate[(rate >= part.low) & (rate <= part.high)].mean()) for part in bins]


def print_calibration(calibrations: Sequence[Calibrations]) -> list[dict[str, object]]:
    """Two Markdown tables a world, overall and by decile of the click rate; and their lines."""
    lines: list[dict[str, object]] = []
    for one in calibrations:
        told = {name: str(value) for name, value in one.overall().items()}
        rate = f"{one.world.shown.watched.mean():.3f}"
        lines.append({"table": "calibration", "world": one.world.name, "clicks": rate, **told})
        print(f"\n### Calibration before any correction, {one.world.name}\n")
        print("| click rate | exact | paper | 1/(1 − P) by theory |\n|---|---|---|---|")
        print(f"| all, {rate} watched | " + " | ".join(told.values()) + " |")
        bins = (one.by_click_rate(one.exact_s), one.by_click_rate(one.paper_s))
        for predicted, exact, paper in zip(one.bin_rates(), *bins, strict=True):
            theory = 1 / (1 - predicted)
            print(f"| {predicted:.3f} | {exact.ratio} | {paper.ratio} | {theory:.3f} |")
    return lines


def plot_calibration(calibrations: Sequence[Calibrations], path: Path) -> None:
    """A row a world: reliability by decile; the ratio by predicted click rate beside theory."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, hspace=0.05, wspace=0.03)
    figure = Figure(figsize=(9.6, 4.2 * len(calibrations)), layout=layout)
    grid = figure.subplots(len(calibrations), 2, squeeze=False)
    for (reliability, ratios), one in zip(grid, calibrations, strict=True):
        _plot_reliability(reliability, one)
        _plot_ratios(ratios, one)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _plot_reliability(axes: Axes, one: Calibrations) -> None:
    ends_s: list[float] = []
    for name, seconds, color in _variants(one):
        bins = one.by_seconds(seconds)
        predicted, actual = ([getattr(p, key) for p in bins] for key in ("predicted_s", "actual_s"))
        for part in bins:
            if part.ratio.low > 0:
                ends = [part.predicted_s / part.ratio.high, part.predicted_s / part.ratio.low]
                axes.plot([part.predicted_s] * 2, ends, color=color, linewidth=1.2)
        axes.plot(predicted, actual, color=color, marker="o", markersize=5, label=name)
        ends_s += [*predicted, *actual]
    diagonal = [0.8 * min(ends_s), 1.25 * max(ends_s)]
    axes.plot(diagonal, diagonal, color=QUIET, linewidth=1, linestyle=DASHES)
    axes.set(xscale="log", yscale="log")
    _in_powers(axes.xaxis, axes.yaxis)
    axes.set_xlabel("expected watch time, s an impression")
    axes.set_ylabel("actual watch time, s an impression")
    _finish(axes, f"{one.world.name}: reliability by decile")


def _plot_ratios(axes: Axes, one: Calibrations) -> None:
    rates = one.bin_rates()
    for name, seconds, color in _variants(one):
        bins = one.by_click_rate(seconds)
        for rate, part in zip(rates, bins, strict=True):
            axes.plot([rate] * 2, [part.ratio.low, part.ratio.high], color=color, linewidth=1.2)
        ratios = [part.ratio.value for part in bins]
        axes.plot(rates, ratios, color=color, marker="o", markersize=5, label=name)
    curve = np.linspace(0, max(rates), 200)
    axes.plot(curve, 1 / (1 - curve), color=PAPER, linewidth=1, linestyle=DASHES, label="1/(1 − P)")
    axes.axhline(1, color=QUIET, linewidth=1, linestyle=DASHES)
    axes.set_yscale("log")
    _in_powers(axes.yaxis)
    axes.set_xlabel("predicted click rate P")
    axes.set_ylabel("expected / actual watch time")
    _finish(axes, f"{one.world.name}: ratio by click rate")


def _variants(one: Calibrations) -> Sequence[tuple[str, Floats, str]]:
    return (("paper", one.paper_s, PAPER), ("exact", one.exact_s, MODEL))


def _in_powers(*each: Axis) -> None:
    """Ticks for scales in equal steps of ratio: bias is a factor, and a few predictions huge."""
    for axis in each:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(BASELINE)
    axes.tick_params(labelsize=8, length=3, color=QUIET, labelcolor=INK)
    axes.tick_params(which="minor", length=0)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, size=9)
