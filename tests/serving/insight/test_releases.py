"""Releases and moves over HTTP are those of the files, whole or damaged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from starlette.types import ASGIApp

from upnext.registry.detail import detail
from upnext.registry.labels import journal_path, read_moves
from upnext.registry.overview import overview
from upnext.registry.servers import Presence
from upnext.serving.answering import Answering
from upnext.serving.managing import create_managing_app
from upnext.serving.metrics import Metrics
from upnext.serving.security import Security

if TYPE_CHECKING:
    from tests.serving.conftest import Send

INSIGHT = "/insight/v1"


def told(send: Send, app: ASGIApp, path: str) -> Any:
    response = send(app, "GET", f"{INSIGHT}{path}")
    assert response.status_code == 200, response.text
    return response.json()


def plain(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def test_the_list_is_that_of_the_files(app: ASGIApp, send: Send, registry: Path) -> None:
    presence = Presence.join(registry)
    content = told(send, app, "/releases")
    assert content["releases"] == plain(overview(registry))
    assert content["labels"] == {"stable": 2, "canary": 2}
    assert content["rollback"] == {"stable": 1, "canary": None}
    assert [one["server"] for one in content["servers"]] == [presence.status.server]
    presence.leave()


@pytest.mark.parametrize("version", [1, 2])
def test_a_release_is_told_in_full(app: ASGIApp, send: Send, registry: Path, version: int) -> None:
    content = told(send, app, f"/releases/{version}")
    assert content == plain(detail(registry, version))
    assert set(content) >= {"files", "metadata", "config", "evaluation", "lineage", "warm_up"}


def test_a_damaged_release_is_told_and_is_no_failure(
    app: ASGIApp, send: Send, registry: Path
) -> None:
    path = registry / "releases" / "2" / "config.json"
    path.chmod(0o644)
    path.write_text("{}", encoding="utf-8")
    assert "config.json: expected " in told(send, app, "/releases")["releases"][1]["problem"]
    assert "config.json: expected " in told(send, app, "/releases/2")["problem"]
    refused = send(app, "GET", f"{INSIGHT}/data/2")
    assert refused.status_code == 409
    assert "config.json" in refused.json()["error"]["where"]


@pytest.mark.parametrize("route", ["releases", "data"])
@pytest.mark.parametrize(("version", "status"), [("9", 404), ("one", 400), ("0", 400), ("..", 404)])
def test_what_is_not_there_is_said(
    app: ASGIApp, send: Send, route: str, version: str, status: int
) -> None:
    assert send(app, "GET", f"{INSIGHT}/{route}/{version}").status_code == status


def test_the_journal_tells_the_last_moves(app: ASGIApp, send: Send, registry: Path) -> None:
    moves = plain(read_moves(registry))
    assert told(send, app, "/journal")["moves"] == moves
    for num in (1, 2, 3, 50):
        assert told(send, app, f"/journal?num={num}")["moves"] == moves[-num:]
    for wrong in ("num=0", "num=x", "num=1&num=2", "last=1"):
        assert send(app, "GET", f"{INSIGHT}/journal?{wrong}").status_code == 400


def test_a_damaged_journal_is_refused_with_its_line(
    app: ASGIApp, send: Send, registry: Path
) -> None:
    journal_path(registry).write_text("{}\n", encoding="utf-8")
    for path in ("/releases", "/releases/1", "/journal"):
        refused = send(app, "GET", f"{INSIGHT}{path}")
        assert refused.status_code == 409
        assert "line 1" in refused.json()["error"]["where"]


def test_what_the_check_found_is_told_as_it_is_kept(
    app: ASGIApp, send: Send, registry: Path
) -> None:
    assert told(send, app, "/data/2") == detail(registry, 2).metadata["data"]
    nothing: dict[str, Any] = {"tables": {}, "unreadable_files": [], "derived": []}
    assert told(send, app, "/data/1") == nothing


def test_an_empty_registry_is_told(tmp_path: Path, send: Send, answers_nothing: Answering) -> None:
    app = create_managing_app(tmp_path, Security(hosts=None), Metrics(), answers_nothing)
    assert told(send, app, "/releases") == {
        "releases": [],
        "labels": {},
        "servers": [],
        "rollback": {},
    }
    assert told(send, app, "/training") == {"runs": []}
    assert told(send, app, "/journal") == {"moves": []}
    assert told(send, app, "/slow")["slow"] == []
    assert told(send, app, "/traffic")["split"] == {"stable": 1.0}
