"""A release that went by way of a bucket is the same: to the byte, and in what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from upnext.recommender import Recommender
from upnext.registry.release import open_release
from upnext.registry.storage.pull import pull
from upnext.registry.storage.push import push
from upnext.schema import RecommendationRequest

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


def _files(directory: Path) -> dict[str, bytes]:
    paths = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def test_a_pulled_release_answers_as_the_one_that_was_trained(
    tiny_release: TrainedRelease, bucket: str, tmp_path: Path
) -> None:
    version = tiny_release.release.version
    push(tiny_release.registry, f"{bucket}/trained", [str(version)])
    pull(f"{bucket}/trained", tmp_path, [str(version)])
    pulled = open_release(tmp_path, version)
    assert _files(pulled.path) == _files(tiny_release.release.path)

    theirs = Recommender.open(tmp_path, version)
    for user in range(5):
        request = RecommendationRequest(user_id=f"u0000{user}", k=10, at_ms=1_800_000_000_000)
        ours = tiny_release.recommender.recommend(request).items
        assert len(ours) == 10
        assert theirs.recommend(request).items == ours
