"""The softmax's denominator, summed over all items, or estimated from some where they are many."""

from dataclasses import dataclass

import numpy as np

from upnext.schema import NUM_RESERVED_ROWS, Floats

MAX_SUMMED = 25_000
"""Of more items the sum is estimated: a million of them to some 9% for one user, 1% for many."""
CERTAIN_SHARE = 0.2
"""Of the items summed: the most watched ones, of which none is left out."""


@dataclass(frozen=True)
class Denominator:
    """Items to sum over, vectors [M, D], each standing for e^log_weights [M] of them."""

    vectors: Floats
    log_weights: Floats

    @classmethod
    def of(
        cls, item_vectors: Floats, *, max_summed: int = MAX_SUMMED, offset: int = 0
    ) -> "Denominator":
        """All items [N, D], or the most watched and each s-th of the others, standing for s.

        Over the offsets 0 to s − 1 the mean of the estimates is the sum over all items.
        """
        vectors, num_certain, stride = item_vectors[NUM_RESERVED_ROWS:], 0, 1
        if len(vectors) > max_summed:
            num_certain = int(CERTAIN_SHARE * max_summed)
            stride = -(-(len(vectors) - num_certain) // (max_summed - num_certain))
            others = vectors[num_certain + offset :: stride]
            vectors = np.concatenate([vectors[:num_certain], others])
        weights = np.full(len(vectors), np.log(stride), np.float32)
        weights[:num_certain] = 0
        return cls(vectors, weights)

    def __len__(self) -> int:
        return len(self.vectors)

    def log_sums(self, user_vectors: Floats) -> Floats:
        """[B] log Σ_j e^{u · v_j}; the greatest score is taken off first."""
        scores = user_vectors @ self.vectors.T
        scores += self.log_weights
        greatest = scores.max(axis=1)
        scores -= greatest[:, None]
        np.exp(scores, out=scores)
        sums: Floats = greatest + np.log(scores.sum(axis=1))
        return sums
