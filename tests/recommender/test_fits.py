"""Files that do not go together are found out when a release is opened."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from upnext.errors import ReleaseError
from upnext.features.features import RankingFeatures
from upnext.features.scale import Scale
from upnext.recommender import Recommender
from upnext.recommender.fits import AS_LONG, ENDS, check_features_fit
from upnext.registry.release import Release, publish

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


def with_another(release: Release, registry: Path, name: str, array: np.ndarray) -> int:
    """The version of a release that is whole, and has another array in one of its files."""

    def write(directory: Path) -> Mapping[str, Any]:
        for one in release.files:
            (directory / one).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(release.file(one), directory / one)
        (directory / name).unlink()
        np.save(directory / name, array, allow_pickle=False)
        return release.metadata

    return publish(registry, write).version


def test_every_array_that_is_compared_is_one_that_releases_have(
    tiny_release: TrainedRelease,
) -> None:
    names = {f"{name}.npy" for group in AS_LONG for name in group}
    names |= {f"{name}.npy" for name in (*ENDS, *ENDS.values())}
    assert names <= tiny_release.release.files.keys()


@pytest.mark.parametrize(
    "name",
    [
        "encoder/catalogue.channel_rows",
        "encoder/catalogue.duration_s",
        "retrieval/item_vectors",
        "ranking/item_vectors",
        "history/watches.starts",
        "history/shown.at_ms",
        "history/item_counts.sums",
        "sources/together.num_watches",
        "sources/popular.shares",
        "sources/fresh.lifts",
    ],
)
def test_a_file_of_another_release_is_found_out(
    tiny_release: TrainedRelease, tmp_path: Path, name: str
) -> None:
    shorter = tiny_release.release.array(f"{name}.npy")[:-1]
    version = with_another(tiny_release.release, tmp_path, f"{name}.npy", shorter)
    with pytest.raises(ReleaseError, match="of several trainings"):
        Recommender.open(tmp_path, version)


def test_starts_that_end_beyond_their_events_are_found_out(
    tiny_release: TrainedRelease, tmp_path: Path
) -> None:
    name = "history/watches.starts.npy"
    starts = np.array(tiny_release.release.array(name))
    starts[-1] += 1
    version = with_another(tiny_release.release, tmp_path, name, starts)
    with pytest.raises(ReleaseError, match=r"history/watches\.rows"):
        Recommender.open(tmp_path, version)


def test_features_of_another_version_are_found_out(tiny_release: TrainedRelease) -> None:
    ranker = tiny_release.recommender.ranker
    assert ranker is not None
    features, release = ranker.features, tiny_release.release
    check_features_fit(release, features)
    assert features.manners is not None
    for other in (
        replace(features, candidates=Scale.unfitted(features.candidates.num_features - 1)),
        replace(features, queries=Scale.unfitted(features.queries.num_features + 1)),
        replace(
            features, candidates=replace(features.candidates, widths=np.ones((1, 1), np.float32))
        ),
        replace(features, manners=replace(features.manners, precision=np.ones(1))),
    ):
        assert isinstance(other, RankingFeatures)
        with pytest.raises(ReleaseError, match="ranking/features"):
            check_features_fit(release, other)


def test_an_event_of_an_item_beyond_the_catalogue_costs_the_answer_its_ranking(
    tiny_release: TrainedRelease,
) -> None:
    recommender = tiny_release.recommender
    watches = recommender.history.watches
    beyond = np.full_like(watches.rows, 2**31 - 1)
    history = replace(recommender.history, watches=replace(watches, rows=beyond))
    user = int(np.argmax(np.diff(watches.starts)))
    at_ms = np.array([int(watches.at_ms.max()) + 1])
    args = history, np.array([user]), at_ms, np.zeros(1, np.int64), np.array([2], np.int32)
    with pytest.raises(IndexError, match="beyond the catalogue"):
        recommender.expected_watch_time_s(*args)
    args = recommender.history, *args[1:4], np.array([2**31 - 1], np.int32)
    with pytest.raises(IndexError):
        recommender.expected_watch_time_s(*args)
