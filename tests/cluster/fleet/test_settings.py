"""What replicas are told, and what a fleet refuses before it begins."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="serving on Ray needs the extra `ray`")
from tests.conftest import Upnext

from upnext.cluster.serving import config_of_replicas, must_share_machine
from upnext.errors import ConfigError
from upnext.events.config import EventsConfig
from upnext.serving.config import FleetConfig, HttpConfig, ServingConfig
from upnext.serving.security import SecurityConfig
from upnext.serving.server import securities_of

REMOTE = ServingConfig(http=HttpConfig(allow_remote=True))


def test_a_file_of_events_is_for_one_machine() -> None:
    assert must_share_machine(ServingConfig(), has_others=True)
    assert must_share_machine(REMOTE, has_others=False)
    with pytest.raises(ConfigError, match=r"\[events\] store"):
        must_share_machine(REMOTE, has_others=True)
    for config in (
        replace(REMOTE, live_history=False),
        replace(REMOTE, events=EventsConfig(store="redis")),
    ):
        assert not must_share_machine(config, has_others=True)


def test_replicas_that_others_reach_want_tokens_as_every_server_does() -> None:
    securities_of(config_of_replicas(ServingConfig(), are_remote=False))
    with pytest.raises(ConfigError, match="events_token_file"):
        securities_of(config_of_replicas(REMOTE, are_remote=True))


def test_a_replica_answers_to_the_front_whatever_clients_call_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    security = SecurityConfig(allowed_hosts=("shop.example",), read_token_file="read.token")
    told = config_of_replicas(ServingConfig(security=security), are_remote=False)
    assert told.security.allowed_hosts == ("localhost",)
    assert told.security.read_token_file == str(tmp_path / "read.token")


def test_numbers_of_replicas_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_replicas"):
        FleetConfig(num_replicas=3, max_replicas=2)
    with pytest.raises(ConfigError, match="num_replicas"):
        FleetConfig(num_replicas=0)


def test_flags_that_only_ray_knows_are_refused_without_it(upnext: Upnext, tmp_path: Path) -> None:
    (tmp_path / "releases").mkdir()
    ended = upnext("serve", tmp_path, "--replicas", "2")
    assert (ended.status, "--ray" in ended.stderr) == (2, True)
    ended = upnext("serve", tmp_path, "--ray", "local", "--processes", "2")
    assert (ended.status, "num_processes" in ended.stderr) == (2, True)
