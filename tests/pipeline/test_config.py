"""`run.toml` becomes one object, its sections the rooms' own; the release keeps all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from upnext.config import config_of_release, config_to_table, read_config
from upnext.demo import RUN_TOML
from upnext.errors import ConfigError, ReleaseError
from upnext.pipeline.config import EvaluationConfig, RunConfig, SplitConfig
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import RetrievalNetworkConfig

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


def read(text: str, directory: Path) -> RunConfig:
    path = directory / "run.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path, RunConfig)


def test_nothing_said_leaves_every_default(tmp_path: Path) -> None:
    assert read("", tmp_path) == RunConfig()


def test_sections_nest_as_the_rooms_do(tmp_path: Path) -> None:
    config = read(
        """
        refit = true
        [split]
        protocol = "last-event"
        [retrieval]
        num_epochs = 3
        [retrieval.network]
        hidden_sizes = [64]
        [logs.watches]
        time_unit = "s"
        columns = { user_id = "uid" }
        [evaluation]
        lately_days = [1, 2.5]
        """,
        tmp_path,
    )
    assert config == replace(
        RunConfig(),
        refit=True,
        split=SplitConfig(protocol="last-event"),
        retrieval=RetrievalConfig(num_epochs=3, network=RetrievalNetworkConfig(hidden_sizes=(64,))),
        logs=config.logs,
        evaluation=EvaluationConfig(lately_days=(1.0, 2.5)),
    )
    assert config.logs.watches.time_unit == "s"
    assert config.logs.watches.columns == {"user_id": "uid"}


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("ranke = true", "run.toml", "'rank'"),
        ("[retreival]", "run.toml", "'retrieval'"),
        ("[retrieval]\nbatchsize = 2", "run.toml retrieval", "'batch_size'"),
        ("[retrieval.network]\nvectorsize = 2", "run.toml retrieval network", "'vector_size'"),
        ("[split]\nprotocol = 'random'", "run.toml split protocol", "'time', 'last-event'"),
        ("[split]\ntest_days = 0", "[split] test_days", "above 0"),
        ("[ranking]\nnum_epochs = 1.5", "run.toml ranking num_epochs", "int"),
        ("[recommender]\nnum_candidates = true", "run.toml recommender num_candidates", "int"),
        ("rank = 1", "run.toml rank", "bool"),
        ("rank = ", "run.toml", "a TOML file"),
        ("[sources]\nsegment = 'region'", "[sources] segment", "user_features: none, got 'region'"),
        (
            "[ranking.network]\nkind = 'wide-and-deep'\ncrosses = [['item', 'region']]",
            "[ranking.network] crosses",
            "two or three of item",
        ),
        (
            "[retrieval.network]\nhistory = 'attention'\nattention = {num_heads = 5}",
            "num_heads",
            "a divisor of embedding_size, 64",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_a_way_out(
    text: str, where: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        read(text, tmp_path)
    assert where in error.value.where
    assert said in str(error.value)


@pytest.mark.parametrize("setting", [{"validation_days": 0.0}, {"test_days": -1.0}])
def test_a_split_without_length_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        SplitConfig(**setting)


def test_the_settings_of_the_demo_can_be_read(tmp_path: Path) -> None:
    assert read(RUN_TOML, tmp_path).examples.user_features == ("region", "device")


def test_the_release_keeps_the_whole_config(tiny_release: TrainedRelease) -> None:
    kept = tiny_release.release.json("config.json")
    assert config_of_release(kept, RunConfig, where="config.json") == tiny_release.config
    assert kept == config_to_table(tiny_release.config)


@pytest.mark.parametrize(
    ("place", "name", "expected"),
    [
        ((), "refit", "the key refit"),
        (("split",), "train_days", "the key split.train_days"),
        (("retrieval", "network"), "tied", "the key retrieval.network.tied"),
    ],
)
def test_a_release_must_keep_every_setting(
    place: tuple[str, ...], name: str, expected: str
) -> None:
    table = section = config_to_table(RunConfig())
    for key in place:
        section = section[key]
    del section[name]
    with pytest.raises(ReleaseError) as caught:
        config_of_release(table, RunConfig, where="config.json")
    assert caught.value.expected == expected
    assert "another version of upnext" in caught.value.hint


def test_a_setting_that_may_be_unset_may_be_missing_in_a_release() -> None:
    table = config_to_table(RunConfig())
    assert "max_items" not in table["examples"]
    assert config_of_release(table, RunConfig, where="config.json") == RunConfig()


def test_a_setting_of_a_later_version_is_told() -> None:
    table = config_to_table(RunConfig()) | {"warp": 9}
    with pytest.raises(ReleaseError, match="the unknown key 'warp'") as caught:
        config_of_release(table, RunConfig, where="config.json")
    assert "another version of upnext" in caught.value.hint
