"""Stage 2 of a release: candidates in, expected watch times out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from upnext.errors import ReleaseError
from upnext.examples.ranking_inputs import RankingInputs
from upnext.features.features import CANDIDATE_LEVELS, QUERY_LEVELS, RankingFeatures
from upnext.recommender.files import Network, arrays_in
from upnext.recommender.fits import check_features_fit
from upnext.recommender.vectors import pooled_vectors
from upnext.registry.release import Release
from upnext.schema import Floats


@dataclass(frozen=True)
class Ranker:
    """The features, the vectors of items [N, E], and the network that they feed."""

    features: RankingFeatures
    item_vectors: Floats
    network: Network

    @classmethod
    def open(cls, release: Release, *, num_threads: int) -> Self | None:
        """None where the release has no stage 2."""
        if "ranking/network.onnx" not in release.files:
            return None
        features = arrays_in(release, "ranking/features")
        if not features:
            raise ReleaseError(
                f"release {release.version}, ranking",
                expected="what its features were like in training, beside its network",
                got="a network that works them out itself",
                hint="an earlier version of upnext made it; train it again.",
            )
        told = RankingFeatures.from_arrays(features)
        check_features_fit(release, told)
        return cls(
            features=told,
            item_vectors=release.array("ranking/item_vectors.npy"),
            network=Network.open(release, "ranking/network.onnx", num_threads),
        )

    @property
    def num_sources(self) -> int:
        """S, the columns of sources' scores that are features; 0: there are none."""
        return self.features.num_sources

    def seconds_of(self, raw: RankingInputs | Mapping[str, NDArray[Any]]) -> Floats:
        """[M] seconds per impression of raw inputs by name."""
        if not len(raw["item_rows"]):  # which the network's graph cannot broadcast over
            return np.zeros(0, np.float32)
        item_vectors = self.item_vectors
        query_levels, candidate_levels = self.features.levels(raw)
        made: Mapping[str, Callable[[], Floats]] = {
            QUERY_LEVELS: lambda: query_levels,
            CANDIDATE_LEVELS: lambda: candidate_levels,
            "item_vectors": lambda: item_vectors.take(raw["item_rows"], axis=0),
            "history_pooled": lambda: pooled_vectors(item_vectors, raw["history_rows"]),
            "shown_pooled": lambda: pooled_vectors(item_vectors, raw["shown_rows"]),
            "history_vectors": lambda: item_vectors[raw["history_rows"]],
        }
        return self.network(
            {name: made[name]() if name in made else raw[name] for name in self.network.inputs}
        )
