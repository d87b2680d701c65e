"""A release is plain files, and its networks take any number of requests and candidates."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from upnext.training.logbook import Epoch

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


def test_a_release_holds_arrays_networks_and_json_alone(tiny_release: TrainedRelease) -> None:
    names = set(tiny_release.release.files)
    assert {name.rsplit(".", 1)[1] for name in names} <= {"npy", "onnx", "json"}
    assert {name.split("/")[0] for name in names} == {
        "config.json",
        "encoder",
        "users",
        "history",
        "retrieval",
        "sources",
        "index",
        "ranking",
        "warm_up",
        "map",
    }


def test_a_release_brings_along_the_last_requests_of_its_logs(
    tiny_release: TrainedRelease,
) -> None:
    requests = tiny_release.release.json("warm_up/requests.json")
    history, users = tiny_release.recommender.history, tiny_release.recommender.users
    ended_ms = {
        users.id(row): max(
            int(log.of_user(row).at_ms.max(initial=0)) for log in (history.watches, history.shown)
        )
        for row in range(2, users.num_rows)
    }
    latest = sorted(ended_ms.values(), reverse=True)[: len(requests)]
    assert len(requests) == min(32, len(ended_ms))
    assert [request["at_ms"] for request in requests] == latest
    assert all(ended_ms[request["user_id"]] == request["at_ms"] for request in requests)


def test_without_a_ranker_there_are_no_files_of_one(retrieval_release: TrainedRelease) -> None:
    assert not [name for name in retrieval_release.release.files if name.startswith("ranking")]
    assert retrieval_release.recommender.ranker is None


def test_a_metric_that_had_nothing_to_measure_is_left_out_of_the_facts(
    retrieval_release: TrainedRelease,
) -> None:
    """A page that was watched whole, or a whole validation of them, misplaces no share of it."""
    learned = retrieval_release.learned
    measured = {"validation_loss": 1.5, "validation_weighted_per_user_loss": math.nan}
    epoch = Epoch(epoch=0, loss=2.0, examples_per_s=9.0, metrics=measured)
    facts = replace(learned, retrieval=replace(learned.retrieval, epochs=(epoch,))).facts()
    assert facts["retrieval_epochs"][0]["metrics"] == {"validation_loss": 1.5}
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_what_was_not_measured_is_null_in_the_facts(retrieval_release: TrainedRelease) -> None:
    facts = retrieval_release.learned.facts()
    assert facts["retrieval_epochs"][-1]["metrics"] == {}
    assert facts["ranking_epochs"] == []
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


@pytest.mark.parametrize("num_requests", [1, 3, 40])
@pytest.mark.parametrize("num_candidates", [0, 1, 7])
def test_the_networks_take_any_number(
    tiny_release: TrainedRelease, num_requests: int, num_candidates: int
) -> None:
    recommender = tiny_release.recommender
    users = np.arange(2, 2 + num_requests)
    times = np.full(num_requests, recommender.history.watches.at_ms.max())
    vectors = recommender.retriever.user_vectors(recommender.history, users, times)
    one = recommender.retriever.user_vectors(recommender.history, users[:1], times[:1])
    np.testing.assert_allclose(vectors[:1], one, rtol=1e-4, atol=1e-6)
    request_index = np.repeat(np.arange(num_requests), num_candidates)
    rows = np.arange(2, 2 + num_candidates, dtype=np.int32)
    together = recommender.expected_watch_time_s(
        recommender.history, users, times, request_index, np.tile(rows, num_requests)
    )
    alone = recommender.expected_watch_time_s(
        recommender.history, users[-1:], times[-1:], np.zeros(num_candidates, np.int64), rows
    )
    assert together.shape == (num_requests * num_candidates,)
    np.testing.assert_allclose(together.reshape(num_requests, num_candidates)[-1], alone, rtol=1e-4)
