"""What workers do together is what one does alone."""

import itertools

import numpy as np
import pytest
import torch
from tests.training.workers import together

from upnext.training.group import ALONE, Group, add_up_by_row


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("number", [1, 2, 6, 7, 100])
def test_shares_are_the_batch_each_example_once(size: int, number: int) -> None:
    shares = [Group(rank, size).share(number) for rank in range(size)]
    batch = list(range(number))
    dealt = [batch[share.part] for share in shares]
    assert all(dealt)
    counted = [part for part, share in zip(dealt, shares, strict=True) if share.weight]
    assert list(itertools.chain(*counted)) == batch
    assert sum(share.weight for share in shares) == pytest.approx(1)
    mean = sum(share.weight * np.mean(part) for share, part in zip(shares, dealt, strict=True))
    assert mean == pytest.approx(np.mean(batch))


def everything(group: Group) -> dict[str, object]:
    rank, size = group.rank, group.size
    first, second = torch.full((2, 3), float(rank)), torch.tensor(10.0 * rank)
    group.add_up([first, second])
    parts = [torch.full((target + rank, 2), rank * 10 + target) for target in range(size)]
    told = group.exchange(parts)
    rows, values = group.add_up_rows(
        torch.tensor([rank, rank + 1]), torch.tensor([[1.0], [10.0]]) * (rank + 1)
    )
    torch.manual_seed(3)
    with group.own_draws():
        own = torch.rand(1).item()
    group.wait()
    return {
        "sums": (first.tolist(), second.item()),
        "exchanged": [part.tolist() for part in told],
        "rows": (rows.tolist(), values[:, 0].tolist()),
        "gathered": group.gather(np.arange(rank, 2 * rank + 1)).tolist(),
        "first": group.as_first_says(rank == 0, rank == 1),
        "own": own,
        "common": torch.rand(1).item(),
    }


def test_exchanges_bring_what_they_should() -> None:
    told = together(3, everything)
    for rank, answer in enumerate(told):
        assert answer["sums"] == ([[3.0] * 3] * 2, 30.0)
        assert answer["exchanged"] == [[[w * 10 + rank] * 2] * (rank + w) for w in range(3)]
        assert answer["rows"] == ([0, 1, 2, 3], [1.0, 12.0, 23.0, 30.0])
        assert answer["gathered"] == [0, 1, 2, 2, 3, 4]
        assert answer["first"] == (True, False)
    assert len({answer["own"] for answer in told}) == 3
    assert len({answer["common"] for answer in told}) == 1


def test_alone_nothing_changes() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1).item()
    answer = everything(ALONE)
    assert answer["sums"] == ([[0.0] * 3] * 2, 0.0)
    assert answer["exchanged"] == [[]]
    assert answer["rows"] == ([0, 1], [1.0, 10.0])
    assert answer["gathered"] == [0]
    assert answer["own"] == expected


def test_sums_by_row_do_not_hang_on_the_number_of_lists() -> None:
    rng = np.random.default_rng(2)
    rows = [torch.from_numpy(rng.permutation(20)[:8]) for _ in range(5)]
    values = [torch.from_numpy(rng.integers(0, 9, (8, 3)).astype(np.float32)) for _ in rows]
    distinct, sums = add_up_by_row(rows, values)
    dense = torch.zeros(20, 3).index_add_(0, torch.cat(rows), torch.cat(values))
    assert distinct.tolist() == sorted(set(torch.cat(rows).tolist()))
    assert torch.equal(sums, dense[distinct])
