"""Sums of the vectors of past events, and their gradient."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from upnext.ranking.pooling import pooled


def by_hand(vectors: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """One line after another, by what autograd knows."""
    lines = [torch.from_numpy(line[line > 1].astype(np.int64)) for line in rows]
    return torch.stack([vectors[line].sum(dim=0) / max(1, len(line)) ** 0.5 for line in lines])


@given(
    num_lines=st.integers(1, 6),
    num_slots=st.integers(1, 9),
    num_rows=st.integers(2, 12),
    seed=st.integers(0, 2**31),
)
def test_sums_and_gradient_are_those_of_the_known_rows(
    num_lines: int, num_slots: int, num_rows: int, seed: int
) -> None:
    """Rows that occur often, once, never; lines of nothing but pads; the gradient any at all."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, num_rows, (num_lines, num_slots)).astype(np.int32)
    start = generator.standard_normal((num_rows, 3)).astype(np.float32)
    start[:2] = 0.0
    slope = torch.from_numpy(generator.standard_normal((num_lines, 3)).astype(np.float32))
    found, gradients = [], []
    for way in (pooled, by_hand):
        vectors = torch.from_numpy(start.copy()).requires_grad_()
        found.append(way(vectors, rows))
        found[-1].backward(slope)  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        gradients.append(vectors.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)
    assert not gradients[0][:2].any()
    with torch.inference_mode():
        torch.testing.assert_close(pooled(torch.from_numpy(start), rows), found[0].detach())


def test_of_no_lines_there_are_no_sums() -> None:
    vectors = torch.zeros(5, 3).requires_grad_()
    summed = pooled(vectors, np.zeros((0, 4), np.int32))
    assert summed.shape == (0, 3)
    summed.sum().backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None
    assert not vectors.grad.any()
