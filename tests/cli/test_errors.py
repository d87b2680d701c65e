"""Whatever is wrong is told on stderr: where, what was expected, what came.

Exit status 1: the data or a release is bad. 2: wrong usage, by a flag or a setting.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease, Upnext

HEADER = "user_id,item_id,started_at_ms,watch_time_s\n"
WITHOUT_TRAINING_LIBRARIES = """
import sys
sys.modules |= dict.fromkeys(("torch", "onnx", "onnxscript"))
from upnext.cli import main
main()
"""


@pytest.mark.parametrize(
    ("text", "where", "expected", "got"),
    [
        ("\n", "watches.csv", "a readable .csv file", "no header line"),
        (HEADER, "watches (watches.csv)", "at least one good row", "none"),
        (
            "user_id,item_id,started_at_ms\nu,i,3\n",
            "watches.csv",
            "a column watch_time_s",
            "item_id",
        ),
        (HEADER + "u,i,3,long\n", "watches (watches.csv)", "one good row", "is not a number"),
        (HEADER + "u,i,yesterday,3\n", "watches (watches.csv)", "one good row", "started_at_ms"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "train"])
def test_logs_that_cannot_be_used(
    upnext: Upnext, tmp_path: Path, verb: str, text: str, where: str, expected: str, got: str
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "watches.csv").write_text(text)
    registry = [tmp_path / "registry"] if verb == "train" else []
    said = refused(upnext, 1, verb, tmp_path / "logs", *registry)
    assert said.startswith(f"{where}: expected ")
    assert_tells(said, expected, got)
    assert not (tmp_path / "registry").exists()


def test_one_corrupt_file_among_many_is_named(
    upnext: Upnext, tiny_logs_dir: Path, tmp_path: Path
) -> None:
    logs = shutil.copytree(tiny_logs_dir, tmp_path / "logs")
    (good, *_) = sorted((logs / "impressions").glob("*.parquet"))
    content = good.read_bytes()
    (logs / "impressions" / "zz.parquet").write_bytes(content[: len(content) // 2])
    said = refused(upnext, 1, "train", logs, tmp_path / "registry")
    assert said.startswith("impressions/zz.parquet: expected a readable .parquet file, got ")
    assert "Hint: mend or remove it" in said

    (tmp_path / "run.toml").write_text("[logs]\nskip_unreadable_files = true\n")
    checked = upnext("check", logs, "--config", tmp_path / "run.toml")
    assert checked.status == 0
    assert "zz.parquet" in checked.stdout


def test_a_registry_that_cannot_be_written_is_refused_before_logs_are_read(
    upnext: Upnext, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    said = refused(upnext, 1, "train", tmp_path / "nowhere", tmp_path / "file")
    assert_tells(said, "file: expected a directory that can be written, got a file")


def test_a_file_that_cannot_be_written_is_named_without_a_trace(
    upnext: Upnext, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "world.toml").write_text("num_users = 2\nnum_items = 200\nnum_days = 1\n")
    logs = tmp_path / "file" / "logs"
    said = refused(upnext, 1, "simulate", logs, "--config", tmp_path / "world.toml")
    assert said.strip().startswith(str(logs.parent))
    assert said.endswith(": Not a directory\n")


def test_traffic_tells_of_labels_that_no_release_has(upnext: Upnext, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    split = upnext("traffic", tmp_path / "registry", "stable=95", "canary=5")
    assert split.status == 0
    assert "label canary points at no release yet\n" in split.stderr


def test_logs_that_are_not_there(upnext: Upnext, tmp_path: Path) -> None:
    said = refused(upnext, 1, "check", tmp_path / "nowhere")
    assert_tells(said, "nowhere: expected a directory of logs, got no such directory")


@pytest.mark.parametrize(
    ("text", "where", "got", "hint"),
    [
        ("[retrieval]\nnum_epoch = 3", "run.toml retrieval:", "'num_epoch'", "'num_epochs'"),
        ("[logs]\nmax_watch_times = 3", "logs", "'max_watch_times'", "'max_watch_time_s'"),
        (
            "[logs.watches]\ncolumns = { user = 'u' }",
            "[logs.watches] columns",
            "'user'",
            "'user_id'",
        ),
    ],
)
def test_an_unknown_setting_is_wrong_usage(
    upnext: Upnext, tiny_logs_dir: Path, tmp_path: Path, text: str, where: str, got: str, hint: str
) -> None:
    run_toml = tmp_path / "run.toml"
    run_toml.write_text(text)
    said = refused(upnext, 2, "train", tiny_logs_dir, tmp_path / "r", "--config", run_toml)
    assert_tells(said, where, "expected one of", got, f"did you mean {hint}?")


def test_check_reads_no_more_settings_than_those_of_the_logs(
    upnext: Upnext, tiny_logs_dir: Path, tmp_path: Path
) -> None:
    run_toml = tmp_path / "run.toml"
    run_toml.write_text("[logs]\nmax_watch_times = 3\n")
    said = refused(upnext, 2, "check", tiny_logs_dir, "--config", run_toml)
    assert_tells(said, "[logs]: expected one of", "did you mean 'max_watch_time_s'?")


@pytest.mark.parametrize("verb", ["recommend", "evaluate", "label"])
def test_a_release_with_one_flipped_bit_is_used_for_nothing(
    upnext: Upnext, tiny_release: TrainedRelease, tmp_path: Path, verb: str
) -> None:
    registry = shutil.copytree(tiny_release.registry, tmp_path / "registry")
    damaged = registry / "releases" / "1" / "retrieval" / "item_vectors.npy"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.chmod(0o644)
    damaged.write_bytes(content)
    arguments: dict[str, list[object]] = {
        "recommend": [registry],
        "evaluate": [tiny_release.logs_dir, registry],
        "label": [registry, "stable", 1],
    }
    said = refused(upnext, 1, verb, *arguments[verb])
    assert said.startswith(f"{damaged}: expected SHA-256 ")
    assert_tells(said, ", got ", "Hint: the release changed after it was published")
    assert not (registry / "labels.journal.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--k", "0"], 2, "k: expected 1 or more, got 0."),
        (["--at", "noon"], 2, "--at: expected an ISO time, got 'noon'."),
        (["--published-since", "noon"], 2, "--published-since: expected an ISO time, got 'noon'."),
        (["--diversity", "2"], 2, "page.diversity: expected 0 to 1, got 2.0."),
        (["--explore", "11"], 2, "page: expected num_fresh and num_explored to be at most k = 10"),
        (["--max-duration", "-1"], 2, "rules.max_duration_s: expected 0 or more, got -1.0."),
        (["--release", "best"], 1, "expected a label, got 'best'."),
        (["--release", "12"], 1, "expected a published version, got '12'."),
        (["--k", "many"], 2, "Invalid value for '--k'"),
        (["--user"], 2, "--user"),
        (["--users", "u1"], 2, "No such option"),
    ],
)
def test_a_request_that_cannot_be_understood(
    upnext: Upnext,
    tiny_release: TrainedRelease,
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    assert said in refused(upnext, status, "recommend", tiny_release.registry, *arguments)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["recommend", "nowhere"], 1, "nowhere: expected a release, got none."),
        (["label", "nowhere", "stable", "1"], 1, "expected a release, got no such directory."),
        (["label", "nowhere", "Stable!", "1"], 1, "label: expected a small letter"),
        (["label", "nowhere", "stable", "one"], 2, "Invalid value for 'VERSION'"),
        (["rollback", "nowhere", "stable"], 1, "got no such label."),
        (["import", "netflix", "a", "b"], 2, "NAME: expected one of movielens-100k"),
        (["import", "movielens-1m", "a", "b"], 1, "expected ratings.dat"),
        (["serve", ".", "--host", "0.0.0.0"], 2, "expected a loopback address"),
        (["serve", "nowhere"], 1, "nowhere: expected a directory of releases, got none."),
        (["serve", "nowhere", "--port", "70000"], 2, "Invalid value for '--port'"),
        (["train", "logs", "registry", "--protocol", "random"], 2, "one of 'time', 'last-event'"),
        (["simulate", "logs", "--config", "nowhere.toml"], 2, "got no such file."),
        (["train", "logs"], 2, "REGISTRY"),
        (["fly"], 2, "No such command 'fly'"),
    ],
)
def test_wrong_usage_and_missing_things(
    upnext: Upnext,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(upnext, status, *arguments)


def test_a_taken_port_is_told(upnext: Upnext, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(upnext, 2, "serve", tmp_path, "--port", port)
    assert_tells(said, f"127.0.0.1:{port}: expected a free port, got ", "Hint: choose another")


@pytest.mark.parametrize("arguments", [["train", "a", "b"], ["evaluate", "a", "b"], ["demo", "a"]])
def test_what_needs_the_training_libraries_says_how_to_get_them(
    tmp_path: Path, arguments: list[str]
) -> None:
    command = [sys.executable, "-c", WITHOUT_TRAINING_LIBRARIES, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"\w+ is missing: pip install 'upnext\[train\]'\n", ended.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_nobody_expects_to_be_missing_is_not_explained_away(
    upnext: Upnext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "upnext.logs.read", None)
    with pytest.raises(ModuleNotFoundError, match=r"upnext\.logs\.read"):
        upnext("check", tmp_path)


def test_without_a_verb_the_help_is_shown(upnext: Upnext) -> None:
    ended = upnext()
    assert ended.status == 2
    assert "recommend" in ended.stdout


def refused(upnext: Upnext, status: int, *arguments: object) -> str:
    """What stderr says of a run that ends with this status and has no result."""
    ended = upnext(*arguments)
    assert ended.status == status, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.stderr


def assert_tells(said: str, *parts: str) -> None:
    assert [part for part in parts if part not in said] == [], said


def test_a_registry_that_is_not_there_is_told(upnext: Upnext, tmp_path: Path) -> None:
    ended = upnext("releases", str(tmp_path / "nowhere"))
    assert ended.status == 1
    assert "nowhere: expected a directory of releases, got none" in ended.stderr
