"""A table that is dealt out over workers reads, learns and is kept as a whole one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.training.workers import together

from upnext.training.checkpoint import CheckpointFolder
from upnext.training.group import ALONE, Group
from upnext.training.sharded import ShardedTable, own_rows
from upnext.training.tables import RowAdam, new_table

NUM_ROWS, SIZE = 11, 4

Array = NDArray[Any]


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 5))
def test_rows_dealt_anew_are_those_dealt_at_once(num_rows: int, before: int, after: int) -> None:
    table = np.arange(num_rows * 2).reshape(num_rows, 2)
    shards = [table[rank::before] for rank in range(before)]
    for rank in range(after):
        np.testing.assert_array_equal(own_rows(shards, Group(rank, after)), table[rank::after])


Learned = tuple[list[int], Array, Array, Array]


def learned(group: Group) -> Learned:
    """A few steps on rows that workers share and do not; the shard before and after."""
    torch.manual_seed(1)
    table = new_table(NUM_ROWS, SIZE, is_sparse=True, group=group)
    before = table.weight.detach().clone().numpy()
    adam = RowAdam(table, weight_decay=0.1)
    rows = torch.tensor([[3, 5, 3, 10], [8, 5, 2, 7], [3, 3, 3, 4]])
    for step in range(6):
        batch = rows[[step % 3, (step + 1) % 3]]
        share = group.share(len(batch))
        vectors = table(batch[share.part].flatten())
        (vectors.tanh().mean() * share.weight).backward()
        adam.step(0.1)
    with torch.no_grad():
        read = table(torch.tensor([9, 0, 3, 3])).numpy()
    return list(table.weight.shape), before, torch.cat([table.weight, adam.first], 1).numpy(), read


@pytest.mark.parametrize("num_workers", [2, 3])
@pytest.mark.parametrize("shard_above_rows", [None, NUM_ROWS - 1])
def test_workers_learn_what_one_learns(num_workers: int, shard_above_rows: int | None) -> None:
    shape, before, after, read = learned(ALONE)
    assert shape == [NUM_ROWS, SIZE]
    told = together(num_workers, learned, shard_above_rows=shard_above_rows)
    for rank, (their_shape, their_before, their_after, their_read) in enumerate(told):
        own = slice(None) if shard_above_rows is None else slice(rank, None, num_workers)
        assert their_shape == list(after[own, :SIZE].shape)
        np.testing.assert_array_equal(their_before, before[own])
        np.testing.assert_allclose(their_after, after[own], atol=1e-6)
        np.testing.assert_allclose(their_read, read, atol=1e-6)


def test_only_tables_of_many_rows_are_sharded() -> None:
    kinds = {
        (rows, sparse): type(new_table(rows, 2, is_sparse=sparse, group=Group(0, 2, 10))).__name__
        for rows in (10, 11)
        for sparse in (False, True)
    }
    whole, sharded = "EmbeddingTable", ShardedTable.__name__
    assert kinds == {
        (10, False): whole,
        (10, True): whole,
        (11, False): whole,
        (11, True): sharded,
    }


def save(group: Group, directory: Path) -> None:
    table = np.arange(NUM_ROWS * 2).reshape(NUM_ROWS, 2)
    folder = CheckpointFolder(directory=directory, identity={"data": "d"}, group=group)
    for step in (1, 2, 3):
        shard = {"model/table.weight": step + table[group.rank :: group.size]}
        folder.save(step, {"step": step}, {"model/bias": np.array([step])}, shard=shard)


@pytest.mark.parametrize("num_readers", [1, 2, 3])
def test_checkpoints_of_shards_are_read_by_however_many(num_readers: int, tmp_path: Path) -> None:
    together(2, lambda group: save(group, tmp_path))
    table = 3 + np.arange(NUM_ROWS * 2).reshape(NUM_ROWS, 2)
    for rank in range(num_readers):
        group = Group(rank, num_readers)
        folder = CheckpointFolder(directory=tmp_path, identity={"data": "d"}, group=group)
        found = folder.newest(say=pytest.fail, is_sharded=lambda name: "table" in name)
        assert found is not None
        assert found.position == {"step": 3}
        assert found.arrays["model/bias"].tolist() == [3]
        np.testing.assert_array_equal(found.arrays["model/table.weight"], table[rank::num_readers])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"checkpoint-{step:012d}.npz" for step in (2, 3)),
        *(f"shard-{step:012d}-{rank}-of-2.npz" for step in (2, 3) for rank in (0, 1)),
    ]


def test_a_checkpoint_without_one_of_its_shards_is_damaged(tmp_path: Path) -> None:
    together(2, lambda group: save(group, tmp_path))
    next(tmp_path.glob("shard-*3-1-of-2.npz")).unlink()
    said = list[str]()
    found = CheckpointFolder(directory=tmp_path, identity={"data": "d"}).newest(say=said.append)
    assert found is not None
    assert found.position == {"step": 2}
    assert "damaged" in said[0]
