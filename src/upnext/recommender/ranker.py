"""Stage 2 of a release: candidates in, expected watch times out."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from upnext.examples.impressions import RankingInputs
from upnext.examples.input_groups import OF_IMPRESSIONS
from upnext.recommender.files import Network
from upnext.recommender.vectors import pooled_vectors
from upnext.registry.release import Release
from upnext.schema import PAD_ROW, Floats

SLOTS_AT_ONCE = 100
"""Of impressions, as many are told as hold all that anybody was shown, by so many: the runtime
keeps a plan of its memory for each shape that it meets."""


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
        feed = {
            name: vectors[name]() if name in vectors else raw[name] for name in self.network.inputs
        }
        if begin := self._num_left_out(raw["shown_rows"]):
            feed |= {name: feed[name][:, begin:] for name in OF_IMPRESSIONS if name in feed}
        return self.network(feed)

    def _num_left_out(self, shown_rows: NDArray[Any]) -> int:
        """How many first slots of impressions are left out, as they pad each request.

        What nobody was shown adds nothing to anything, but would be added up. Releases that were
        published before this was so take all slots.
        """
        if isinstance(self.network.inputs["shown_rows"][1], int):
            return 0
        num_slots = int(shown_rows.shape[1])
        are_filled = (shown_rows > PAD_ROW).any(axis=0)
        num_told = num_slots - int(are_filled.argmax()) if are_filled.any() else 1
        return max(0, num_slots - math.ceil(num_told / SLOTS_AT_ONCE) * SLOTS_AT_ONCE)
