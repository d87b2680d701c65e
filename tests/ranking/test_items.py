from dataclasses import replace

import numpy as np
import pytest
import torch

import upnext.ranking.items
from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder
from upnext.examples.item_features import side_vectors
from upnext.ranking.config import RankingNetworkConfig
from upnext.ranking.items import ItemVectors
from upnext.schema import Logs
from upnext.training.side_features import side_arrays
from upnext.training.tables import EmbeddingTable, RowAdam

CONFIG = RankingNetworkConfig(embedding_scale=1.0)
SPACES = ("item", "channel", "tag")


@pytest.fixture(scope="module")
def holey(encoder: Encoder) -> Encoder:
    """Some items without a channel or of an unknown one; some with fewer tags, or unknown ones."""
    catalogue = encoder.catalogue
    channel_rows, tag_rows = catalogue.channel_rows.copy(), catalogue.tag_rows.copy()
    channel_rows[2::5], channel_rows[3::5] = 0, 1
    tag_rows[2::4] = 0
    tag_rows[3::4, 0] = 1
    tag_rows[4::4, 1:] = 0
    return replace(
        encoder, catalogue=replace(catalogue, channel_rows=channel_rows, tag_rows=tag_rows)
    )


def new_vectors(encoder: Encoder, *, is_sparse: bool = False) -> ItemVectors:
    torch.manual_seed(1)
    return ItemVectors(encoder, CONFIG, is_sparse=is_sparse)


def table_of(vectors: ItemVectors, name: str) -> torch.nn.Parameter:
    """The vectors of one id space, [rows, size]."""
    return vectors.get_parameter(f"tables.{name}.weight")


def all_rows(encoder: Encoder) -> torch.Tensor:
    return torch.arange(encoder.catalogue.num_rows)


def test_a_vector_is_its_own_its_channels_the_mean_of_its_tags_and_its_features(
    holey: Encoder,
) -> None:
    vectors, catalogue = new_vectors(holey), holey.catalogue
    assert vectors.side is not None
    of_side = side_vectors(
        holey.item_features, side_arrays(vectors.side), np.arange(catalogue.num_rows)
    )
    own, channels, tags = (table_of(vectors, name).detach() for name in SPACES)
    found = vectors(all_rows(holey)).detach()
    for row in range(2, catalogue.num_rows):
        channel, known = int(catalogue.channel_rows[row]), catalogue.tag_rows[row]
        known = known[known > 1]
        parts = [
            own[row],
            channels[channel] if channel > 1 else torch.zeros(channels.shape[1]),
            tags[known].mean(dim=0) if len(known) else torch.zeros(tags.shape[1]),
            torch.from_numpy(of_side[row]),
        ]
        torch.testing.assert_close(found[row], torch.cat(parts), rtol=1e-5, atol=1e-6)


def test_vectors_of_all_are_those_of_each(holey: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = new_vectors(holey)
    monkeypatch.setattr(upnext.ranking.items, "ITEMS_AT_ONCE", 7)
    every = vectors.every_vector()
    assert every.shape == (holey.catalogue.num_rows, vectors.size)
    assert every.dtype == np.float32
    np.testing.assert_allclose(every, vectors(all_rows(holey)).detach(), atol=1e-7)
    some = torch.tensor([5, 2, 2, 0, 40])
    np.testing.assert_allclose(every[some.numpy()], vectors(some).detach(), atol=1e-7)


def test_reserved_rows_have_the_zero_vector_whatever_the_tables_hold(holey: Encoder) -> None:
    vectors = new_vectors(holey)
    with torch.no_grad():
        for name in SPACES:
            table_of(vectors, name)[:2] = 5.0
    assert not vectors(torch.tensor([0, 1])).any()
    assert not vectors.every_vector()[:2].any()
    assert vectors.every_vector().max() < 5.0


def test_no_gradient_reaches_a_reserved_row(holey: Encoder) -> None:
    vectors = new_vectors(holey)
    vectors(all_rows(holey)).square().sum().backward()
    for name in SPACES:
        gradient = table_of(vectors, name).grad
        assert gradient is not None
        assert not gradient[:2].any()
        assert gradient[2:].any()


def test_each_id_space_has_one_table_of_the_size_of_its_log(encoder: Encoder) -> None:
    vectors, catalogue = new_vectors(encoder), encoder.catalogue
    spaces = {"item": catalogue.items, "channel": catalogue.channels, "tag": catalogue.tags}
    for name, vocabulary in spaces.items():
        size = CONFIG.embedding_size(vocabulary.num_rows)
        assert table_of(vectors, name).shape == (vocabulary.num_rows, size)
    sizes = [table_of(vectors, name).shape[1] for name in SPACES]
    assert vectors.size == sum(sizes) + CONFIG.embedding_size(encoder.item_features.num_values)


def test_without_declared_features_there_is_no_part_of_them(tiny_logs: Logs) -> None:
    plain = build_encoder(tiny_logs, ExamplesConfig())
    vectors = new_vectors(plain)
    assert vectors.side is None
    assert vectors.size == sum(table_of(vectors, name).shape[1] for name in SPACES)
    assert vectors(all_rows(plain)).shape == (plain.catalogue.num_rows, vectors.size)


def test_a_row_sparse_table_gives_the_same_vectors_and_gradients(holey: Encoder) -> None:
    dense, sparse = new_vectors(holey), new_vectors(holey, is_sparse=True)
    rows = torch.tensor([2, 9, 4, 9, 0, 33])
    assert sparse(rows).equal(dense(rows))
    with torch.no_grad():
        assert sparse(rows).equal(dense(rows))
    for vectors in (dense, sparse):
        vectors.zero_grad()
    table = sparse.tables["item"]
    assert isinstance(table, EmbeddingTable)
    table.take_gradient()
    for vectors in (dense, sparse):
        (vectors(rows) * torch.arange(6.0)[:, None]).sum().backward()
    of_item = table_of(dense, "item").grad
    assert of_item is not None
    touched, gradient = table.take_gradient()
    assert gradient.equal(of_item[touched])
    assert set(touched.tolist()) >= set(of_item.any(dim=1).nonzero().flatten().tolist())
    for name in ("channel", "tag"):
        torch.testing.assert_close(table_of(sparse, name).grad, table_of(dense, name).grad)


def test_the_update_by_row_leaves_all_other_items_and_the_reserved_ones(holey: Encoder) -> None:
    vectors = new_vectors(holey, is_sparse=True)
    before = table_of(vectors, "item").clone()
    table = vectors.tables["item"]
    assert isinstance(table, EmbeddingTable)
    optimizer = RowAdam(table, weight_decay=0.0)
    vectors(torch.tensor([0, 1, 7, 12])).square().sum().backward()
    optimizer.step(0.01)
    moved = (table_of(vectors, "item") != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [7, 12]
