"""Stage 2 of a release: candidates in, expected watch times out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from upnext.examples.impressions import RankingInputs
from upnext.recommender.files import Network
from upnext.recommender.vectors import pooled_vectors
from upnext.registry.release import Release
from upnext.schema import Floats


@dataclass(frozen=True)
class Ranker:
    """The vectors of items [N, E], and the network that they feed."""

    item_vectors: Floats
    network: Network

    @classmethod
    def open(cls, release: Release, *, num_threads: int) -> Self | None:
        """None where the release has no stage 2."""
        if "ranking/network.onnx" not in release.files:
            return None
        return cls(
            item_vectors=release.array("ranking/item_vectors.npy"),
            network=Network.open(release, "ranking/network.onnx", num_threads),
        )

    @property
    def num_sources(self) -> int:
        """S, the columns of sources' scores that the network was trained with; 0: it has none."""
        shape = self.network.inputs.get("source_scores")
        return int(shape[1]) if shape is not None else 0

    def seconds_of(self, raw: RankingInputs | Mapping[str, NDArray[Any]]) -> Floats:
        """[M] seconds per impression of raw inputs by name."""
        if not len(raw["item_rows"]):  # which the network's graph cannot broadcast over
            return np.zeros(0, np.float32)
        item_vectors = self.item_vectors
        vectors: Mapping[str, Callable[[], Floats]] = {
            "item_vectors": lambda: item_vectors.take(raw["item_rows"], axis=0),
            "history_pooled": lambda: pooled_vectors(item_vectors, raw["history_rows"]),
            "shown_pooled": lambda: pooled_vectors(item_vectors, raw["shown_rows"]),
            "history_vectors": lambda: item_vectors[raw["history_rows"]],
        }
        return self.network(
            {
                name: vectors[name]() if name in vectors else raw[name]
                for name in self.network.inputs
            }
        )
