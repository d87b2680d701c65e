"""`upnext report` writes one page about a release, whatever is known of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from upnext.registry.labels import append_move
from upnext.registry.release import publish

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease, Upnext


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Three small releases, the second of them stable and evaluated."""
    registry = tmp_path / "registry"

    def write(directory: Path) -> dict[str, Any]:
        (directory / "config.json").write_text('{"retrieval": {"guide": "recall_at_50"}}')
        return {"num_items": 12, "train_until": "2026-02-02T00:02:29.339000+00:00"}

    for _ in range(3):
        publish(registry, write)
    append_move(registry, "stable", 2)
    system = {"name": "retrieval", "is_baseline": False}
    metrics = {"recall_at_50": {"value": 0.25, "low": 0.2, "high": 0.3}}
    evaluation = {
        "protocol": "The last day.",
        "from_ms": 0,
        "until_ms": 86_400_000,
        "counts": {"targets": 5},
        "retrieval": [{**system, "metrics": metrics}],
    }
    path = registry / "evaluations" / "2" / "report.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(evaluation))
    return registry


def test_without_a_version_it_is_the_stable_release(upnext: Upnext, registry: Path) -> None:
    ended = upnext("report", registry)
    path = registry / "evaluations" / "2" / "report.html"
    assert (ended.status, ended.stdout) == (0, f"{path}\n")
    page = path.read_text(encoding="utf-8")
    assert "Release 2" in page
    assert "Retrieval: recall@50" in page
    assert "retrieval.guide" in page
    assert [one.name for one in path.parent.iterdir() if one.name.startswith(".")] == []


def test_without_a_stable_one_it_is_the_newest(upnext: Upnext, registry: Path) -> None:
    (registry / "labels.journal.jsonl").unlink()
    ended = upnext("report", registry)
    assert ended.stdout.endswith("evaluations/3/report.html\n")
    assert "was not evaluated" in Path(ended.stdout.strip()).read_text(encoding="utf-8")


def test_a_version_and_a_file_are_taken(upnext: Upnext, registry: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "one.html"
    ended = upnext("report", registry, "--version", 1, "--out", out)
    assert (ended.status, ended.stdout) == (0, f"{out}\n")
    assert "Release 1" in out.read_text(encoding="utf-8")
    assert not (registry / "evaluations" / "1").exists()


def test_what_is_not_there_is_refused(upnext: Upnext, registry: Path, tmp_path: Path) -> None:
    ended = upnext("report", registry, "--version", 9)
    assert (ended.status, ended.stdout) == (1, "")
    assert "there is 1, 2, 3" in ended.stderr
    assert upnext("report", tmp_path / "nowhere").status == 1


def test_a_damaged_release_has_a_page_that_says_so(upnext: Upnext, registry: Path) -> None:
    (registry / "releases" / "1" / "manifest.json").write_text("{}")
    ended = upnext("report", registry, "--version", 1)
    assert ended.status == 0
    assert "the release changed after it was published" in ended.stderr
    page = (registry / "evaluations" / "1" / "report.html").read_text(encoding="utf-8")
    assert 'class="problem"' in page


def test_a_trained_release_shows_its_curves_and_its_data(
    upnext: Upnext, tiny_release: TrainedRelease, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    assert upnext("report", tiny_release.registry, "--out", out).status == 0
    page = out.read_text(encoding="utf-8")
    assert "chosen/retrieval: loss" in page
    assert "Data and quarantine" in page
