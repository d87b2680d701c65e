"""The list of releases, some side by side, and one in full."""

import copy

import httpx
import pytest
from tests.console.fake_server import FakeServer
from tests.console.released import CONFIG, NOTES, detail_of, held, released_answers, server_of
from tests.console.wellformed import problems_of

RELEASES = "GET /insight/v1/releases"
SEVEN = "&".join(f"versions={n}" for n in range(1, 8))


@pytest.fixture(autouse=True)
def released(fake: FakeServer) -> None:
    fake.answers |= released_answers(5, stable=3, canary=4)


def test_a_hundred_releases_are_one_page_and_one_request(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    fake.answers |= released_answers(130)
    answer = visitor.get("/releases")
    assert answer.text.count('name="versions"') == 100
    assert len(answer.content) < 300_000
    assert problems_of(answer.text) == []
    asked = [one.path for one in fake.asked if one.path.startswith("/insight")]
    assert asked == ["/insight/v1/releases"]
    assert 'href="/releases?num=200"' in answer.text
    assert visitor.get("/releases?num=200").text.count('name="versions"') == 130


def test_metrics_are_chosen_in_the_address(visitor: httpx.Client) -> None:
    text = visitor.get("/releases?metrics=ranking.mean_absolute_error_s").text
    assert "21.3 [21.1, 21.5]" in text
    assert "0.313 [0.303, 0.323]" not in text
    assert "<h3>Ranking: mean absolute error, s ↓</h3>" in text
    drawn = visitor.get("/releases?picture=retrieval.coverage_at_50").text
    assert "<h3>Retrieval: coverage@50</h3>" in drawn
    assert visitor.get("/releases?picture=of.nothing&metrics=nothing").status_code == 200


def test_what_is_wrong_with_a_release_is_told(visitor: httpx.Client, fake: FakeServer) -> None:
    told = fake.answers[RELEASES]
    damage = "release 2, a.npy: expected 3 bytes, got <2>."
    told["releases"][1] |= {
        "problem": damage,
        "created_at": "",
        "train_until": None,
        "num_items": None,
        "metrics": {},
    }
    fake.answers["GET /insight/v1/releases/2"] = {
        **detail_of(2, problem=damage, files=[], metadata={}, config={}, evaluation=None),
        "lineage": dict.fromkeys(("extends", "training", "train_until", "history_until")),
    }
    for path in (
        "/releases",
        "/releases/2",
        "/releases/2/promote",
        "/releases?versions=2&versions=3",
    ):
        page = visitor.get(path)
        assert page.status_code == 200
        assert "expected 3 bytes, got &lt;2&gt;." in page.text, path
        assert problems_of(page.text) == []


def test_two_releases_differ_where_their_settings_do(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    config = copy.deepcopy(CONFIG)
    config["retrieval"]["network"]["vector_size"] = 128
    fake.answers["GET /insight/v1/releases/5"] = detail_of(5, config=config)
    page = visitor.get("/releases?versions=3&versions=5&picture=retrieval.ndcg_at_10")
    assert problems_of(page.text) == []
    assert "Only differences (1)" in page.text
    assert "retrieval.network.vector_size" in page.text
    assert "<code>128</code>" in page.text
    assert "retrieval.guide" not in page.text
    assert "most watched: 0.219" in page.text
    every = visitor.get("/releases?versions=3&versions=5&settings=all").text
    assert "retrieval.guide" in every
    assert every.count("≠") == 1
    assert "picture=retrieval.ndcg_at_10&amp;settings=all" in page.text
    same = visitor.get("/releases?versions=1&versions=2").text
    assert "All settings are the same." in same


@pytest.mark.parametrize(
    "query",
    ["versions=x", "versions=0", "num=0", "num=1e3", f"versions={'9' * 5000}", SEVEN],
)
def test_what_no_list_can_show_is_refused(visitor: httpx.Client, query: str) -> None:
    answer = visitor.get(f"/releases?{query}")
    assert answer.status_code == 400
    assert "Expected" in answer.text


def test_one_release_tells_all_of_itself(visitor: httpx.Client, fake: FakeServer) -> None:
    servers = [server_of(11, held(5)), server_of(12, held(5, "failed", "<out of memory>"))]
    fake.answers[RELEASES]["servers"] = [*servers, server_of(13)]
    warm_up = {"num_servers": 1, "load_time_s": 1.84, "num_tried": 64}
    lineage = detail_of(5)["lineage"] | {"extends": 4}
    fake.answers["GET /insight/v1/releases/5"] = detail_of(5, warm_up=warm_up, lineage=lineage)
    page = visitor.get("/releases/5")
    assert problems_of(page.text) == []
    for told in (
        *NOTES,
        "cd" * 32,
        "ab" * 32,
        "&lt;out of memory&gt;",
        "not loaded",
        "took 1.84 s at most, with 64 requests tried",
        "retrieval.network.vector_size",
        'href="/releases/4">release 4',
        'href="/training?training=0123abcd"',
        'href="/quality?version=5"',
        'href="/data?version=5"',
        'href="/releases/5/promote?label=stable"',
        'href="/releases?versions=5&amp;versions=3#comparison"',
        "most watched (baseline)",
    ):
        assert told in page.text, told


@pytest.mark.parametrize("version", ["0", "x", "01", "%2E%2E", "9" * 5000, "77"])
def test_a_release_that_is_not_there_is_not_found(visitor: httpx.Client, version: str) -> None:
    assert visitor.get(f"/releases/{version}").status_code == 404
    assert visitor.get(f"/releases/{version}/promote").status_code == 404


def test_the_best_baseline_stands_beside_each_metric(
    visitor: httpx.Client, fake: FakeServer
) -> None:
    best = {"retrieval": {"recall_at_50": {"name": "watched <together>", "value": 0.2625}}}
    for one in fake.answers[RELEASES]["releases"]:
        one["baselines"] = best
    page = visitor.get("/releases").text
    assert problems_of(page) == []
    assert page.count('title="watched &lt;together&gt;">· 0.263</span>') == 5
    assert "best baseline" in page
