from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from upnext.errors import ConfigError
from upnext.examples.history import EventLog, Indices
from upnext.retrieval.model import (
    RetrievalModel,
    RetrievalNetworkConfig,
    Tower,
    window_means,
)

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
    num_events=st.integers(0, 30),
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
    means = window_means(table, log, lo, hi, lengths, skipped=skipped if most_skipped else None)
    expected = gathered_means(table.weight, log, lo, np.maximum(lo, hi - skipped), lengths)
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
    means = window_means(table, log, lo, hi, (1, 3))
    assert means.tolist() == [[0, 0], [2, 2], [0, 2], [3, 3.5], [0, 0], [5, 5]]


def test_a_window_at_the_end_of_a_long_call_is_as_exact_as_one_at_its_beginning() -> None:
    """A call over 100,000 events, whose embeddings all point one way."""
    log = random_log(0, num_users=1_000, num_events=100_000)
    user_rows = log.user_rows()
    lo, hi = log.window_before(user_rows, log.at_ms, 50)
    torch.manual_seed(2)
    table = nn.Embedding(NUM_ROWS, EMBEDDING_SIZE, _weight=torch.rand(NUM_ROWS, EMBEDDING_SIZE))
    means = window_means(table, log, lo, hi, (1, 5, 50))
    last = slice(-500, None)
    expected = gathered_means(table.weight.double(), log, lo[last], hi[last], (1, 5, 50))
    assert means.dtype == torch.float32
    torch.testing.assert_close(means[last].double(), expected, rtol=0, atol=1e-5)


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
    window_means(table, log, lo, hi, (1, 5, 50))
    assert table.num_read == 2 * (159 - 50)


def new_tower(config: RetrievalNetworkConfig, *, longest_age_days: float = 10.0) -> Tower:
    torch.manual_seed(3)
    return Tower(
        config,
        context_sizes=(4, 2),
        num_watch_windows=2,
        num_context_values=3,
        longest_age_days=longest_age_days,
    )


def tower_inputs(config: RetrievalNetworkConfig) -> list[torch.Tensor]:
    """Two moments; example age is the last input."""
    generator = torch.Generator().manual_seed(4)
    return [
        torch.randn(2, 2 * config.embedding_size, generator=generator),
        torch.randn(2, config.search_embedding_size, generator=generator),
        torch.tensor([[3, 0], [1, 1]]),
        torch.rand(2, 3, generator=generator),
        torch.tensor([0.0, 2.5]),
    ]


SMALL = RetrievalNetworkConfig(
    vector_size=4,
    embedding_size=4,
    search_embedding_size=2,
    context_embedding_size=2,
    hidden_sizes=(5,),
    linear_path=False,
)
LINEAR = replace(SMALL, hidden_sizes=())


def test_without_hidden_layers_the_tower_is_one_matrix_on_its_inputs_in_order() -> None:
    tower, inputs = new_tower(LINEAR), tower_inputs(LINEAR)
    (layer,) = tower.layers
    assert isinstance(layer, nn.Linear)
    watches, searches, context_rows, values, age_days = inputs
    share = age_days[:, None] / 10.0
    contexts = [table(context_rows[:, place]) for place, table in enumerate(tower.contexts)]
    together = torch.cat([watches, searches, *contexts, values, share, share.sqrt()], dim=1)
    expected = together @ layer.weight.T + layer.bias
    torch.testing.assert_close(tower(*inputs), expected)


def test_example_age_matters_only_where_it_is_an_input() -> None:
    for config, matters in ((SMALL, True), (replace(SMALL, example_age=False), False)):
        tower, inputs = new_tower(config), tower_inputs(config)
        before = tower(*inputs)
        inputs[-1] = torch.tensor([7.0, 2.5])
        after = tower(*inputs)
        assert torch.equal(before[0], after[0]) is not matters
        assert torch.equal(before[1], after[1])


def test_an_age_below_zero_counts_as_zero() -> None:
    tower, inputs = new_tower(SMALL), tower_inputs(SMALL)
    at_zero = tower(*inputs)
    inputs[-1] = torch.tensor([-0.5, 2.5])
    assert torch.equal(tower(*inputs), at_zero)


def test_logs_of_one_moment_have_no_age_and_break_nothing() -> None:
    tower, inputs = new_tower(SMALL, longest_age_days=0.0), tower_inputs(SMALL)
    inputs[-1] = torch.zeros(2)
    assert tower(*inputs).isfinite().all()


def test_the_activation_of_the_user_vector_leaves_nothing_negative() -> None:
    inputs = tower_inputs(SMALL)
    assert (new_tower(SMALL)(*inputs) < 0).any()
    activated = replace(SMALL, user_vector_activation=True)
    assert (new_tower(activated)(*inputs) >= 0).all()


def test_the_linear_path_is_added_to_the_tower() -> None:
    with_path = replace(SMALL, linear_path=True)
    tower, inputs = new_tower(with_path), tower_inputs(with_path)
    plain = new_tower(SMALL)
    plain.load_state_dict(tower.state_dict(), strict=False)
    assert tower.linear_path is not None
    expected = plain(*inputs) + inputs[0] @ tower.linear_path.weight.T
    torch.testing.assert_close(tower(*inputs), expected)


def new_model(config: RetrievalNetworkConfig) -> RetrievalModel:
    return RetrievalModel(
        config,
        num_items=NUM_ROWS,
        num_search_tokens=5,
        context_sizes=(4, 2),
        num_watch_windows=2,
        num_context_values=3,
        longest_age_days=10.0,
    )


def test_item_vectors_are_a_table_of_their_own_unless_tied() -> None:
    model = new_model(SMALL)
    assert model.item_vectors.weight.data_ptr() != model.watch_embeddings.weight.data_ptr()
    tied = new_model(replace(SMALL, tied=True, linear_path=True))
    assert tied.item_vectors is tied.watch_embeddings
    means = torch.randn(3, 8)
    assert tied.tower.linear_path is not None
    torch.testing.assert_close(tied.tower.linear_path(means), means[:, :4] + means[:, 4:])


def test_reserved_rows_begin_as_zeros() -> None:
    model = new_model(SMALL)
    for table in (model.watch_embeddings, model.search_embeddings, model.item_vectors):
        assert not table.weight[:2].any()
        assert table.weight[2:].all()


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="dropout: expected 0 or more, below 1, got 1"):
        RetrievalNetworkConfig(dropout=1.0)
    with pytest.raises(ConfigError, match="tied: expected embedding_size and vector_size alike"):
        RetrievalNetworkConfig(tied=True, embedding_size=8, vector_size=4)
