from dataclasses import replace

import numpy as np
import torch

from upnext.examples.encoder import Encoder
from upnext.examples.impressions import EMBEDDED_ROWS, ImpressionExamples, RankingInputs
from upnext.ranking.mlp import RankingNetworkConfig
from upnext.ranking.model import RankingModel

CONFIG = RankingNetworkConfig(hidden_sizes=(8,), embedding_scale=1.0, context_embedding_size=2)


def new_model(encoder: Encoder) -> RankingModel:
    torch.manual_seed(1)
    return RankingModel(encoder, CONFIG)


def table_of(model: RankingModel, name: str) -> torch.nn.Parameter:
    """The vectors of one id space, [rows, size]."""
    return model.get_parameter(f"tables.{name}.weight")


def with_unknown_items(encoder: Encoder, examples: ImpressionExamples) -> RankingInputs:
    """Some requests in which every third item was never seen in training."""
    item_rows = examples.item_rows.copy()
    item_rows[::3] = 1
    return replace(examples, item_rows=item_rows).inputs(encoder, np.arange(40, 60))[0]


def test_unknown_ids_and_pads_have_the_zero_vector(
    encoder: Encoder, examples: ImpressionExamples
) -> None:
    model, raw = new_model(encoder), with_unknown_items(encoder, examples)
    with torch.no_grad():
        for name in model.tables:
            table_of(model, name)[:2] = 5.0
    inputs = model.inputs(raw)
    for name, (table, rows_name) in EMBEDDED_ROWS.items():
        rows = inputs[rows_name]
        assert (rows == 1).any() or name != "item_vectors"
        assert not inputs[name][rows <= 1].any()
        known = rows > 1
        assert known.any()
        assert inputs[name][known].equal(table_of(model, table)[rows[known].long()])


def test_zero_vectors_are_never_moved(encoder: Encoder, examples: ImpressionExamples) -> None:
    model, raw = new_model(encoder), with_unknown_items(encoder, examples)
    model(raw).square().sum().backward()
    for name in model.tables:
        table = table_of(model, name)
        assert table.grad is not None
        assert not table[:2].any()
        assert not table.grad[:2].any()
        assert table.grad[2:].any()


def test_each_id_space_has_one_table_of_the_size_of_its_log(encoder: Encoder) -> None:
    model, catalogue = new_model(encoder), encoder.catalogue
    spaces = {"item": catalogue.items, "channel": catalogue.channels, "tag": catalogue.tags}
    assert set(model.tables) == set(spaces) == {table for table, _ in EMBEDDED_ROWS.values()}
    for name, vocabulary in spaces.items():
        size = CONFIG.embedding_size(vocabulary.num_rows)
        assert table_of(model, name).shape == (vocabulary.num_rows, size)


def test_raw_arrays_reach_the_network_as_they_are(
    encoder: Encoder, examples: ImpressionExamples
) -> None:
    raw = with_unknown_items(encoder, examples)
    inputs = new_model(encoder).inputs(raw)
    assert set(inputs) == set(raw.arrays()) | set(EMBEDDED_ROWS)
    for name, array in raw.arrays().items():
        np.testing.assert_array_equal(inputs[name], array, strict=True)


def test_one_logit_a_candidate(encoder: Encoder, examples: ImpressionExamples) -> None:
    raw = with_unknown_items(encoder, examples)
    logits = new_model(encoder)(raw)
    assert logits.shape == raw.item_rows.shape
    assert logits.isfinite().all()
