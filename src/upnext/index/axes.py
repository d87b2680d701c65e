"""Axes along which errors of item vectors are as long as the errors of scores that they make.

What an index loses of an item vector v, an error e, costs a user u the error u · e of the score;
over all users that is E[(u · e)²] = eᵀ C e with C = E[u uᵀ]. Seen along C^½ it is the plain squared
length |C^½ e|², which is what clustering and quantising make small. Trained vectors keep much of
their random start in directions no user looks in; along these axes that noise all but vanishes.
Source: Guo, Kumar, Choromanski, Simcha 2016, "Quantization based fast inner product search".
"""

from dataclasses import dataclass

import numpy as np

from upnext.schema import Floats


@dataclass(frozen=True, slots=True)
class ScoreAxes:
    """`items`, `users` [D, D] float32: (v items) · (u users) = v · u for every v and u."""

    items: Floats
    users: Floats


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
