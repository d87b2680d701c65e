import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from upnext.training.bags import bag_starts, bag_sums

SIZE = 3


@given(
    bags=st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=8),
    num_reserved=st.integers(0, 2),
    seed=st.integers(0, 100),
)
def test_sums_and_their_gradient_are_those_of_the_matrix_of_who_lies_where(
    bags: list[list[int]], num_reserved: int, seed: int
) -> None:
    """A member may lie in a bag twice, and a bag may be empty."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(6, SIZE, dtype=torch.float64, generator=generator).requires_grad_()
    upstream = torch.randn(len(bags), SIZE, dtype=torch.float64, generator=generator)
    occurs = torch.zeros(len(bags), 6, dtype=torch.float64)
    for bag, among in enumerate(bags):
        for member in among:
            occurs[bag, member] += 1
    members = np.array([member for bag in bags for member in bag], np.int32)
    starts = bag_starts(np.array([len(bag) for bag in bags], np.int64))
    sums = bag_sums(vectors, members, starts, num_reserved=num_reserved)
    torch.testing.assert_close(sums, occurs @ vectors)

    (gradient,) = torch.autograd.grad((sums * upstream).sum(), vectors)
    expected = occurs.T @ upstream
    expected[:num_reserved] = 0
    torch.testing.assert_close(gradient, expected)
