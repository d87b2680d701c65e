from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from upnext.examples.history import EventLog, Indices
from upnext.retrieval.windows import window_means

CPU = torch.device("cpu")

NUM_ROWS = 7
EMBEDDING_SIZE = 3


def random_log(seed: int, *, num_users: int, num_events: int) -> EventLog:
    """Events with rows from 1, unknown, to the last of the table; times often equal."""
    rng = np.random.default_rng(seed)
    return EventLog.from_events(
        user_rows=rng.integers(0, num_users, num_events),
        rows=rng.integers(1, NUM_ROWS, num_events).astype(np.int32),
        at_ms=rng.integers(0, 20, num_events),
        num_users=num_users,
    )


def gathered_means(
    weight: torch.Tensor, log: EventLog, lo: Indices, hi: Indices, lengths: Sequence[int]
) -> torch.Tensor:
    """Each window's embeddings gathered and averaged, one window at a time."""
    means = []
    for start, end in zip(lo, hi, strict=True):
        for length in lengths:
            rows = log.rows[max(start, end - length) : end]
            known = torch.from_numpy(rows[rows > 1].astype(np.int64))
            empty = weight.new_zeros(weight.shape[1])
            means.append(weight[known].mean(dim=0) if len(known) else empty)
    return torch.stack(means).reshape(len(lo), len(lengths) * weight.shape[1])


def double_table() -> nn.Embedding:
    torch.manual_seed(1)
    return nn.Embedding(NUM_ROWS, EMBEDDING_SIZE, dtype=torch.float64)


@settings(max_examples=80)
@given(
    seed=st.integers(0, 10_000),
    num_users=st.integers(1, 4),
    num_events=st.integers(1, 30),
    num_windows=st.integers(1, 15),
    max_events=st.integers(1, 8),
    lengths=st.lists(st.integers(1, 10), min_size=1, max_size=3),
    most_skipped=st.integers(0, 4),
)
def test_window_means_are_gathered_averages(
    seed: int,
    num_users: int,
    num_events: int,
    num_windows: int,
    max_events: int,
    lengths: list[int],
    most_skipped: int,
) -> None:
    log = random_log(seed, num_users=num_users, num_events=num_events)
    rng = np.random.default_rng(seed + 1)
    users, at_ms = rng.integers(0, num_users, num_windows), rng.integers(0, 22, num_windows)
    order = np.lexsort((at_ms, users))
    lo, hi = log.window_before(users[order], at_ms[order], max_events)
    table = double_table()
    skipped = rng.integers(0, most_skipped + 1, num_windows)
    hi = np.maximum(lo, hi - skipped)
    means = window_means(table, log, lo, hi, lengths, device=CPU)
    expected = gathered_means(table.weight, log, lo, hi, lengths)
    torch.testing.assert_close(means, expected, rtol=1e-12, atol=1e-12)

    upstream = torch.from_numpy(rng.standard_normal(expected.shape))
    (gradient,) = torch.autograd.grad((means * upstream).sum(), table.weight)
    (expected_gradient,) = torch.autograd.grad(
        (expected * upstream).sum() + 0 * table.weight.sum(), table.weight
    )
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-10)
    assert not gradient[:2].any()


def test_window_means_by_hand() -> None:
    """Rows 2, 1 (unknown), 4, 3 of one user; row 5 of another; and windows that touch."""
    log = EventLog.from_events(
        user_rows=np.array([0, 0, 0, 0, 1]),
        rows=np.array([2, 1, 4, 3, 5], np.int32),
        at_ms=np.arange(5),
        num_users=2,
    )
    table = nn.Embedding(6, 1)
    table.weight.data = torch.tensor([[9.0], [9], [2], [3], [4], [5]])
    lo, hi = np.array([0, 0, 0, 1, 4, 4]), np.array([0, 1, 2, 4, 4, 5])
    means = window_means(table, log, lo, hi, (1, 3), device=CPU)
    assert means.tolist() == [[0, 0], [2, 2], [0, 2], [3, 3.5], [0, 0], [5, 5]]


def test_a_log_without_events_has_means_of_zeros() -> None:
    nowhere = np.zeros(3, np.int64)
    means = window_means(double_table(), EventLog.empty(2), nowhere, nowhere, (1, 5), device=CPU)
    assert means.tolist() == [[0.0] * 2 * EMBEDDING_SIZE] * 3


def test_a_window_at_the_end_of_a_long_call_is_as_exact_as_one_at_its_beginning() -> None:
    """A call over 100,000 events, whose embeddings all point one way."""
    log = random_log(0, num_users=1_000, num_events=100_000)
    user_rows = log.user_rows()
    lo, hi = log.window_before(user_rows, log.at_ms, 50)
    torch.manual_seed(2)
    table = nn.Embedding(NUM_ROWS, EMBEDDING_SIZE, _weight=torch.rand(NUM_ROWS, EMBEDDING_SIZE))
    means = window_means(table, log, lo, hi, (1, 5, 50), device=CPU)
    last = slice(-500, None)
    expected = gathered_means(table.weight.double(), log, lo[last], hi[last], (1, 5, 50))
    assert means.dtype == torch.float32
    torch.testing.assert_close(means[last].double(), expected, rtol=0, atol=1e-5)


def test_no_windows_have_no_means() -> None:
    log, nowhere = random_log(0, num_users=2, num_events=9), np.zeros(0, np.int64)
    means = window_means(double_table(), log, nowhere, nowhere, (1, 5), device=CPU)
    assert means.shape == (0, 2 * EMBEDDING_SIZE)


class CountingTable(nn.Embedding):
    """Notes how many embeddings are read."""

    num_read = 0

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.num_read += rows.numel()
        return super().forward(rows)


def test_each_event_of_a_window_is_read_once_and_no_other() -> None:
    """Sixty windows over the events 50 to 158 of each user, of 200."""
    log = EventLog.from_events(
        user_rows=np.repeat([0, 1], 200),
        rows=np.full(400, 2, np.int32),
        at_ms=np.tile(np.arange(200), 2),
        num_users=2,
    )
    lo, hi = log.window_before(np.repeat([0, 1], 60), np.tile(np.arange(100, 160), 2), 50)
    table = CountingTable(NUM_ROWS, EMBEDDING_SIZE)
    window_means(table, log, lo, hi, (1, 5, 50), device=CPU)
    assert table.num_read == 2 * (159 - 50)
