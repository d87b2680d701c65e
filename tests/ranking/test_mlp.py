from collections.abc import Callable

import pytest
import torch

from upnext.errors import ConfigError
from upnext.ranking.features import candidate_features, query_features
from upnext.ranking.mlp import MlpNetwork, RankingNetworkConfig

RandomInputs = Callable[..., dict[str, torch.Tensor]]

OF_REQUESTS = {"context_rows", "shown_rows", "shown_age_s"}


def new_network(inputs: dict[str, torch.Tensor], hidden_sizes: tuple[int, ...]) -> MlpNetwork:
    torch.manual_seed(1)
    network = MlpNetwork(
        RankingNetworkConfig(hidden_sizes=hidden_sizes, context_embedding_size=2),
        item_size=3,
        channel_size=3,
        tag_size=3,
        context_sizes=(6, 6),
    )
    network.candidate_quantiles.fit(candidate_features(inputs).numpy())
    network.query_quantiles.fit(query_features(inputs).numpy())
    return network


def chosen(
    inputs: dict[str, torch.Tensor], requests: torch.Tensor, candidates: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Some of the requests, with some of their candidates."""
    is_of_request = {name: name in OF_REQUESTS or name.startswith("history") for name in inputs}
    part = {
        name: value[requests if is_of_request[name] else candidates]
        for name, value in inputs.items()
    }
    old = part["request_index"]
    part["request_index"] = (old[:, None] == requests).int().argmax(dim=1)
    return part


@pytest.mark.parametrize("hidden_sizes", [(), (8, 4)])
def test_a_request_is_answered_alike_alone_and_in_company(
    random_inputs: RandomInputs, hidden_sizes: tuple[int, ...]
) -> None:
    inputs = random_inputs(2)
    network = new_network(inputs, hidden_sizes)
    together = network(inputs)
    for request in range(len(inputs["history_rows"])):
        candidates = torch.nonzero(inputs["request_index"] == request)[:, 0]
        alone = network(chosen(inputs, torch.tensor([request]), candidates))
        torch.testing.assert_close(alone, together[candidates], rtol=1e-5, atol=1e-5)


def test_the_order_of_candidates_and_requests_does_not_matter(random_inputs: RandomInputs) -> None:
    inputs = random_inputs(3)
    network = new_network(inputs, (8, 4))
    generator = torch.Generator().manual_seed(4)
    requests = torch.randperm(len(inputs["history_rows"]), generator=generator)
    candidates = torch.randperm(len(inputs["item_rows"]), generator=generator)
    shuffled = network(chosen(inputs, requests, candidates))
    torch.testing.assert_close(shuffled, network(inputs)[candidates], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hidden_sizes", [(), (8,), (8, 4)])
def test_the_first_layer_is_one_matrix_on_query_and_candidate_together(
    random_inputs: RandomInputs, hidden_sizes: tuple[int, ...]
) -> None:
    """With no hidden layer there is nothing else: a logistic regression."""
    inputs = random_inputs(5)
    network = new_network(inputs, hidden_sizes)
    queries = network.query_input(inputs)[inputs["request_index"]]
    together = torch.cat([queries, network.item_input(inputs)], dim=1)
    matrix = torch.cat([network.query_layer.weight, network.item_layer.weight], dim=1)
    first = together @ matrix.T + network.query_layer.bias
    expected = network.layers(first)[:, 0] if hidden_sizes else first[:, 0]
    torch.testing.assert_close(network(inputs), expected, rtol=1e-5, atol=1e-5)
    assert len(network.layers) == 2 * len(hidden_sizes)


@pytest.mark.parametrize("hidden_sizes", [(), (8, 4)])
def test_the_output_bias_moves_every_logit_by_as_much(
    random_inputs: RandomInputs, hidden_sizes: tuple[int, ...]
) -> None:
    inputs = random_inputs(6)
    network = new_network(inputs, hidden_sizes)
    before = network(inputs)
    with torch.no_grad():
        network.output_bias.add_(2.5)
    torch.testing.assert_close(network(inputs), before + 2.5, rtol=1e-5, atol=1e-5)


def test_vectors_of_the_past_and_of_tags_are_averaged_over_known_ids(
    random_inputs: RandomInputs,
) -> None:
    inputs = random_inputs(7)
    network = new_network(inputs, ())
    for request, rows in enumerate(inputs["history_rows"]):
        known = inputs["history_item_vectors"][request][rows > 1]
        expected = known.mean(dim=0) if len(known) else torch.zeros(3)
        torch.testing.assert_close(network.query_input(inputs)[request, :3], expected)
    for place, rows in enumerate(inputs["tag_rows"]):
        known = inputs["tag_vectors"][place][rows > 1]
        expected = known.mean(dim=0) if len(known) else torch.zeros(3)
        torch.testing.assert_close(network.item_input(inputs)[place, 6:9], expected)


def test_a_request_without_candidates_and_an_empty_past_are_ordinary(
    random_inputs: RandomInputs,
) -> None:
    inputs = random_inputs(8)
    network = new_network(inputs, (8, 4))
    nobody = {
        name: torch.zeros_like(value) if name.startswith(("history", "shown")) else value
        for name, value in inputs.items()
    }
    assert network(nobody).isfinite().all()
    no_candidates = torch.zeros(0, dtype=torch.int64)
    assert network(chosen(inputs, torch.tensor([0]), no_candidates)).shape == (0,)


def test_embeddings_grow_with_the_log_of_the_id_space() -> None:
    config = RankingNetworkConfig(embedding_scale=1.5)
    sizes = [config.embedding_size(num_rows) for num_rows in (2, 16, 256, 65_536)]
    assert sizes == [2, 6, 12, 24]
    assert RankingNetworkConfig(embedding_scale=0.01).embedding_size(2) == 1
    with pytest.raises(ConfigError, match="embedding_scale: expected above 0, got 0"):
        RankingNetworkConfig(embedding_scale=0.0)
