"""Prepared logs give training what the same logs give it in memory, bit for bit."""

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pipeline.raw_logs import (
    NOW_MS,
    WATCH_NAMES,
    few_at_once,
    outcome,
    raw_logs,
    refused,
    write,
)

import upnext.logs.pieces
import upnext.pipeline.prepare
import upnext.pipeline.records
from upnext.errors import DataError
from upnext.examples.encoder import ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.prepared import PreparedLogs
from upnext.examples.watches import WatchTargets, watch_targets
from upnext.logs.read import read_logs
from upnext.logs.split import Split
from upnext.pipeline.config import SplitConfig
from upnext.pipeline.learning_logs import split_logs
from upnext.pipeline.prepare import prepare
from upnext.pipeline.split_prepared import PreparedSplit, split_prepared
from upnext.schema import MS_PER_DAY, Logs

SPLITS = (
    SplitConfig(validation_days=2 / MS_PER_DAY, test_days=2 / MS_PER_DAY),
    SplitConfig(
        validation_days=2 / MS_PER_DAY, test_days=1 / MS_PER_DAY, train_days=3 / MS_PER_DAY
    ),
    SplitConfig(protocol="last-event"),
)
CONFIGS = (ExamplesConfig(), ExamplesConfig(min_watches=2, max_items=3, max_tags=1))


def assert_same_arrays(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def arrays_of(targets: WatchTargets) -> dict[str, Any]:
    return {name: value for name, value in vars(targets).items() if name != "history"}


def assert_same_examples(
    logs: Logs, split: Split, prepared: PreparedLogs, parts: PreparedSplit, config: ExamplesConfig
) -> None:
    """All that training asks for, of each training part."""
    users = user_vocabulary(logs)
    assert_same_arrays(vars(prepared.users), vars(users))
    for name in ("train", "train_and_validation"):
        train, part = getattr(split, name), getattr(parts, name)
        encoder, counted = build_encoder(train, config), prepared.encoder(part, config)
        assert counted.config == encoder.config
        assert_same_arrays(counted.to_arrays(), encoder.to_arrays())
        history, mapped = (
            encoder.history(logs, users),
            prepared.history(counted, prepared.everything),
        )
        assert_same_arrays(mapped.to_arrays(), history.to_arrays())
        of_train = prepared.history(counted, part)
        assert_same_arrays(of_train.to_arrays(), encoder.history(train, users).to_arrays())
        for held_out in ("validation", "test"):
            watches = getattr(split, held_out).watches
            targets = prepared.targets(mapped, getattr(parts, held_out))
            expected = watch_targets(encoder, history, users, watches)
            assert_same_arrays(arrays_of(targets), arrays_of(expected))
            of_part = getattr(split, held_out)
            for table in ("impressions", "searches"):
                ours, theirs = (
                    getattr(of_part, table),
                    getattr(getattr(parts, held_out).others, table),
                )
                assert (ours is None) == (theirs is None)
                assert ours is None or ours.frame.equals(theirs.frame)


@settings(max_examples=20)
@given(raw_logs(), st.sampled_from(SPLITS), st.sampled_from(CONFIGS))
def test_prepared_logs_are_the_logs(
    files: Mapping[str, list[dict[str, Any]]], how: SplitConfig, config: ExamplesConfig
) -> None:
    with tempfile.TemporaryDirectory() as name, few_at_once():
        directory = Path(name) / "logs"
        write(files, directory)
        expected = outcome(lambda: read_logs(directory, now_ms=NOW_MS))
        in_memory = refused(directory)
        made = outcome(lambda: prepare(directory, Path(name) / "prepared", now_ms=NOW_MS))
        assert isinstance(made, DataError) == isinstance(expected, DataError)
        if isinstance(expected, DataError):
            return
        logs, report = expected
        assert made.report == json.loads(json.dumps(report.to_dict()))
        assert in_memory.keys() == refused(directory).keys()
        for table, frame in refused(directory).items():
            assert frame.equals(in_memory[table])
        split = outcome(lambda: split_logs(logs, how))
        parts = outcome(lambda: split_prepared(made, how))
        assert isinstance(parts, DataError) == isinstance(split, DataError)
        if not isinstance(split, DataError):
            assert_same_examples(logs, split, made, parts, config)


@pytest.fixture(scope="module")
def tiny_prepared(tiny_logs_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedLogs:
    return prepare(tiny_logs_dir, tmp_path_factory.mktemp("tiny") / "prepared")


@pytest.mark.parametrize(
    "how",
    [SplitConfig(), SplitConfig(train_days=2.5), SplitConfig(protocol="last-event")],
    ids=["time", "train_days", "last-event"],
)
def test_a_whole_platform_is_the_same_too(
    tiny_logs: Logs, tiny_prepared: PreparedLogs, how: SplitConfig
) -> None:
    features = ("channel_id", "tags", "duration_s")
    config = ExamplesConfig(user_features=("region", "device"), item_features=features)
    split, parts = split_logs(tiny_logs, how), split_prepared(tiny_prepared, how)
    assert_same_examples(tiny_logs, split, tiny_prepared, parts, config)


def lines_of(directory: Path, *lines: str) -> Path:
    """A directory of logs with these watches."""
    directory.mkdir()
    text = "\n".join([",".join(WATCH_NAMES), *lines, ""])
    (directory / "watches.csv").write_text(text, encoding="utf-8")
    return directory


def test_steps_are_told_and_so_is_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upnext.logs.pieces, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(upnext.pipeline.records, "ROWS_PER_LINE", 2)
    logs = lines_of(tmp_path / "logs", "ann,soup,1,2", "ann,soup,1,9", "ben,soup,2,-1")
    said: list[str] = []
    prepare(logs, tmp_path / "prepared", now_ms=NOW_MS, say=said.append)
    assert said[0].startswith("read 2 watches, ")
    assert "sorting 2 watches of 1 users" in said
    assert "duplicate" in said[-1]
    assert "negative watch_time_s" in said[-1]


def test_what_an_interrupted_run_left_behind_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / ".prepared.unfinished" / "scratch"
    left.mkdir(parents=True)
    (left / "records").write_bytes(b"half a record")
    logs = lines_of(tmp_path / "logs", "ann,soup,1,2")
    assert len(prepare(logs, tmp_path / "prepared", now_ms=NOW_MS).places) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "prepared"]
    assert not (tmp_path / "prepared" / "scratch").exists()


def test_a_run_that_fails_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    logs = lines_of(tmp_path / "logs", "ann,soup,1,2")
    monkeypatch.setattr(upnext.pipeline.prepare, "write_tables", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(logs, tmp_path / "prepared", now_ms=NOW_MS)
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_a_directory_that_is_taken_is_refused(tmp_path: Path) -> None:
    logs = lines_of(tmp_path / "logs", "ann,soup,1,2")
    with pytest.raises(DataError, match="expected a new directory"):
        prepare(logs, logs, now_ms=NOW_MS)
    unfinished = tmp_path / ".prepared.unfinished"
    unfinished.mkdir()
    descriptor = os.open(unfinished, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (unfinished / "records").touch()
    with pytest.raises(DataError, match="another process that is making it"):
        prepare(logs, tmp_path / "prepared", now_ms=NOW_MS)
    assert (unfinished / "records").exists()
    os.close(descriptor)


def test_logs_without_a_good_watch_are_refused_and_why(tmp_path: Path) -> None:
    logs = lines_of(tmp_path / "logs", "ann,soup,1,-2", "ann,soup,x,2", "ann,soup,y,2")
    told = "3 bad ones, most often: unparsable started_at_ms"
    with pytest.raises(DataError, match=re.escape(told)):
        prepare(logs, tmp_path / "prepared", now_ms=NOW_MS)
    assert refused(logs)["watches"].height == 3
    empty = lines_of(tmp_path / "empty")
    with pytest.raises(DataError, match="at least one good row, got none"):
        prepare(empty, tmp_path / "prepared", now_ms=NOW_MS)
