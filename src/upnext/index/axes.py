"""Axes along which errors of item vectors are as long as the errors of scores that they make.

What an index loses of an item vector v, an error e, costs a user u the error u · e of the score;
over all users that is E[(u · e)²] = eᵀ C e with C = E[u uᵀ]. Seen along C^½ it is the plain squared
length |C^½ e|², which is what clustering and quantising make small. Trained vectors keep much of
their random start in directions no user looks in; along these axes that noise all but vanishes, and
axes along which nothing is left but noise need not be searched at all.
Source: Guo, Kumar, Choromanski, Simcha 2016, "Quantization based fast inner product search".
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from upnext.schema import Floats

SHARE_LEFT_OUT = 0.01
"""Of what the scores of items differ by for one user, squared, no user loses more with axes that
are left out. Few users may be alone in looking along an axis, so a mean over users will not do.
Codes of 4 bits lose about as much."""
NUM_SAMPLED = 50_000


@dataclass(frozen=True, slots=True)
class ScoreAxes:
    """`items`, `users` [D, A] float32: (v items) · (u users) is v · u, all but exactly so.

    It is exactly so of all D axes, for every v and u.
    """

    items: Floats
    users: Floats

    def that_matter(self, item_vectors: Floats, user_vectors: Floats) -> Self:
        """Those axes alone along which for some of the users [B, D] scores of items [M, D] differ.

        All of them where nobody's scores differ, as of users without a history.
        """
        spread = (_some(item_vectors) @ self.items).var(axis=0, dtype=np.float64)
        differences = (_some(user_vectors) @ self.users).astype(np.float64) ** 2 * spread
        of_user = differences.sum(axis=1, keepdims=True)
        shares = (differences / np.where(of_user > 0, of_user, 1)).T
        rising = np.argsort(shares.max(axis=1), kind="stable")
        is_lost = np.cumsum(shares[rising], axis=0).max(axis=1) <= SHARE_LEFT_OUT
        is_lost &= of_user.any()
        kept = np.sort(rising[~is_lost])
        return type(self)(
            items=np.ascontiguousarray(self.items[:, kept]),
            users=np.ascontiguousarray(self.users[:, kept]),
        )


def score_axes(user_vectors: Floats) -> ScoreAxes:
    """The axes that typical users [B, D] give.

    D more users are taken to look anywhere, so that no direction is lost sight of.

    >>> axes = score_axes(np.array([[3.0, 0.0], [3.0, 0.0]], np.float32))
    >>> (np.array([1.0, 1.0]) @ axes.items).round(3)
    array([1.5  , 2.598])
    """
    num_users, num_dimensions = user_vectors.shape
    moments = np.zeros((num_dimensions, num_dimensions))
    for start in range(0, num_users, 100_000):
        part = user_vectors[start : start + 100_000].astype(np.float64)
        moments += part.T @ part
    anywhere = np.trace(moments) / max(num_users, 1) or 1.0
    moments += anywhere * np.eye(num_dimensions)
    moments /= num_users + num_dimensions
    squares, directions = np.linalg.eigh(moments)
    lengths = np.sqrt(squares)
    return ScoreAxes(
        items=np.ascontiguousarray(directions * lengths, np.float32),
        users=np.ascontiguousarray(directions / lengths, np.float32),
    )


def _some(vectors: Floats) -> Floats:
    """Enough of them to tell along which axes they differ, evenly from first to last."""
    return vectors[:: -(-len(vectors) // NUM_SAMPLED)]
