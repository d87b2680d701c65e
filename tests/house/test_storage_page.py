"""docs/storage.md is run, command by command, against a bucket and two small releases."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upnext.registry.labels import read_labels
from upnext.registry.release import list_releases, publish

PAGE = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")
LATEST_S = 180
UNTIL_FOLLOWED = "until grep -q rollback served/labels.journal.jsonl; do sleep 0.1; done"


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "a.txt").write_text("whole", encoding="utf-8")
    return {}


def test_every_command_of_the_page_does_what_it_says(bucket: str, tmp_path: Path) -> None:
    for _ in range(2):
        publish(tmp_path / "registry", _write)
    assert f"{bucket}/news" in PAGE
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    whole = f"trap 'kill %1; wait' EXIT\n{script}\n{UNTIL_FOLLOWED}"
    running = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", whole],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, complaints = running.communicate(timeout=LATEST_S)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0, complaints
    assert "stable" in said
    assert "stable: nothing → 1" in complaints
    assert "stable: 2 → 1" in complaints
    assert read_labels(tmp_path / "served") == {"stable": 1}
    assert list_releases(tmp_path / "served") in ([1], [1, 2]), (
        "it may have seen both moves at once"
    )
