"""What README.md shows is run, as it stands there; a comment marks the few blocks that are not."""

import os
import re
import subprocess
import sys
from pathlib import Path

from upnext.config import read_config
from upnext.logs.read import read_logs
from upnext.pipeline.config import RunConfig

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(<!-- not run -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(language, code, not marked) for marked, language, code in BLOCK.findall(README)]
QUICK_START, OWN_LOGS = "## Quick start", "## Your own logs"


def blocks(section: str, language: str) -> list[str]:
    """The blocks of one section that are to be run, or read."""
    text = README.partition(section)[2].partition("\n## ")[0]
    return [code for lang, code, is_run in BLOCKS if lang == language and is_run and code in text]


def run(command: list[str], directory: Path) -> str:
    """Runs in a directory as a reader would, with this environment's `upnext`; its stdout."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_quick_start_runs(tmp_path: Path) -> None:
    (world,) = blocks(QUICK_START, "toml")
    (tmp_path / "world.toml").write_text(world, encoding="utf-8")
    (commands,) = blocks(QUICK_START, "sh")
    told = run(["bash", "-euo", "pipefail", "-c", commands], tmp_path)
    assert "stable" in told.splitlines()[-1], "the label stands in the list of releases"

    (program,) = blocks(QUICK_START, "python")
    answer = run([sys.executable, "-c", program], tmp_path).splitlines()
    assert len(answer) == 5
    assert all(re.match(r" *\d+\.\d s  \S", line) for line in answer)


def test_the_column_map_reads_such_an_export(tmp_path: Path) -> None:
    (code,) = blocks(OWN_LOGS, "toml")
    (tmp_path / "run.toml").write_text(code, encoding="utf-8")
    (tmp_path / "plays").mkdir()
    (tmp_path / "plays" / "monday.csv").write_text(
        "uid,video,start,seconds\n7,a,1970-01-01T00:00:01Z,2.5\n", encoding="utf-8"
    )
    (tmp_path / "videos.jsonl").write_text('{"id": "a", "published": 0, "length": 9000}\n')

    logs, report = read_logs(tmp_path, read_config(tmp_path / "run.toml", RunConfig).logs)

    assert report.tables["watches"].num_accepted == 1
    assert logs.watches.frame.to_dicts() == [
        {"user_id": 7, "item_id": "a", "started_at_ms": 1000, "watch_time_s": 2.5}
    ]
    assert logs.items.frame["duration_s"].to_list() == [9.0]


def test_blocks_that_are_not_run_are_few() -> None:
    marked = [code for _, code, is_run in BLOCKS if not is_run]
    assert len(marked) == README.count("<!-- not run -->") <= 3
