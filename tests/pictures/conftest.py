"""Laws that every picture obeys, and the report and curves that pictures are drawn from."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from upnext.evaluation.calibration import CalibrationBin
from upnext.evaluation.intervals import MetricValue
from upnext.evaluation.off_policy import OffPolicyValue
from upnext.evaluation.report import (
    Difference,
    EvaluationReport,
    FunnelStep,
    PolicyValue,
    RankingSlice,
    SystemResult,
)
from upnext.pictures.lettering import width_of
from upnext.pictures.picture import Picture, as_html

SVG_TAGS = {"svg", "g", "line", "rect", "circle", "path", "text", "tspan", "title"}
HTML_TAGS = {"figure", "figcaption", "h3", "p", "ul", "li", "span", "div", "details", "summary"}
TABLE_TAGS = {"table", "caption", "thead", "tbody", "tr", "th", "td"}
DRAWN = {"line", "rect", "circle", "path", "text"}
SLACK = 0.06
"""Coordinates are written with two decimals, those of paths with one."""
NOTHING = "not measured"

Law = Callable[[Picture], None]


@pytest.fixture(scope="session")
def holds_laws() -> Law:
    return _holds_laws


def _holds_laws(picture: Picture) -> None:
    drawing = ET.fromstring(picture.svg)
    page = ET.fromstring(as_html(picture))
    assert {one.tag for one in drawing.iter()} <= SVG_TAGS
    assert {one.tag for one in page.iter()} <= SVG_TAGS | HTML_TAGS | TABLE_TAGS
    for one in page.iter():
        assert one.attrib.keys().isdisjoint({"style", "href", "src"})
        assert not [name for name in one.attrib if name.startswith("on")]
    assert page.findtext("figcaption/h3")
    _is_inside(drawing)
    _table_has_all(drawing, picture)


def _is_inside(drawing: ET.Element) -> None:
    """Nothing is drawn outside of the viewBox, and no number is nan."""
    left, top, width, height = map(float, drawing.attrib["viewBox"].split())
    for one in drawing.iter():
        if one.tag not in DRAWN:
            continue
        for x, y in corners(one):
            assert left - SLACK <= x <= left + width + SLACK, ET.tostring(one)
            assert top - SLACK <= y <= top + height + SLACK, ET.tostring(one)


def corners(one: ET.Element) -> Iterator[tuple[float, float]]:
    """Points between which an element is drawn."""
    at = {name: float(v) for name, v in one.attrib.items() if name not in ("class", "d")}
    match one.tag:
        case "line":
            yield from ((at["x1"], at["y1"]), (at["x2"], at["y2"]))
        case "rect":
            assert at["width"] >= 0
            assert at["height"] >= 0
            yield from ((at["x"], at["y"]), (at["x"] + at["width"], at["y"] + at["height"]))
        case "circle":
            yield (at["cx"], at["cy"])
        case "path":
            numbers = [float(number) for number in re.findall(r"-?[0-9.]+", one.attrib["d"])]
            assert numbers
            yield from zip(numbers[::2], numbers[1::2], strict=True)
        case "text":
            width = width_of("".join(part for part in one.itertext()))
            kinds = one.attrib["class"].split()
            start = at["x"] - (width if "end" in kinds else width / 2 if "middle" in kinds else 0)
            yield from ((start, at["y"] - 9), (start + width, at["y"]))


def _table_has_all(drawing: ET.Element, picture: Picture) -> None:
    """Whatever number is drawn or told when pointed at stands in the table."""
    assert all(len(row) == len(picture.table.header) for row in picture.table.rows)
    cells = {cell for row in picture.table.rows for cell in row[1:]}
    cells |= {part for cell in cells for part in cell.split(", ")}
    told = [one.text or "" for one in drawing.iter("title")]
    numbers = [text.rpartition(": ")[2] for text in told]
    assert [number for number in numbers if number not in cells] == []
    beside = [
        (one.text or "")
        for one in drawing.iter("text")
        if "number" in one.attrib.get("class", "").split()
    ]
    assert all(any(cell.startswith(number) for cell in cells) for number in beside)


@pytest.fixture(scope="session")
def report() -> dict[str, Any]:
    """A report.json with every part."""
    hit, nothing = MetricValue(0.25, 0.2, 0.31), MetricValue(float("nan"))

    def part(low: float, high: float) -> CalibrationBin:
        return CalibrationBin(
            low=low,
            high=high,
            num_impressions=1500,
            predicted_s=2.0 + low,
            actual_s=1.75 + low,
            ratio=MetricValue(1.143, 1.05, 1.25),
        )

    found = EvaluationReport(
        protocol="Next day, all items ranked.",
        from_ms=1_770_077_001_946,
        until_ms=1_770_163_339_778,
        counts={"targets": 1200, "users": 80},
        retrieval=[
            SystemResult(name="retrieval", metrics={"recall_at_50": hit, "coverage_at_50": hit}),
            SystemResult(
                name="most watched in 7 days, by everybody in the region of the user",
                metrics={"recall_at_50": nothing},
                is_baseline=True,
            ),
        ],
        differences=[
            Difference(
                system="retrieval", baseline=name, metric=metric, difference=MetricValue(*told)
            )
            for name, metric, told in (
                ("most watched", "recall_at_50", (0.1, 0.02, 0.22)),
                ("watched together", "ndcg_at_10", (-0.1, -0.2, -0.01)),
            )
        ],
        ranking=[SystemResult(name="ranker", metrics={"mean_absolute_error_s": MetricValue(31.5)})],
        ranking_slices=[
            RankingSlice(name="all", num_impressions=1500, metrics={"xauc": hit}),
            RankingSlice(name="new items", num_impressions=70, metrics={"per_user_xauc": hit}),
        ],
        calibration_overall=part(0.5, 4.0),
        calibration=[part(0.5, 2.0), part(2.0, 4.0)],
        calibration_by_duration=[part(0.0, 10.0), part(10.0, 7200.0)],
        calibration_by_position=[part(0.0, 0.0), part(9.0, 9.0)],
        off_policy=[
            OffPolicyValue(
                policy="any candidate",
                num_slots=5000,
                doubly_robust_s=nothing,
                max_weight=39.6,
                effective_num_slots=443.2,
                truth_s=33.3,
                logged_s=hit,
                ips_s=hit,
                snips_s=hit,
                mean_weight=hit,
            )
        ],
        funnel=[
            FunnelStep(name="targets", num_events=1200),
            FunnelStep(name="among the final 10", num_events=300),
        ],
        policies=[
            PolicyValue(
                name="upnext", expected_watch_time_s=45.0, low=44.0, high=46.5, share_of_best=0.9
            )
        ],
        notes=["no impressions in the logs."],
    )
    importance = [{"name": "history", "loss_increase": {"value": 0.1, "low": 0.05, "high": 0.2}}]
    return {**found.to_table(), "feature_importance": importance}


@pytest.fixture(scope="session")
def training() -> dict[str, Any]:
    """A run that was resumed twice."""
    points = [
        {"step": k, "at_ms": 1000 * k, "loss": 8 - k / 50, "learning_rate": 1e-3 / k}
        for k in range(1, 200)
    ]
    epochs = [
        {
            "epoch": k,
            "step": 66 * (k + 1),
            "at_ms": 66_000 * (k + 1),
            "metrics": {"loss": 7.0 - k, "examples_per_s": 1e4, "recall_at_50": 0.1 + k / 100},
        }
        for k in range(3)
    ]
    curve = {
        "part": "chosen/retrieval",
        "points": points,
        "epochs": epochs,
        "best_epoch": 1,
        "resumes": [{"step": 70, "at_ms": 70_000}, {"step": 71, "at_ms": 71_000}],
    }
    empty: dict[str, Any] = {
        "part": "chosen/ranking",
        "points": [],
        "epochs": [],
        "best_epoch": None,
    }
    return {"training": "r1", "release": 3, "is_running": False, "curves": [curve, empty]}
