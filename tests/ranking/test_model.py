import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import upnext.ranking.model
from upnext.examples.encoder import Encoder
from upnext.examples.impressions import ImpressionExamples
from upnext.examples.ranking_inputs import RankingInputs
from upnext.features.features import CANDIDATE_LEVELS, QUERY_LEVELS
from upnext.ranking.config import NetworkKind, RankingConfig, RankingNetworkConfig
from upnext.ranking.model import RankingModel

CONFIG = RankingNetworkConfig(hidden_sizes=(8,), embedding_scale=1.0, context_embedding_size=2)


def new_model(encoder: Encoder, *, kind: NetworkKind = "mlp", num_sources: int = 0) -> RankingModel:
    torch.manual_seed(1)
    config = RankingConfig(network=replace(CONFIG, kind=kind))
    return RankingModel(encoder, config, num_sources=num_sources, num_outputs=1).eval()


def some_requests(encoder: Encoder, examples: ImpressionExamples) -> RankingInputs:
    """Some in which every third candidate was never seen in training."""
    item_rows = examples.item_rows.copy()
    item_rows[::3] = 1
    raw = replace(examples, item_rows=item_rows).inputs(encoder, np.arange(400, 420))[0]
    assert (raw.item_rows == 1).any()
    assert (raw.history_rows > 1).any()
    assert (raw.shown_rows > 1).any()
    return raw


def pooled(vectors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The sum over the known, by the root of their number."""
    known = rows[rows > 1].long()
    return vectors[known].sum(dim=0) / math.sqrt(max(len(known), 1))


def test_one_vector_stands_for_an_item_wherever_it_occurs(
    encoder: Encoder, examples: ImpressionExamples
) -> None:
    """As a candidate, in what was watched, and in what was shown; of unknown ones none does."""
    model, raw = new_model(encoder, kind="din"), some_requests(encoder, examples)
    vectors = torch.from_numpy(model.items.every_vector())
    inputs = model.inputs(raw)
    torch.testing.assert_close(inputs["item_vectors"].detach(), vectors[raw.item_rows])
    torch.testing.assert_close(inputs["history_vectors"].detach(), vectors[raw.history_rows])
    assert not inputs["item_vectors"][raw.item_rows == 1].any()
    for name, rows in (("history_pooled", "history_rows"), ("shown_pooled", "shown_rows")):
        expected = torch.stack([pooled(vectors, torch.from_numpy(line)) for line in raw[rows]])
        torch.testing.assert_close(inputs[name].detach(), expected, rtol=1e-5, atol=1e-6)


def test_the_past_is_pooled_alike_with_and_without_a_gradient(
    encoder: Encoder, examples: ImpressionExamples
) -> None:
    model, raw = new_model(encoder), some_requests(encoder, examples)
    learning = model.vectors(raw)
    with torch.inference_mode():
        for name, vectors in model.vectors(raw).items():
            torch.testing.assert_close(learning[name].detach(), vectors, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["mlp", "din"])
def test_chosen_rows_give_the_vectors_that_all_rows_give(
    monkeypatch: pytest.MonkeyPatch,
    encoder: Encoder,
    examples: ImpressionExamples,
    kind: NetworkKind,
) -> None:
    """And the same gradient: above so many items a step makes the vectors of those it reads."""
    model, raw = new_model(encoder, kind=kind), some_requests(encoder, examples)
    table = model.items.get_parameter("tables.item.weight")
    found = []
    for limit in (20_000, 0):
        monkeypatch.setattr(upnext.ranking.model, "ROWS_WITHOUT_CHOICE", limit)
        vectors = model.vectors(raw)
        total = torch.stack([value.square().sum() for value in vectors.values()]).sum()
        found.append((vectors, torch.autograd.grad(total, table)[0]))
    (of_all, gradient), (of_few, gradient_of_few) = found
    for name, value in of_all.items():
        torch.testing.assert_close(of_few[name], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient_of_few, gradient, rtol=1e-5, atol=1e-5)
    assert not gradient[:2].any()


@pytest.mark.parametrize("limit", [20_000, 0])
def test_no_row_is_read_that_does_not_occur(
    monkeypatch: pytest.MonkeyPatch, encoder: Encoder, examples: ImpressionExamples, limit: int
) -> None:
    monkeypatch.setattr(upnext.ranking.model, "ROWS_WITHOUT_CHOICE", limit)
    model, raw = new_model(encoder), some_requests(encoder, examples)
    occurring = {0, 1, *raw.item_rows.tolist(), *raw.history_rows.ravel().tolist()}
    occurring |= set(raw.shown_rows.ravel().tolist())
    read: list[int] = []
    model.items.register_forward_pre_hook(lambda _, arguments: read.extend(arguments[0].tolist()))
    model.vectors(raw)
    assert sorted(read) == (sorted(occurring) if limit == 0 else list(range(max(read) + 1)))
    assert len(occurring) < encoder.catalogue.num_rows


def test_raw_arrays_reach_the_network_as_they_are(
    encoder: Encoder, examples: ImpressionExamples
) -> None:
    raw = some_requests(encoder, examples)
    inputs = new_model(encoder).inputs(raw)
    made = {QUERY_LEVELS, CANDIDATE_LEVELS, "item_vectors", "history_pooled", "shown_pooled"}
    assert set(inputs) == {"context_rows", "request_index", "duration_s"} | made
    for name in set(inputs) - made:
        np.testing.assert_array_equal(inputs[name], raw[name], strict=True)


@pytest.mark.parametrize("num_sources", [0, 3])
def test_every_candidate_has_its_seconds(
    encoder: Encoder, examples: ImpressionExamples, num_sources: int
) -> None:
    scores = np.random.default_rng(3).random((len(examples.item_rows), num_sources))
    scored = replace(examples, source_scores=scores.astype(np.float32))
    raw = some_requests(encoder, scored)
    seconds = new_model(encoder, num_sources=num_sources)(raw)
    assert seconds.shape == raw.item_rows.shape
    assert seconds.isfinite().all()
    assert (seconds > 0).all()


def test_what_is_forward_is_calibrated(encoder: Encoder, examples: ImpressionExamples) -> None:
    model, raw = new_model(encoder), some_requests(encoder, examples)
    uncalibrated = model.scoring.uncalibrated(model.inputs(raw))
    torch.testing.assert_close(model(raw), uncalibrated)
    model.scoring.calibration.fit("scale", np.ones(3, np.float32), np.full(3, 4, np.float32))
    torch.testing.assert_close(model(raw), 4 * uncalibrated)
