"""A training day learns from the days before validation alone, and says what it did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from upnext.errors import DataError
from upnext.examples.encoder import ExamplesConfig
from upnext.pipeline.config import RunConfig, SplitConfig
from upnext.pipeline.learning_logs import split_logs
from upnext.pipeline.prepare import prepare
from upnext.pipeline.train import train
from upnext.schema import Logs

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


def test_each_step_is_told_in_its_order(tiny_release: TrainedRelease) -> None:
    firsts = [line.split(":")[0].split("\n")[0] for line in tiny_release.said]
    assert firsts[0].startswith("table")
    assert firsts[1] == "retrieval"
    assert firsts.index("retrieval epoch 0") < firsts.index("ranking")
    assert firsts.index("ranking") < firsts.index("ranking epoch 0")
    assert firsts[-1] == "release 1"


def test_only_training_days_are_counted(tiny_release: TrainedRelease, tiny_logs: Logs) -> None:
    watches = split_logs(tiny_logs, tiny_release.config.split).train.watches.frame
    catalogue = tiny_release.learned.encoder.catalogue
    assert catalogue.num_watches.sum() == watches.height
    assert set(catalogue.items.series()) == set(watches["item_id"])


def test_the_release_knows_its_users_up_to_the_end_of_the_logs(
    tiny_release: TrainedRelease, tiny_logs: Logs
) -> None:
    history = tiny_release.recommender.history
    assert len(history.watches.rows) == tiny_logs.watches.frame.height
    assert tiny_release.release.metadata["history_until"] == _last_watch(tiny_logs)


def test_the_manifest_tells_what_was_learned_from_what(
    tiny_release: TrainedRelease, tiny_logs: Logs
) -> None:
    facts = tiny_release.release.metadata
    split = split_logs(tiny_logs, tiny_release.config.split)
    assert facts["train_until"] == _last_watch(split.train)
    assert facts["has_impressions"] is True
    assert facts["num_items"] == split.train.watches.frame["item_id"].n_unique()
    assert facts["index_recall_at_100"] == 1.0
    assert facts["data"]["tables"]["watches"]["num_accepted"] == tiny_logs.watches.frame.height
    assert len(facts["retrieval_epochs"]) == len(tiny_release.learned.retrieval.epochs)
    assert len(facts["ranking_epochs"]) <= tiny_release.config.ranking.num_epochs


def test_a_refit_learns_from_validation_too_for_as_long_as_was_best(
    retrieval_release: TrainedRelease, tiny_logs: Logs
) -> None:
    split = split_logs(tiny_logs, retrieval_release.config.split)
    learned, facts = retrieval_release.learned, retrieval_release.release.metadata
    known = split.train_and_validation.watches.frame
    assert learned.encoder.catalogue.num_watches.sum() == known.height
    assert known.height > split.train.watches.frame.height
    assert facts["train_until"] == _last_watch(split.train_and_validation)
    recalls = [epoch["metrics"]["recall_at_50"] for epoch in facts["retrieval_epochs"]]
    assert len(learned.retrieval.epochs) == int(np.argmax(recalls)) + 1
    assert any(line.startswith("refit") for line in retrieval_release.said)
    (told,) = (one for one in retrieval_release.said if "what was watched before" in one)
    assert told.startswith(f"retrieval: {learned.retrieval.repeat_bonus:+.2f} ")
    assert learned.retrieval.repeat_bonus != 0.0


def test_a_day_that_is_cut_short_goes_on_where_the_same_logs_and_settings_left_it(
    tiny_release: TrainedRelease, tmp_path: Path
) -> None:
    logs, registry = tmp_path / "logs", tmp_path / "registry"
    shutil.copytree(tiny_release.logs_dir, logs)
    bad = "user_id,item_id,started_at_ms,watch_time_s\nu00001,v00001,1000,-1\n"
    (logs / "watches" / "bad.csv").write_text(bad)
    config = replace(tiny_release.config, rank=False)
    with pytest.raises(InterruptedError):
        train(logs, registry, config, say=stop_at("retrieval epoch 2"))
    said: list[str] = []
    release = train(logs, registry, config, say=said.append)
    assert [line for line in said if "going on from a checkpoint" in line]
    (curves,) = registry.glob("training/*/chosen/retrieval/curves.jsonl")
    lines = [json.loads(line) for line in curves.read_text(encoding="utf-8").splitlines()]
    (mark,) = (line for line in lines if line.get("resumed"))
    assert mark["step"] in [line["step"] for line in lines if "epoch" in line]
    assert curves.parts[-4] == release.metadata["training"]
    watches = release.metadata["data"]["tables"]["watches"]
    assert sum(day["num_rows"] for day in watches["per_day"]) == watches["num_accepted"]
    (example,) = watches["examples"]
    assert (example["reason"], example["file"]) == ("negative watch_time_s", "watches/bad.csv")
    assert example["cells"]["watch_time_s"] == "-1"


def test_the_same_training_twice_at_once_is_refused(
    tiny_release: TrainedRelease, tmp_path: Path
) -> None:
    """They would write and remove the same checkpoints."""
    registry, config = tmp_path / "registry", replace(tiny_release.config, rank=False)
    refused: list[str] = []

    def again(line: str) -> None:
        if line.startswith("retrieval epoch 0"):
            with pytest.raises(DataError, match="another process that is training") as caught:
                train(tiny_release.logs_dir, registry, config)
            refused.append(caught.value.where)

    train(tiny_release.logs_dir, registry, config, say=again)
    assert [Path(where).parent for where in refused] == [registry / "training"]


def stop_at(beginning: str) -> Callable[[str], None]:
    def say(line: str) -> None:
        if line.startswith(beginning):
            raise InterruptedError

    return say


def test_the_same_logs_and_settings_make_the_same_vectors(
    tiny_release: TrainedRelease, tmp_path: Path
) -> None:
    config = replace(tiny_release.config, rank=False)
    again = train(tiny_release.logs_dir, tmp_path / "registry", config)
    name = "retrieval/item_vectors.npy"
    np.testing.assert_array_equal(again.array(name), tiny_release.release.array(name))


@pytest.mark.parametrize("name", ["tiny_release", "retrieval_release"])
def test_prepared_logs_make_the_same_release(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    trained: TrainedRelease = request.getfixturevalue(name)
    prepare(trained.logs_dir, tmp_path / "prepared")
    release = train(tmp_path / "prepared", tmp_path / "registry", trained.config)
    assert release.files == trained.release.files
    facts, expected = release.metadata, trained.release.metadata
    assert facts.keys() == expected.keys()
    differing = [fact for fact in facts if facts[fact] != expected[fact]]
    assert set(differing) <= {"retrieval_epochs", "ranking_epochs"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (RunConfig(split=SplitConfig(validation_days=30.0)), "at least one watch"),
        (RunConfig(examples=ExamplesConfig(user_features=("mood",))), "a column mood"),
    ],
)
def test_logs_that_do_not_fit_the_settings_are_refused(
    config: RunConfig, said: str, tiny_logs_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        train(tiny_logs_dir, tmp_path / "registry", config)
    assert not (tmp_path / "registry").exists()


def _last_watch(logs: Logs) -> str:
    last_ms = int(logs.watches.frame["started_at_ms"].to_numpy().max())
    return datetime.fromtimestamp(last_ms / 1000, UTC).isoformat()
