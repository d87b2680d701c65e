"""The flags that spread training over a Ray cluster."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from upnext.cli.app import app
from upnext.cli.crew import crew_of, num_workers
from upnext.errors import ConfigError
from upnext.training.crew import this_process


@pytest.mark.parametrize(("text", "expected"), [("1", (1, 1)), ("4", (4, 4)), ("2-4", (2, 4))])
def test_workers_are_one_number_or_two(text: str, expected: tuple[int, int]) -> None:
    assert num_workers(text) == expected


@pytest.mark.parametrize("text", ["", "two", "2-", "-2", "2-4-6", "1.5", "0", "4-2"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--workers: expected a number, or two"):
        num_workers(text)


def test_without_ray_this_process_trains() -> None:
    with crew_of(None, "1", use_gpu=False, shard_above_rows=None) as crew:
        assert crew is this_process


@pytest.mark.parametrize("flags", [["--workers", "2"], ["--gpus"], ["--shard-above", "1000"]])
def test_flags_that_only_ray_knows_are_refused_without_it(flags: list[str], tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["train", str(tmp_path), str(tmp_path), *flags])
    assert isinstance(outcome.exception, ConfigError)
    assert "--ray: expected an address, or `local`" in str(outcome.exception)


def test_who_prepares_alone_has_no_workers(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["prepare", str(tmp_path), str(tmp_path), "--workers", "2"])
    assert isinstance(outcome.exception, ConfigError)
    assert "--workers without --ray" in str(outcome.exception)


def test_an_address_where_no_cluster_is_is_told() -> None:
    pytest.importorskip("ray", reason="training on Ray needs the extra `ray`")
    with (
        pytest.raises(ConfigError, match="--ray: expected a Ray cluster"),
        crew_of("127.0.0.1:9", "1", use_gpu=False, shard_above_rows=None),
    ):
        pass


def test_the_least_number_of_workers_is_no_more_than_all() -> None:
    pytest.importorskip("ray", reason="training on Ray needs the extra `ray`")
    from upnext.cluster.training import RayCrew

    with pytest.raises(ConfigError, match="workers: expected 1 or more"):
        RayCrew(num_workers=2, min_workers=3)
