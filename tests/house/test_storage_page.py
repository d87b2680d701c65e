"""docs/storage.md is run, command by command, against a bucket and two small releases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.house.pages import commands_of, run_script

from upnext.registry.labels import read_labels
from upnext.registry.release import list_releases, publish

PAGE = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")
UNTIL_FOLLOWED = "until grep -q rollback served/labels.journal.jsonl; do sleep 0.1; done"


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "a.txt").write_text("whole", encoding="utf-8")
    return {}


def test_every_command_of_the_page_does_what_it_says(bucket: str, tmp_path: Path) -> None:
    for _ in range(2):
        publish(tmp_path / "registry", _write)
    assert f"{bucket}/news" in PAGE
    script = f"{commands_of(PAGE)}\n{UNTIL_FOLLOWED}"
    said, complaints = run_script(script, tmp_path)
    assert "stable" in said
    assert "stable: nothing → 1" in complaints
    assert "stable: 2 → 1" in complaints
    assert read_labels(tmp_path / "served") == {"stable": 1}
    assert list_releases(tmp_path / "served") in ([1], [1, 2]), (
        "it may have seen both moves at once"
    )
