"""Before a release is ready it has answered every kind of request, with every stage."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.patience import SOON_S

from upnext.errors import ReleaseError
from upnext.recommender import warm
from upnext.recommender.ranker import Ranker
from upnext.recommender.warm import (
    RECORDED,
    made_up_requests,
    open_warm,
    recorded_requests,
    warm_up,
)
from upnext.registry.release import Release, open_release, publish
from upnext.registry.turns import alone
from upnext.schema import RecommendationRequest

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


def _recording(registry: Path, content: bytes) -> Release:
    def write(directory: Path) -> Mapping[str, Any]:
        (directory / RECORDED).parent.mkdir()
        (directory / RECORDED).write_bytes(content)
        return {}

    return publish(registry, write)


def test_a_warm_release_answers_as_any_other(tiny_release: TrainedRelease) -> None:
    opened = open_warm(tiny_release.registry, tiny_release.release.version)
    request = RecommendationRequest(user_id="u00003", at_ms=10**12)
    assert opened.recommend(request).items == tiny_release.recommender.recommend(request).items
    recorded = recorded_requests(tiny_release.release)
    one_by_one = len(recorded) + len(made_up_requests(tiny_release.recommender))
    assert opened.num_tried == one_by_one + 2 + 4 + 8


def test_a_server_tries_as_many_at_once_as_it_will_answer(tiny_release: TrainedRelease) -> None:
    """Networks keep memory for a batch, so one that is too large is to be found out before."""
    opens = warm.OpensWarm(tiny_release.registry, max_batch=3)
    opened = opens(tiny_release.release.version)
    recorded = recorded_requests(tiny_release.release)
    one_by_one = len(recorded) + len(made_up_requests(tiny_release.recommender))
    assert opened.num_tried == one_by_one + 2 + 3


def test_a_process_that_answers_loads_when_it_is_its_turn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()

    def remember(_registry: Path, version: int, *, max_batch: int, rest: float) -> None:
        assert max_batch == 5
        opened.put((version, rest > 0))

    monkeypatch.setattr(warm, "open_warm", remember)
    monkeypatch.setattr(warm, "_num_cores", lambda: 3)
    opens = warm.OpensWarm(tmp_path, max_batch=5)
    with alone(tmp_path, "loading0"):  # that of all processes, as half of three cores is one
        opens(1)
        assert opened.get(timeout=SOON_S) == (1, False)  # at once: nobody is answered yet
        second = threading.Thread(target=opens, args=(2,), daemon=True)
        second.start()
        assert opened.empty()
    assert opened.get(timeout=SOON_S) == (2, True)
    second.join(SOON_S)


@pytest.mark.parametrize("which", ["tiny_release", "retrieval_release", "plain_release"])
def test_made_up_requests_are_of_every_kind(which: str, request: pytest.FixtureRequest) -> None:
    release: TrainedRelease = request.getfixturevalue(which)
    requests = made_up_requests(release.recommender)
    known = {one.user_id for one in requests if one.user_id is not None}
    assert all(release.recommender.users.row(user_id) > 1 for user_id in known)
    assert RecommendationRequest() in requests
    assert any(one.history for one in requests)
    assert any(one.searches for one in requests)
    assert any(one.page.num_explored for one in requests)
    assert any(one.rules.blocked_items for one in requests)
    assert len({one.k for one in requests}) > 2
    warm_up(release.recommender)


@pytest.mark.parametrize(
    ("max_batch", "then"), [(1, [1]), (2, [2]), (8, [2, 4, 8]), (6, [2, 4, 6])]
)
def test_sizes_of_batches_are_tried(
    tiny_release: TrainedRelease,
    monkeypatch: pytest.MonkeyPatch,
    max_batch: int,
    then: list[int],
) -> None:
    sizes = []
    recommend_all = type(tiny_release.recommender).recommend_all

    def note(self: Any, requests: Any, live: Any) -> Any:
        sizes.append(len(requests))
        return recommend_all(self, requests, live)

    monkeypatch.setattr(type(tiny_release.recommender), "recommend_all", note)
    recorded = [RecommendationRequest(k=3), RecommendationRequest(k=4)]
    warm_up(tiny_release.recommender, recorded, max_batch=max_batch)
    num_alone = len(recorded) + len(made_up_requests(tiny_release.recommender))
    assert sizes == [1] * num_alone + then


def test_a_stage_that_fails_is_found_out(
    tiny_release: TrainedRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(Ranker, "seconds_of", fail)
    with pytest.raises(ReleaseError, match=r"ranking failed \(RuntimeError\)"):
        open_warm(tiny_release.registry, tiny_release.release.version)


def test_without_memory_nothing_is_opened(
    tiny_release: TrainedRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upnext.registry.memory.available_bytes", lambda: 10**6)
    with pytest.raises(ReleaseError, match="of free memory to load it, got 1 MB"):
        open_warm(tiny_release.registry, tiny_release.release.version)


def test_recorded_requests_are_read(tmp_path: Path) -> None:
    requests = [RecommendationRequest(user_id="ada", k=3), RecommendationRequest(user_id=7)]
    assert recorded_requests(_recording(tmp_path, msgspec.json.encode(requests))) == requests
    _recording(tmp_path, b"[]")
    assert recorded_requests(open_release(tmp_path, 2)) == []


@pytest.mark.parametrize("content", [b'{"k": 3}', b'[{"k": "three"}]', b"[1]", b"nonsense"])
def test_recorded_nonsense_is_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ReleaseError, match=r"warm_up/requests\.json"):
        recorded_requests(_recording(tmp_path, content))
