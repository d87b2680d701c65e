from dataclasses import replace

import numpy as np
import pytest
import torch

import upnext.ranking.levels
from upnext.examples.encoder import Encoder
from upnext.examples.impressions import ImpressionExamples
from upnext.ranking.config import NetworkKind, RankingConfig, RankingNetworkConfig
from upnext.ranking.levels import Levels, fit_features
from upnext.ranking.model import RankingModel

KINDS: list[NetworkKind] = ["mlp", "wide-and-deep", "din"]


@pytest.fixture(scope="module")
def scored(examples: ImpressionExamples) -> ImpressionExamples:
    """The examples with scores of two sources."""
    scores = np.random.default_rng(1).exponential(size=(len(examples.item_rows), 2))
    return replace(examples, source_scores=scores.astype(np.float32))


def fitted_model(
    encoder: Encoder, examples: ImpressionExamples, kind: NetworkKind = "mlp"
) -> RankingModel:
    torch.manual_seed(1)
    network = RankingNetworkConfig(kind=kind, hidden_sizes=(8,), embedding_scale=1.0)
    config = RankingConfig(network=network)
    model = RankingModel(encoder, config, num_sources=2, num_outputs=1).eval()
    fit_features(model, encoder, examples, np.random.default_rng(2))
    return model


def test_kept_levels_are_those_computed_again_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, encoder: Encoder, scored: ImpressionExamples
) -> None:
    model = fitted_model(encoder, scored)
    kept = Levels(model, encoder, scored)
    monkeypatch.setattr(upnext.ranking.levels, "MOST_KEPT_BYTES", 0)
    computed = Levels(model, encoder, scored)
    requests = np.random.default_rng(3).permutation(scored.num_requests)[:150]
    for batch in (requests[:1], requests[:7], requests):
        raw, impressions = scored.inputs(encoder, batch)
        one, other = (levels.of(raw, batch, impressions) for levels in (kept, computed))
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].numpy().tobytes() == other[name].numpy().tobytes(), name
            assert one[name].numpy().std() > 0.1


def test_levels_kept_in_short_are_those_in_full_rounded(
    encoder: Encoder, scored: ImpressionExamples
) -> None:
    """Powers too: squares and roots are of the full numbers, not of the rounded ones."""
    model, requests = fitted_model(encoder, scored), np.arange(90, 130)
    raw, impressions = scored.inputs(encoder, requests)
    full, short = (
        Levels(model, encoder, scored, dtype=dtype).of(raw, requests, impressions)
        for dtype in (torch.float32, torch.bfloat16)
    )
    for name, values in full.items():
        assert short[name].dtype == torch.bfloat16
        assert short[name].equal(values.to(torch.bfloat16))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_makes_the_outputs_that_raw_inputs_make(
    encoder: Encoder, scored: ImpressionExamples, kind: NetworkKind
) -> None:
    """The same bits, be the features kept from before or worked out now."""
    model = fitted_model(encoder, scored, kind)
    levels = Levels(model, encoder, scored)
    requests = np.arange(30, 60)
    raw, impressions = scored.inputs(encoder, requests)
    with torch.inference_mode():
        kept = model.inputs(raw, levels.of(raw, requests, impressions))
        from_kept, from_raw = (model.scoring.outputs(x) for x in (kept, model.inputs(raw)))
    assert from_kept.numpy().tobytes() == from_raw.numpy().tobytes()
    assert from_kept.std() > 0


def test_quantiles_are_of_a_sample_of_requests(
    monkeypatch: pytest.MonkeyPatch, encoder: Encoder, scored: ImpressionExamples
) -> None:
    """Of all where there are few; else of so many, drawn once each."""
    all_at_once, in_pieces = fitted_model(encoder, scored), fitted_model(encoder, scored)
    monkeypatch.setattr(upnext.ranking.levels, "REQUESTS_AT_ONCE", 17)
    fit_features(in_pieces, encoder, scored, np.random.default_rng(9))
    found = all_at_once.features.to_arrays()
    for name, value in in_pieces.features.to_arrays().items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
    monkeypatch.setattr(upnext.ranking.levels, "REQUESTS_FOR_QUANTILES", 60)
    sampled, again = (fitted_model(encoder, scored).features.to_arrays() for _ in range(2))
    assert all(np.array_equal(sampled[name], again[name]) for name in found)
    assert any(not np.array_equal(sampled[name], found[name]) for name in found)
