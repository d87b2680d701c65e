"""Where do targets get lost? Through the stages of a request, and beside them."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from upnext.evaluation.report import FunnelStep
from upnext.examples.watches import WatchTargets
from upnext.index import ExactIndex
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.parts import Arrays
from upnext.recommender import Recommender
from upnext.recommender.retriever import Retriever
from upnext.schema import UNKNOWN_ROW

PAGE_SIZE = 10
NOWHERE = -2
"""Stands for an unknown item, which is neither a row nor an empty place."""


@dataclass(frozen=True, kw_only=True)
class TargetFunnel:
    """Follows targets through the stages, as a request at their moment would."""

    targets: WatchTargets
    recommender: Recommender
    masks_watched: bool
    batch_size: int = 256

    @classmethod
    def of(cls, bench: Bench) -> Self:
        """For some of the targets of a bench."""
        return cls(
            targets=bench.targets.sample(bench.config.evaluation.num_funnel_targets, seed=1),
            recommender=bench.recommender,
            masks_watched=bench.masks_watched,
        )

    @property
    def num_events(self) -> int:
        """As many as there are targets."""
        return len(self.targets)

    def measure(self, batch: slice) -> Arrays:
        """[b] bool each, whether the target was there: by retrieval alone, and after each stage."""
        part, recommender = self.targets[batch], self.recommender
        wanted = np.where(part.item_rows > UNKNOWN_ROW, part.item_rows, NOWHERE)[:, None]
        history, users, times = part.history, part.user_rows, part.at_ms
        starts, seen = part.watched_before()
        watched = np.split(seen, starts[1:-1])
        excluded, again = (watched, None) if self.masks_watched else (None, watched)
        vectors = recommender.retriever.user_vectors(history, users, times)
        num_candidates = recommender.config.num_candidates
        nearest, found = (
            one.nearest(vectors, num_candidates, excluded, again_rows=again)[0]
            for one in (self._exact, recommender.retriever)
        )
        candidates = recommender.candidates_of(history, users, times, excluded, again)
        ranked = recommender.ranked(history, users, times, candidates)
        rows = {
            "in_exact": nearest,
            "in_index": found,
            "proposed": candidates,
            "before_ranking": candidates[:, :PAGE_SIZE],
            "on_page": ranked[:, :PAGE_SIZE],
        }
        return {name: (one == wanted).any(axis=1) for name, one in rows.items()}

    def steps(self, found: Arrays) -> tuple[FunnelStep, ...]:
        """How many of the targets come through each stage."""
        num_known = int((self.targets.item_rows > UNKNOWN_ROW).sum())
        return (
            FunnelStep(name="watches to be predicted", num_events=len(self.targets)),
            FunnelStep(name="item is known", num_events=num_known),
            FunnelStep(
                name="among the candidates of all sources", num_events=int(found["proposed"].sum())
            ),
            FunnelStep(
                name=f"in the first {PAGE_SIZE} after ranking",
                num_events=int(found["on_page"].sum()),
            ),
        )

    def note(self, found: Arrays) -> str:
        """What the index loses of retrieval's candidates, and what ranking is worth."""
        num = {name: int(there.sum()) for name, there in found.items()}
        num_targets = len(self.targets)
        return (
            f"Of {num_targets:,} watches, retrieval's index finds {num['in_index']:,} among its "
            f"{self.recommender.config.num_candidates:,} candidates, an exact search "
            f"{num['in_exact']:,}. In the order of retrieval, {num['before_ranking']:,} of "
            f"{num_targets:,} watches would stand in the first {PAGE_SIZE}."
        )

    @cached_property
    def _exact(self) -> Retriever:
        retriever = self.recommender.retriever
        return replace(retriever, index=ExactIndex.build(retriever.item_vectors))
