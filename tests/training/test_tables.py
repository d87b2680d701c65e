import numpy as np
import torch

from upnext.training.tables import EmbeddingTable, RowAdam, Table

NUM_ROWS, SIZE = 9, 4


def table(*, is_sparse: bool) -> EmbeddingTable:
    torch.manual_seed(1)
    return EmbeddingTable(NUM_ROWS, SIZE, is_sparse=is_sparse)


def loss_of(read: Table, rows: list[int], seed: int = 0) -> torch.Tensor:
    """Some smooth function of the rows' vectors."""
    weights = torch.randn(len(rows), SIZE, generator=torch.Generator().manual_seed(seed))
    vectors: torch.Tensor = read(torch.tensor(rows))
    return (vectors.tanh() * weights).sum()


def test_reserved_rows_begin_as_zeros_and_no_other() -> None:
    weight = table(is_sparse=False).weight
    assert not weight[:2].any()
    assert weight[2:].all()


def test_a_sparse_table_reads_what_a_dense_one_reads() -> None:
    dense, sparse = table(is_sparse=False), table(is_sparse=True)
    rows = torch.tensor([3, 3, 8])
    assert torch.equal(dense(rows), sparse(rows))
    with torch.no_grad():
        assert torch.equal(dense(rows), sparse(rows))


def test_the_gradient_of_rows_read_in_several_places_is_the_dense_one() -> None:
    dense, sparse = table(is_sparse=False), table(is_sparse=True)
    for one in (dense, sparse):
        (loss_of(one, [3, 5, 3]) + loss_of(one, [8, 5], seed=1)).backward()  # type: ignore[no-untyped-call]
    rows, gradient = sparse.take_gradient()
    assert rows.tolist() == [3, 5, 8]
    assert dense.weight.grad is not None
    torch.testing.assert_close(gradient, dense.weight.grad[rows])
    assert sparse.take_gradient()[0].tolist() == []


def test_only_rows_that_were_read_move() -> None:
    sparse = table(is_sparse=True)
    before = sparse.weight.clone()
    optimizer = RowAdam(sparse, weight_decay=0.1)
    loss_of(sparse, [3, 5]).backward()  # type: ignore[no-untyped-call]
    optimizer.step(0.01)
    moved = (sparse.weight != before).any(dim=1)
    assert moved.nonzero()[:, 0].tolist() == [3, 5]
    optimizer.step(0.01)
    assert not optimizer.table.take_gradient()[0].tolist()


def test_with_one_number_a_row_adam_is_adam() -> None:
    """Where a row's mean square is its only square, and every row is read at every step."""
    torch.manual_seed(2)
    sparse = EmbeddingTable(5, 1, is_sparse=True)
    dense = torch.nn.Parameter(sparse.weight.detach().clone())
    adam = torch.optim.AdamW([dense], lr=0.05, weight_decay=0.3)
    optimizer = RowAdam(sparse, weight_decay=0.3)
    for _ in range(6):
        adam.zero_grad()
        (dense[2:].sin() * 2).sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
        (sparse(torch.tensor([2, 3, 4])).sin() * 2).sum().backward()
        optimizer.step(0.05)
    torch.testing.assert_close(sparse.weight[2:], dense[2:].detach(), rtol=1e-5, atol=1e-6)


def test_a_resumed_optimizer_goes_on_bit_for_bit() -> None:
    def steps(optimizer: RowAdam, seeds: range) -> None:
        for seed in seeds:
            loss_of(optimizer.table, [2 + seed % 3, 6], seed).backward()  # type: ignore[no-untyped-call]
            optimizer.step(0.02)

    whole = RowAdam(table(is_sparse=True), weight_decay=0.0)
    steps(whole, range(8))
    first = RowAdam(table(is_sparse=True), weight_decay=0.0)
    steps(first, range(5))
    second = RowAdam(table(is_sparse=True), weight_decay=0.0)
    second.table.load_state_dict(first.table.state_dict())
    second.load_state({name: value.clone() for name, value in first.state().items()})
    steps(second, range(5, 8))
    assert torch.equal(second.table.weight, whole.table.weight)


def test_rows_go_to_where_the_gradient_is_zero() -> None:
    torch.manual_seed(3)
    goal = torch.randn(NUM_ROWS, SIZE)
    sparse = table(is_sparse=True)
    optimizer = RowAdam(sparse, weight_decay=0.0)
    draws, rate = np.random.default_rng(4), 0.05
    for _ in range(1_500):
        rows = torch.from_numpy(draws.integers(2, NUM_ROWS, 3))
        (sparse(rows) - goal[rows]).square().sum().backward()
        optimizer.step(rate)
        rate *= 0.998
    torch.testing.assert_close(sparse.weight[2:], goal[2:], rtol=0, atol=0.02)
