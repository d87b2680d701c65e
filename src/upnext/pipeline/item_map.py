"""A map of items: points of a plane, near each other where their item vectors are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from upnext.config import require
from upnext.errors import ConfigError
from upnext.examples.catalogue import Catalogue
from upnext.recommender.plane import (
    NUM_STRATA,
    directions,
    principal_components,
    stratified_rows,
)
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows

MAX_POINTS = 5_000
"""More points than that nobody tells apart, and each costs the projection more."""
MIN_LEARNED_POINTS = 50
"""Fewer have too few neighbours to be arranged by."""
NUM_STEPS, PERPLEXITY = 500, 30.0
"""Of t-SNE; twice as many steps gain no trustworthiness. Perplexity: neighbours that count."""
NUM_NEIGHBOURS = 10
"""Those whose place trustworthiness looks at."""


@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """The map of items that is drawn when a release is published."""

    num_points: int = 4_000
    """Items on it, as many of each tenth of the catalogue by watches: 10 to 5,000, or 0 for no map.
    4,000 take some ten seconds."""
    seed: int = 0
    """Of what is drawn at random."""

    def __post_init__(self) -> None:
        require("map", self, at_least={"seed": 0})
        if self.num_points and not NUM_STRATA <= self.num_points <= MAX_POINTS:
            expected, got = f"0, or {NUM_STRATA} to {MAX_POINTS:,}", f"{self.num_points:,}"
            raise ConfigError("[map] num_points", expected=expected, got=got)


@dataclass(frozen=True, kw_only=True)
class ItemMap:
    """Where some items stand: `points` [M, 2] of `item_rows` [M].

    `trustworthiness`: to what degree neighbours on the map are neighbours by cosine, 1 at best and
    about ½ by chance; None where there are too few points to tell. `num_items`: those that the
    points were drawn from.
    """

    method: str
    item_rows: Rows
    points: Floats
    trustworthiness: float | None
    num_items: int

    def save(self, folder: Path) -> None:
        """Writes points.npy and item_rows.npy into a new folder."""
        folder.mkdir()
        np.save(folder / "points.npy", self.points, allow_pickle=False)
        np.save(folder / "item_rows.npy", self.item_rows, allow_pickle=False)

    def facts(self) -> dict[str, Any]:
        """What a release tells of it, as plain values."""
        return {
            "method": self.method,
            "trustworthiness": self.trustworthiness,
            "num_items": self.num_items,
            "num_points": len(self.item_rows),
        }


def draw_item_map(catalogue: Catalogue, item_vectors: Floats, config: MapConfig) -> ItemMap | None:
    """The map of a catalogue whose vectors are item_vectors [N, D]; None where none is wanted.

    t-SNE keeps neighbours together: on the demo's items its trustworthiness is .79, where that of
    principal components is .65. On one thread, so that the same seed gives the same bits.

    Source: van der Maaten and Hinton 2008, "Visualizing data using t-SNE"; trustworthiness: Venna
    and Kaski 2001.
    """
    if not config.num_points:
        return None
    rows = stratified_rows(catalogue.num_watches, config.num_points, seed=config.seed)
    vectors = directions(item_vectors[rows])
    with threadpool_limits(limits=1):
        method, points = _projected(vectors, config.seed)
        trustworthiness = _trustworthiness(vectors, points)
    return ItemMap(
        method=method,
        item_rows=rows,
        points=points,
        trustworthiness=trustworthiness,
        num_items=catalogue.num_rows - NUM_RESERVED_ROWS,
    )


def _projected(vectors: Floats, seed: int) -> tuple[str, Floats]:
    """How, and the points [M, 2] of vectors [M, D] of length 1, whose distances are by cosine."""
    plain = principal_components(vectors)
    spread = plain[:, 0].std()
    if len(vectors) < MIN_LEARNED_POINTS or not spread:
        return "principal components", plain
    from sklearn.manifold import TSNE  # a second to import, which whoever reads configs is spared

    perplexity = min(PERPLEXITY, len(vectors) / 5)
    # Begun at the principal components, as sklearn's own init="pca" would scale them.
    start = plain / spread * 1e-4
    learner = TSNE(init=start, random_state=seed, max_iter=NUM_STEPS, perplexity=perplexity)
    points: Floats = learner.fit_transform(vectors).astype(np.float32)
    return "t-SNE", points


def _trustworthiness(vectors: Floats, points: Floats) -> float | None:
    from sklearn.manifold import trustworthiness

    num_neighbours = min(NUM_NEIGHBOURS, (len(vectors) - 1) // 2)
    if num_neighbours < 1:
        return None
    return float(trustworthiness(vectors, points, n_neighbors=num_neighbours))
