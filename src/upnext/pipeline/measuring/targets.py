"""Where does what a user went on to watch stand among all items? For the release and baselines."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from upnext.errors import DataError
from upnext.evaluation.ranks import RankedTargets, SeenRows, rank_targets
from upnext.examples.watches import WatchTargets
from upnext.pipeline.measuring.baselines import Baseline
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.parts import Arrays
from upnext.recommender.retriever import Retriever
from upnext.schema import Floats

RETRIEVAL = "retrieval"


@dataclass(frozen=True, kw_only=True)
class TargetRanks:
    """Ranks each target among all items, once for each system: S of them, stage 1 first."""

    targets: WatchTargets
    retriever: Retriever
    baselines: tuple[Baseline, ...]
    masks_watched: bool
    batch_size: int = 256

    @classmethod
    def of(cls, bench: Bench) -> Self:
        """For all targets of a bench."""
        return cls(
            targets=bench.targets,
            retriever=bench.recommender.retriever,
            baselines=bench.baselines,
            masks_watched=bench.masks_watched,
        )

    @property
    def num_events(self) -> int:
        """As many as there are targets."""
        return len(self.targets)

    def measure(self, batch: slice) -> Arrays:
        """`ranks` [b, S] and `top_rows` [b, S, k], as `RankedTargets` has them of each system.

        And `at_ms` [b], by which it is known of which targets this was found.
        """
        targets = self.targets[batch]
        user_vectors = self.retriever.user_vectors(
            targets.history, targets.user_rows, targets.at_ms
        )
        watched = SeenRows(*targets.watched_before())
        seen = watched if self.masks_watched else None
        scores = user_vectors @ self.retriever.item_vectors.T
        if seen is None:
            events = np.repeat(np.arange(len(targets)), np.diff(watched.starts))
            scores[events, watched.rows] += np.float32(self.retriever.repeat_bonus)
        of_systems = [_ranked(scores, targets, seen)]
        of_systems += [_ranked(one.scores_at(targets), targets, seen) for one in self.baselines]
        return {
            "at_ms": targets.at_ms,
            "ranks": np.stack([one.ranks for one in of_systems], axis=1),
            "top_rows": np.stack([one.top_rows for one in of_systems], axis=1),
        }

    def by_system(self, found: Arrays) -> dict[str, RankedTargets]:
        """What was found of each system, by its name.

        Raises: DataError: it was found of other targets, as by a worker that sees other logs.
        """
        if not np.array_equal(found["at_ms"], self.targets.at_ms):
            raise DataError(
                "evaluation in parts",
                expected=f"all {len(self.targets):,} targets, in order",
                got=f"{len(found['at_ms']):,}, or others",
                hint="all workers must see one and the same directory of logs.",
            )
        names = [RETRIEVAL, *(one.name for one in self.baselines)]
        return {
            name: RankedTargets(found["ranks"][:, place], found["top_rows"][:, place])
            for place, name in enumerate(names)
        }


def _ranked(scores: Floats, targets: WatchTargets, seen: SeenRows | None) -> RankedTargets:
    return rank_targets(
        lambda part: scores[part], targets.item_rows, num_rows=scores.shape[1], seen=seen
    )
