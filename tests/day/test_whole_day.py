"""One day of a platform's life: logs, training, evaluation, a label, a server, the next release."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.patience import get, post

import upnext
from upnext.evaluation.report import EvaluationReport
from upnext.examples.encoder import ExamplesConfig
from upnext.logs.simulation.world import Behaviour
from upnext.pipeline.config import EvaluationConfig
from upnext.ranking.config import RankingConfig, RankingNetworkConfig
from upnext.recommender import RecommenderConfig
from upnext.recommender.warm import open_warm
from upnext.retrieval.config import RetrievalConfig
from upnext.serving.answering import Answering, AnsweringConfig
from upnext.serving.app import create_app
from upnext.serving.following import Following
from upnext.serving.releases import LiveReleases
from upnext.serving.server import running_server

WORLD = upnext.SimulationConfig(
    num_users=400,
    num_items=400,
    num_days=8,
    num_channels=60,
    num_topics=12,
    behaviour=Behaviour(click_affinity=7.0, click_bias=-5.0, click_quality=0.3),
)
"""People differ more in taste than items in quality, so that few events tell a lot."""
RUN = upnext.RunConfig(
    examples=ExamplesConfig(user_features=("region", "device")),
    retrieval=RetrievalConfig(num_epochs=8, batch_size=512),
    ranking=RankingConfig(
        num_epochs=2, requests_per_batch=200, network=RankingNetworkConfig(hidden_sizes=(64, 32))
    ),
    recommender=RecommenderConfig(num_candidates=100),
    evaluation=EvaluationConfig(num_policy_moments=400, num_funnel_targets=300, num_requests=1_000),
)


@dataclass(frozen=True)
class Day:
    """Simulated logs, a registry with the release that they made, and how good it is."""

    logs: Path
    registry: Path
    report: EvaluationReport


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    directory = tmp_path_factory.mktemp("day")
    logs, registry = directory / "logs", directory / "registry"
    upnext.simulate(WORLD, logs)
    release = upnext.train(logs, registry, RUN)
    return Day(logs, registry, upnext.evaluate(logs, registry, release.version))


@pytest.fixture(scope="module")
def url(day: Day) -> Iterator[str]:
    """A server that follows the labels, `stable` being release 1."""
    upnext.move_label(day.registry, "stable", 1, reason="the first")
    live = LiveReleases(lambda version: open_warm(day.registry, version))
    with Following(live, day.registry) as following:
        following.wait()
        answering = Answering(live, AnsweringConfig(deadline_ms=10_000))
        with running_server(create_app(answering)) as url:
            yield url
        answering.close()


def test_retrieval_finds_more_than_what_is_most_watched(day: Day) -> None:
    recall = {system.name: system.metrics["recall_at_50"] for system in day.report.retrieval}
    assert recall["retrieval"].low > recall["most watched"].value
    assert recall["retrieval"].value > 1.15 * recall["most watched"].value


def test_ranking_orders_what_was_shown_better_than_popularity(day: Day) -> None:
    loss = {one.name: one.metrics["weighted_per_user_loss"] for one in day.report.ranking}
    assert loss["ranking"].high < loss["most watched"].low
    assert loss["ranking"].high < loss["the mean, always"].value


def test_two_stages_bring_far_more_watch_time_than_any_baseline(day: Day) -> None:
    policies = {policy.name: policy.expected_watch_time_s for policy in day.report.policies}
    baselines = [system.name for system in day.report.retrieval if system.is_baseline]
    assert len(baselines) == 3
    assert policies["two-stage"] > 1.5 * max(policies[name] for name in baselines)
    assert policies["two-stage"] > 1.2 * policies["retrieval alone"]


def test_a_client_gets_what_the_release_answers(day: Day, url: str) -> None:
    assert get(f"{url}/readyz").json()["labels"] == {"stable": 1}
    recommender = upnext.Recommender.open(day.registry, 1)
    at_ms = int(recommender.history.watches.at_ms.max()) + 1
    for user_id in [str(recommender.users.id(row)) for row in range(2, 400, 20)]:
        request = upnext.RecommendationRequest(user_id=user_id, at_ms=at_ms)
        answer = ask(url, user_id=user_id, at_ms=at_ms)
        expected = msgspec.json.encode(recommender.recommend(request).items)
        assert answer["items"] == msgspec.json.decode(expected)
        assert answer["label"] == "stable"


def test_the_label_moves_to_the_next_release_and_back_while_people_ask(day: Day, url: str) -> None:
    assert ask(url)["release"] == "1"
    second = upnext.train(day.logs, day.registry, replace(RUN, rank=False, refit=True))
    assert second.version == 2
    assert ask(url)["release"] == "1"
    upnext.move_label(day.registry, "stable", 2, reason="fresher")
    assert _ask_now(url, release="2")["items"][0]["expected_watch_time_s"] is None
    upnext.rollback(day.registry, "stable", reason="no ranker")
    assert _ask_now(url, release="1")["items"][0]["expected_watch_time_s"] > 0
    assert get(f"{url}/readyz").json()["problems"] == {}


def ask(url: str, **request: Any) -> dict[str, Any]:
    response = post(f"{url}/v1/recommendations", json=request)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert len(answer["items"]) == 10
    return answer


def _ask_now(url: str, *, release: str) -> dict[str, Any]:
    """A move that returned has been followed, so the very next answer is from there."""
    answer = ask(url)
    assert answer["release"] == release
    return answer
