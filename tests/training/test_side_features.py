"""What features say of an item is learned as serving will add it up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from upnext.examples.encoder import ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.item_features import ItemFeatures, side_vectors
from upnext.logs.read import read_logs
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.world import SimulationConfig
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import RetrievalNetworkConfig
from upnext.retrieval.train import train_retrieval
from upnext.schema import NUM_RESERVED_ROWS, Logs, Watches
from upnext.training.side_features import SideFeatures, side_arrays

EVERYTHING = ("channel_id", "tags", "duration_s")
DECLARED = [EVERYTHING, ("channel_id",), ("tags",), ("duration_s",), ("tags", "channel_id")]


def features_of(logs: Logs, names: tuple[str, ...] = EVERYTHING) -> ItemFeatures:
    return build_encoder(logs, ExamplesConfig(item_features=names)).item_features


def learned(features: ItemFeatures, *, is_sparse: bool = False) -> SideFeatures:
    """With vectors of random length for everything that is learned."""
    torch.manual_seed(3)
    side = SideFeatures(features, 8, is_sparse=is_sparse)
    torch.nn.init.normal_(side.level_vectors)
    return side


@pytest.mark.parametrize("names", DECLARED)
@pytest.mark.parametrize("is_sparse", [False, True])
def test_serving_adds_up_what_training_did(
    tiny_logs: Logs, names: tuple[str, ...], is_sparse: bool
) -> None:
    features = features_of(tiny_logs, names)
    side = learned(features, is_sparse=is_sparse)
    rows = np.random.default_rng(0).permutation(len(features.value_rows))
    trained = side(torch.from_numpy(rows)).detach().numpy()
    served = side_vectors(features, side_arrays(side), rows)
    assert np.linalg.norm(trained, axis=1).max() > 0.5
    np.testing.assert_allclose(served, trained, atol=1e-6)


@pytest.mark.parametrize("names", DECLARED)
def test_a_step_moves_the_values_of_its_items_and_no_others(
    tiny_logs: Logs, names: tuple[str, ...]
) -> None:
    features = features_of(tiny_logs, names)
    side = learned(features)
    before = side_arrays(side)["values"].copy()
    rows = torch.tensor([0, 1, 5, 9, 5])
    side(rows).square().sum().backward()
    torch.optim.AdamW(side.parameters(), lr=0.1, weight_decay=0.0, fused=True).step()
    moved = np.flatnonzero((side_arrays(side)["values"] != before).any(axis=1))
    assert moved.tolist() == [row for row in np.unique(features.value_rows[rows]) if row > 1]
    assert (side(torch.tensor([0, 1])) == 0).all()


def test_row_by_row_the_gradient_is_the_same(tiny_logs: Logs) -> None:
    features = features_of(tiny_logs)
    dense, sparse = learned(features), learned(features, is_sparse=True)
    rows = torch.tensor([4, 7, 4, 90, 1])
    direction = torch.randn(5, 8)
    for side in (dense, sparse):
        (side(rows) * direction).sum().backward()
    of_table = dense.value_table.weight.grad
    assert of_table is not None
    touched, gradient = sparse.value_table.take_gradient()
    torch.testing.assert_close(gradient, of_table[touched])
    untouched = np.setdiff1d(np.arange(features.num_values), touched.numpy())
    assert (of_table[untouched] == 0).all()
    torch.testing.assert_close(sparse.level_vectors.grad, dense.level_vectors.grad)


def test_what_is_known_of_items_is_no_part_of_the_state(tiny_logs: Logs) -> None:
    side = learned(features_of(tiny_logs))
    assert set(side.state_dict()) == {"value_table.weight", "level_vectors"}


def test_at_the_start_features_weigh_as_much_as_an_items_own_vector(tiny_logs: Logs) -> None:
    torch.manual_seed(0)
    side = SideFeatures(features_of(tiny_logs, ("channel_id", "tags")), 64)
    lengths = side(torch.arange(2, 102)).norm(dim=1)
    assert 0.6 < lengths.mean().item() < 1.1


def test_items_that_training_never_saw_find_those_who_will_watch_them(tmp_path: Path) -> None:
    """A fifth of the items is kept from training; features alone must put them in their place."""
    simulate(SimulationConfig(num_users=300, num_items=400, num_days=8, num_channels=25), tmp_path)
    logs = read_logs(tmp_path)[0]
    is_new = pl.col("item_id").is_in(logs.items.frame["item_id"][::5].implode())
    watches = logs.watches.frame
    train = replace(logs, watches=Watches(watches.filter(~is_new)), impressions=None)
    encoder = build_encoder(train, ExamplesConfig(item_features=("channel_id", "tags")))
    users = user_vocabulary(logs)
    history = encoder.history(train, users)
    network = RetrievalNetworkConfig(
        vector_size=32, embedding_size=32, hidden_sizes=(64,), item_dropout=0.3
    )
    config = RetrievalConfig(network=network, batch_size=256, num_epochs=4, learning_rate=0.01)
    trained = train_retrieval(encoder, history, None, config)
    assert trained.model.side is not None

    lines = encoder.catalogue.new_items(logs.items).filter(is_new)
    grown = encoder.with_items(lines, first_seen_ms=0)
    new_rows = np.arange(encoder.catalogue.num_rows, grown.catalogue.num_rows)
    vectors = side_vectors(grown.item_features, side_arrays(trained.model.side), new_rows)
    later = watches.filter(is_new).tail(1_000)
    queries = trained.query_encoder.queries(
        history, users.rows(later["user_id"]).astype(np.int64), later["started_at_ms"].to_numpy()
    )
    known_vectors = trained.item_vectors()[NUM_RESERVED_ROWS:]
    scores = trained.user_vectors(history, queries) @ np.concatenate([known_vectors, vectors]).T
    targets = grown.catalogue.items.rows(later["item_id"]) - NUM_RESERVED_ROWS
    score = scores[np.arange(len(targets)), targets][:, None]
    among_new = (scores[:, len(known_vectors) :] < score).mean()
    among_all = (scores < score).mean()
    recall_at_50 = ((scores > score).sum(axis=1) < 50).mean()
    assert among_new > 0.65
    assert among_all > 0.65
    assert recall_at_50 > 2 * 50 / scores.shape[1]
