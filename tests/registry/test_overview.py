"""The list of releases says what opening each of them says, however often it was asked before."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from upnext.errors import ReleaseError
from upnext.evaluation.intervals import MetricValue
from upnext.evaluation.report import EvaluationReport, SystemResult
from upnext.registry.detail import Lineage, data_of, detail
from upnext.registry.evaluations import evaluation_path
from upnext.registry.labels import append_move
from upnext.registry.overview import overview
from upnext.registry.release import MANIFEST, SEAL, open_release, publish
from upnext.registry.remembered import remembered_release
from upnext.registry.servers import HeldRelease, Presence

METADATA = {
    "train_until": "2026-02-02T00:02:29+00:00",
    "history_until": "2026-02-04T00:02:36+00:00",
    "num_items": 12,
    "training": "a1",
    "data": {"tables": {"watches": {"num_read": 3, "num_accepted": 2}}, "derived": ["items"]},
}
REPORT = EvaluationReport(
    protocol="of a test",
    from_ms=0,
    until_ms=1,
    counts={},
    retrieval=(
        SystemResult(name="most watched", metrics={"a": MetricValue(0.5)}, is_baseline=True),
        SystemResult(name="retrieval", metrics={"a": MetricValue(0.25, 0.125, 0.5)}),
    ),
    ranking=(SystemResult(name="ranking", metrics={"auc": MetricValue(0.75)}),),
)


def _publish(registry: Path, **metadata: Any) -> None:
    def write(directory: Path) -> Mapping[str, Any]:
        (directory / "config.json").write_text('{"retrieval": {"guide": "recall_at_50"}}')
        (directory / "index").mkdir()
        (directory / "index" / "a.txt").write_text("whole")
        return {**METADATA, **metadata}

    publish(registry, write)


def _report(registry: Path, version: int, content: str) -> None:
    path = evaluation_path(registry, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Three releases; the third was extended from the second, which was evaluated."""
    for metadata in ({}, {}, {"extended_from": 2}):
        _publish(tmp_path, **metadata)
    _report(tmp_path, 2, json.dumps(REPORT.to_table()))
    append_move(tmp_path, "stable", 2)
    return tmp_path


def _unlocked(path: Path) -> Path:
    for one in (path.parent, path):
        one.chmod(one.stat().st_mode | 0o200)
    return path


def test_the_list_says_what_opening_says(registry: Path) -> None:
    for _ in range(2):
        for row in overview(registry):
            release = open_release(registry, row.version)
            assert (row.created_at, row.problem) == (release.created_at, "")
            assert row.size_bytes == sum(one.size_bytes for one in release.files.values())
            for name in ("train_until", "num_items", "training"):
                assert getattr(row, name) == release.metadata[name]
            assert row.labels == (["stable"] if row.version == 2 else [])


def test_the_metrics_are_those_of_the_report_and_of_no_baseline(registry: Path) -> None:
    first, second, _ = overview(registry)
    assert (first.has_evaluation, first.metrics) == (False, {})
    assert second.has_evaluation
    table = json.loads(evaluation_path(registry, 2).read_text(encoding="utf-8"))
    for stage, place in (("retrieval", 1), ("ranking", 0)):
        told = table[stage][place]["metrics"]
        assert {name: vars_of(one) for name, one in second.metrics[stage].items()} == told


def vars_of(measured: Any) -> dict[str, float | None]:
    return {name: getattr(measured, name) for name in ("value", "low", "high")}


def _cut(registry: Path) -> None:
    _unlocked(registry / "releases/2/index/a.txt").write_text("cut", encoding="utf-8")


def _take(registry: Path) -> None:
    _unlocked(registry / "releases/2/index/a.txt").unlink()


def _add(registry: Path) -> None:
    (_unlocked(registry / "releases/2/index/a.txt").parent / "b.txt").touch()


def _link(registry: Path) -> None:
    _take(registry)
    (registry / "releases/2/index/a.txt").symlink_to(registry / "releases/1/index/a.txt")


def _unseal(registry: Path) -> None:
    _unlocked(registry / "releases/2" / SEAL).write_text("nothing", encoding="utf-8")


def _garble(registry: Path) -> None:
    _unlocked(registry / "releases/2" / MANIFEST).write_bytes(b"\xff{")


def _replace(registry: Path) -> None:
    path = registry / "releases/2"
    for one in [path, *path.rglob("*")]:
        one.chmod(0o755)
    shutil.rmtree(path)
    path.write_text("a file", encoding="utf-8")


@pytest.mark.parametrize("damage", [_cut, _take, _add, _link, _unseal, _garble, _replace])
def test_damage_is_told_though_the_release_was_seen_whole(
    registry: Path, damage: Callable[[Path], None]
) -> None:
    before = overview(registry)
    damage(registry)
    with pytest.raises(ReleaseError) as caught:
        open_release(registry, 2, verify=False)
    for _ in range(2):
        first, second, third = overview(registry)
        assert (first, third) == (before[0], before[2])
        assert second.problem == str(caught.value)
        assert (second.labels, second.num_items, second.size_bytes) == (["stable"], None, 0)
        assert second.metrics == before[1].metrics
        told = detail(registry, 2)
        assert told.problem == str(caught.value)
        assert (told.files, told.metadata, told.config, told.lineage) == ((), {}, {}, Lineage())
        assert told.evaluation is not None


@pytest.mark.parametrize(
    "content", ["{", "[]", "\ud800", '{"retrieval": [{}]}', '{"ranking": 3}', '{"ranking": [4]}']
)
def test_a_damaged_report_is_told_and_the_release_with_it(registry: Path, content: str) -> None:
    before = overview(registry)
    evaluation_path(registry, 2).write_bytes(content.encode("utf-8", "surrogatepass"))
    _, second, _ = overview(registry)
    assert second.problem.startswith(str(evaluation_path(registry, 2)))
    assert ": expected " in second.problem
    damaged = replace(before[1], problem=second.problem, metrics={}, baselines={})
    assert second == damaged
    assert detail(registry, 2).created_at == before[1].created_at


def test_a_report_that_is_written_anew_is_read_anew(registry: Path) -> None:
    assert overview(registry)[1].metrics["ranking"]["auc"].value == 0.75
    better = replace(REPORT, ranking=(SystemResult(name="r", metrics={"auc": MetricValue(0.5)}),))
    _report(registry, 2, json.dumps(better.to_table()))
    assert overview(registry)[1].metrics["ranking"]["auc"].value == 0.5


def test_what_did_not_change_is_not_read_again(registry: Path) -> None:
    assert remembered_release(registry, 1) is remembered_release(registry, 1)
    path = registry / "releases/1/index/a.txt"
    os.utime(_unlocked(path), ns=(0, 0))
    seen = remembered_release(registry, 1)
    assert seen.files == open_release(registry, 1).files


def test_the_detail_is_all_that_the_release_says(registry: Path) -> None:
    release = open_release(registry, 3)
    told = detail(registry, 3)
    assert {one.name: (one.size_bytes, one.sha256) for one in told.files} == {
        name: (entry.size_bytes, entry.sha256) for name, entry in release.files.items()
    }
    assert told.metadata == release.metadata
    assert told.config == release.json("config.json")
    assert f"{told.manifest_sha256}  {MANIFEST}\n" == (release.path / SEAL).read_text()
    assert told.lineage == Lineage(
        extends=2,
        training="a1",
        train_until=METADATA["train_until"],  # type: ignore[arg-type]
        history_until=METADATA["history_until"],  # type: ignore[arg-type]
    )
    assert (told.problem, told.evaluation) == ("", None)
    assert detail(registry, 2).evaluation == REPORT.to_table()
    assert detail(registry, 2).lineage.extends is None
    assert data_of(release) == {**METADATA["data"], "unreadable_files": []}  # type: ignore[dict-item]


def test_servers_tell_what_opening_took(registry: Path) -> None:
    assert detail(registry, 1).warm_up.num_servers == 0
    presences = [Presence.join(registry) for _ in range(3)]
    held = [
        HeldRelease(version=1, state="ready", load_time_s=2.0, num_tried=40),
        HeldRelease(version=1, state="ready", load_time_s=3.0),  # of a server that does not tell
        HeldRelease(version=1, state="failed", cause="no memory"),
    ]
    for presence, one in zip(presences, held, strict=True):
        presence.tell(replace(presence.status, releases=(one,)))
    told = detail(registry, 1)
    warm_up = (told.warm_up.num_servers, told.warm_up.load_time_s, told.warm_up.num_tried)
    assert warm_up == (2, 3.0, 40)
    by_server = {one.server: (one.state, one.load_time_s, one.num_tried) for one in told.servers}
    assert by_server == {
        presence.status.server: (one.state, one.load_time_s, one.num_tried)
        for presence, one in zip(presences, held, strict=True)
    }
    assert overview(registry)[0].servers == told.servers
    for presence in presences:
        presence.leave()


def test_a_release_without_anything_to_say_is_told_too(tmp_path: Path) -> None:
    def write(directory: Path) -> Mapping[str, Any]:
        (directory / "a.txt").touch()
        return {}

    publish(tmp_path, write)
    told = detail(tmp_path, 1)
    assert (told.problem, told.config, told.lineage) == ("", {}, Lineage())
    assert data_of(open_release(tmp_path, 1)) == {
        "tables": {},
        "unreadable_files": [],
        "derived": [],
    }


def test_the_best_baseline_at_each_metric_is_told(tmp_path: Path) -> None:
    _publish(tmp_path)
    metrics: list[dict[str, float | None]] = [
        {"auc": 0.5, "weighted_per_user_loss": 0.25},
        {"auc": 0.625},
        {"auc": None},
        {"weighted_per_user_loss": 0.125},
    ]
    systems = [
        {
            "name": f"baseline {number}",
            "is_baseline": True,
            "metrics": {name: {"value": value} for name, value in one.items()},
        }
        for number, one in enumerate(metrics)
    ]
    own = {"name": "ranking", "is_baseline": False, "metrics": {"auc": {"value": 0.75}}}
    _report(tmp_path, 1, json.dumps({"ranking": [*systems, own]}))
    told = overview(tmp_path)[0].baselines
    assert told["retrieval"] == {}
    assert {metric: (best.name, best.value) for metric, best in told["ranking"].items()} == {
        "auc": ("baseline 1", 0.625),
        "weighted_per_user_loss": ("baseline 3", 0.125),
    }
