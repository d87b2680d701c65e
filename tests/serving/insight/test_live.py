"""A trained release is looked into over HTTP: who may, what is told, and that nothing is moved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import msgspec
import pytest
from starlette.types import ASGIApp

from upnext.errors import StoreError
from upnext.events.config import EventsConfig
from upnext.events.event import SearchEvent, WatchEvent
from upnext.events.sqlite import SqliteStore
from upnext.insight import ItemCard
from upnext.schema import MS_PER_DAY, Logs, RecommendationRequest
from upnext.serving.aftermath import Aftermath
from upnext.serving.answering import Answering
from upnext.serving.asked import Asked
from upnext.serving.endpoints import Endpoint
from upnext.serving.insight.live import LIVE_INSIGHT_ENDPOINTS
from upnext.serving.managing import MANAGING_ENDPOINTS, create_managing_app
from upnext.serving.metrics import Metrics
from upnext.serving.openapi import openapi_document
from upnext.serving.releases import LiveReleases
from upnext.serving.security import SecurityConfig, open_security

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease
    from tests.serving.conftest import Send

    from upnext.recommender import Recommender

USER = "u00033"
TOKENS = {name: f"the-token-for-{name}-requests" for name in ("read", "events", "admin")}
EVERY_ENDPOINT = pytest.mark.parametrize(
    "endpoint", LIVE_INSIGHT_ENDPOINTS, ids=lambda endpoint: endpoint.path
)


@pytest.fixture
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


@pytest.fixture
def item_id(recommender: Recommender) -> str:
    return str(recommender.encoder.catalogue.items.id(2))


@pytest.fixture
def end_ms(recommender: Recommender) -> int:
    """Just after the logs."""
    return recommender.known_until_ms + 1_000


@pytest.fixture
def store(tmp_path: Path, end_ms: int) -> Iterator[SqliteStore]:
    config = EventsConfig(path=str(tmp_path / "events.sqlite"))
    store = SqliteStore(config, now_ms=lambda: end_ms + 1_000)
    yield store
    store.close()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def answering(
    recommender: Recommender, store: SqliteStore, metrics: Metrics
) -> Iterator[Answering]:
    """Version 1 is stable; version 2, the same once more, has no label."""
    live = LiveReleases(lambda version: replace(recommender, version=version))
    live.load(1)
    live.label("stable", 1)
    live.load(2)
    aftermath = Aftermath(metrics=metrics, pages=store)
    answering = Answering(live, pasts=store, aftermath=aftermath)
    yield answering
    answering.close()


@pytest.fixture
def app(tmp_path: Path, answering: Answering, metrics: Metrics) -> ASGIApp:
    """Open, as on loopback."""
    return create_managing_app(tmp_path, open_security(SecurityConfig()), metrics, answering)


def path_of(endpoint: Endpoint, item_id: str) -> str:
    """One that is answered."""
    path = endpoint.shown_path.format(item_id=item_id)
    needed = {"neighbours": f"?item_id={item_id}", "probability": f"?item_id={item_id}&num_users=5"}
    return path + {**needed, "past": f"?user_id={USER}"}.get(path.rpartition("/")[2], "")


def told(send: Send, app: ASGIApp, path: str, *, status: int = 200) -> Any:
    response = send(app, "GET", f"/insight/v1/{path}")
    assert response.status_code == status, response.text
    return response.json()


@EVERY_ENDPOINT
def test_who_may_read_is_answered_and_nobody_else(
    tmp_path: Path,
    answering: Answering,
    metrics: Metrics,
    send: Send,
    item_id: str,
    endpoint: Endpoint,
) -> None:
    files = {}
    for name, token in TOKENS.items():
        (tmp_path / name).write_text(token)
        (tmp_path / name).chmod(0o600)
        files[f"{name}_token_file"] = str(tmp_path / name)
    security = open_security(SecurityConfig(**files), changing=("admin",))  # type: ignore[arg-type]
    app = create_managing_app(tmp_path, security, metrics, answering)
    path = path_of(endpoint, item_id)
    for name, token in TOKENS.items():
        response = send(app, "GET", path, headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == (200 if name == "read" else 401)
    assert send(app, "GET", path).status_code == 401


@EVERY_ENDPOINT
def test_the_description_fits_what_is_answered(
    app: ASGIApp, send: Send, item_id: str, endpoint: Endpoint
) -> None:
    document = json.loads(msgspec.json.encode(openapi_document(MANAGING_ENDPOINTS)))
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    operation = document["paths"][endpoint.shown_path]["get"]
    parameters = {part["name"]: part["required"] for part in operation["parameters"]}
    assert (parameters["label"], parameters["version"]) == (False, False)
    assert all(parameters.get(name, True) for name in ("item_id", "user_id"))
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    whole = {**schema, "components": document["components"]}
    answer = send(app, "GET", path_of(endpoint, item_id)).json()
    jsonschema_rs.Draft202012Validator(whole).validate(answer)


@EVERY_ENDPOINT
def test_the_answer_names_the_release_that_was_asked(
    app: ASGIApp, send: Send, item_id: str, endpoint: Endpoint
) -> None:
    path = path_of(endpoint, item_id).removeprefix("/insight/v1/")
    more = "&" if "?" in path else "?"

    def named(query: str) -> tuple[str, str | None]:
        answer = told(send, app, path + query)
        return answer["release"], answer["label"]

    assert named("") == ("1", "stable")
    assert named(f"{more}label=stable") == ("1", "stable")
    assert named(f"{more}version=2") == ("2", None)
    told(send, app, f"{path}{more}version=3", status=404)
    told(send, app, f"{path}{more}label=nowhere", status=404)
    told(send, app, f"{path}{more}label=stable&version=1", status=400)
    told(send, app, f"{path}{more}nonsense=1", status=400)


@EVERY_ENDPOINT
def test_while_nothing_is_loaded_it_is_to_be_asked_again(
    tmp_path: Path, metrics: Metrics, send: Send, item_id: str, endpoint: Endpoint
) -> None:
    answering = Answering(LiveReleases(lambda _version: pytest.fail("nothing is to be loaded")))
    app = create_managing_app(tmp_path, open_security(SecurityConfig()), metrics, answering)
    response = send(app, "GET", path_of(endpoint, item_id))
    answering.close()
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize(
    "path",
    ["items/no such item", "neighbours?item_id=no+such+item", "probability?item_id=no+such+item"],
)
def test_an_unknown_item_is_not_there(app: ASGIApp, send: Send, path: str) -> None:
    error = told(send, app, path, status=404)["error"]
    assert (error["where"], error["got"]) == ("item_id", "'no such item'")


@pytest.mark.parametrize(
    "path",
    [
        "items?k=0",
        "items?k=1001",
        "neighbours",
        "neighbours?item_id=",
        "probability?item_id=a&example_age_days=old",
        "probability?item_id=a&num_users=0",
        "past",
        "past?user_id=a&user_id=b",
        f"users?prefix={'a' * 5_000}",
    ],
)
def test_what_is_asked_wrongly_is_refused(app: ASGIApp, send: Send, path: str) -> None:
    told(send, app, path, status=400)


def test_items_are_told_as_the_release_tells_them(
    app: ASGIApp, send: Send, recommender: Recommender, item_id: str
) -> None:
    every = told(send, app, "items?k=5")["items"]
    assert msgspec.convert(every, list[ItemCard]) == recommender.insight.items("", 5)
    counts = [item["num_watches"] for item in every]
    assert counts == sorted(counts, reverse=True)
    assert told(send, app, f"items?search={item_id}")["items"][0] == every[0]
    title = next(item["title"] for item in every if item["title"])
    assert title in [item["title"] for item in told(send, app, f"items?search={title}")["items"]]
    assert told(send, app, f"items/{item_id}")["item"] == every[0]
    like = told(send, app, f"neighbours?item_id={item_id}&k=3")
    assert len(like["exact"]) == len(like["index"]) == 3


def test_users_of_the_latest_watches_come_first(app: ASGIApp, send: Send, tiny_logs: Logs) -> None:
    users = told(send, app, "users?k=1000")["users"]
    last_ms = [user["last_watch_ms"] for user in users if user["last_watch_ms"] is not None]
    assert last_ms == sorted(last_ms, reverse=True)
    assert last_ms[0] == tiny_logs.watches.frame["started_at_ms"].max()
    assert [user["user_id"] for user in told(send, app, f"users?prefix={USER}")["users"]] == [USER]


def test_a_live_event_stands_in_the_past_once_though_the_release_holds_it_too(
    app: ASGIApp, send: Send, store: SqliteStore, end_ms: int, item_id: str
) -> None:
    before = told(send, app, f"past?user_id={USER}")
    known = next(watch for watch in before["watches"] if watch["item_id"] is not None)
    assert known["started_at_ms"] > end_ms - MS_PER_DAY
    watches = (
        (known["item_id"], known["started_at_ms"]),
        (item_id, end_ms),
        ("unheard of", end_ms),
    )
    for place, (watched, started_at_ms) in enumerate(watches):
        event = WatchEvent(
            event_id=f"watch {place}",
            user_id=USER,
            item_id=watched,
            started_at_ms=started_at_ms,
            watch_time_s=known["watch_time_s"],
        )
        store.append([event, event])
    query = "soup, and more"
    store.append([SearchEvent(event_id="search", user_id=USER, searched_at_ms=end_ms, query=query)])
    after = told(send, app, f"past?user_id={USER}")
    assert after["num_watches"] == before["num_watches"] + 2
    live = {watch["item_id"] for watch in after["watches"] if watch["is_live"]}
    assert live == {item_id, "unheard of"}
    assert after["watches"][2:] == before["watches"][:48]
    assert after["watches"].count(known) == 1
    newest = after["searches"][0]
    assert (newest["query"], newest["is_live"]) == (query, True)
    assert (after["degraded"], after["is_known"]) == ([], True)


def test_a_past_without_the_store_says_what_is_missing(
    app: ASGIApp, send: Send, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise StoreError("the live store", expected="an answer", got="none")

    monkeypatch.setattr(store, "past_of", fails)
    past = told(send, app, f"past?user_id={USER}")
    assert past["num_watches"] > 0
    assert ["the live store could not be read" in cause for cause in past["degraded"]] == [True]


def test_a_stranger_is_answered(app: ASGIApp, send: Send) -> None:
    past = told(send, app, "past?user_id=nobody")
    assert (past["user_id"], past["is_known"], past["watches"]) == ("nobody", False, [])


def test_looking_moves_nothing(
    app: ASGIApp,
    send: Send,
    answering: Answering,
    store: SqliteStore,
    metrics: Metrics,
    item_id: str,
    end_ms: int,
) -> None:
    """No page, event or count more; and the next answer is the one that would have been."""
    request = RecommendationRequest(user_id=USER, at_ms=end_ms, k=20)
    asked = Asked(request=request, is_logged=False)

    def page() -> Any:
        return asyncio.run(answering.recommend(asked)).recommendations.items

    first = page()
    counted = metrics.to_text()
    for endpoint in LIVE_INSIGHT_ENDPOINTS:
        for _ in range(2):
            assert send(app, "GET", path_of(endpoint, item_id)).status_code == 200
    assert metrics.to_text() == counted
    store.check()  # by then what waited is written
    assert list(store.users()) == []
    assert page() == first
