import pytest
import torch

from upnext.errors import ConfigError
from upnext.ranking.config import RankingNetworkConfig
from upnext.ranking.mlp import MlpNetwork

QUERY_SIZE, CANDIDATE_SIZE = 5, 4
SIZES = {"query_size": QUERY_SIZE, "candidate_size": CANDIDATE_SIZE}


def new_network(
    hidden_sizes: tuple[int, ...], *, num_outputs: int = 1, factors: int = 0
) -> MlpNetwork:
    torch.manual_seed(1)
    config = RankingNetworkConfig(hidden_sizes=hidden_sizes, factors=factors)
    return MlpNetwork(config, num_outputs=num_outputs, **SIZES)


def drawn(num_requests: int = 3, num_candidates: int = 7) -> tuple[torch.Tensor, ...]:
    """Query, candidate, request_index."""
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn(num_requests, QUERY_SIZE, generator=generator),
        torch.randn(num_candidates, CANDIDATE_SIZE, generator=generator),
        torch.randint(0, num_requests, (num_candidates,), generator=generator),
    )


@pytest.mark.parametrize("num_outputs", [1, 2])
@pytest.mark.parametrize("hidden_sizes", [(), (8,), (8, 4), (8, 6, 4)])
def test_the_first_layer_is_one_matrix_on_query_and_candidate_together(
    hidden_sizes: tuple[int, ...], num_outputs: int
) -> None:
    """With no hidden layer there is nothing else: a logistic regression."""
    query, candidate, request_index = drawn()
    network = new_network(hidden_sizes, num_outputs=num_outputs)
    together = torch.cat([query[request_index], candidate], dim=1)
    matrix = torch.cat([network.query_layer.weight, network.candidate_layer.weight], dim=1)
    outputs = together @ matrix.T + network.query_layer.bias
    for layer in network.layers:
        outputs = outputs.clamp(min=0) if isinstance(layer, torch.nn.ReLU) else layer(outputs)
    found = network.outputs(query, [candidate], request_index)
    torch.testing.assert_close(found, outputs, rtol=1e-5, atol=1e-5)
    assert found.shape == (7, num_outputs)
    assert len(network.layers) == 2 * len(hidden_sizes)


@pytest.mark.parametrize("hidden_sizes", [(), (8, 4)])
def test_factors_add_the_product_of_a_vector_of_each_to_each_output(
    hidden_sizes: tuple[int, ...],
) -> None:
    query, candidate, request_index = drawn()
    network = new_network(hidden_sizes, num_outputs=2, factors=3)
    whole = network.outputs(query, [candidate], request_index)
    of_query, of_candidate = network.query_factors(query), network.candidate_factors(candidate)
    network.num_factors = 0
    added = whole - network.outputs(query, [candidate], request_index)
    for place, request in enumerate(request_index.tolist()):
        for output in range(2):
            mine = slice(3 * output, 3 * output + 3)
            product = of_query[request, mine] @ of_candidate[place, mine]
            torch.testing.assert_close(added[place, output], product, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factors", [0, 3])
@pytest.mark.parametrize("widths", [[1, 3], [2, 1, 1]])
def test_a_candidate_in_pieces_is_learned_from_as_one_that_is_whole(
    widths: list[int], factors: int
) -> None:
    """The same outputs, the same gradient of every weight and piece; none where none is wanted."""
    query, candidate, request_index = drawn()
    network = new_network((8, 4), num_outputs=2, factors=factors)
    pieces = [piece.clone().requires_grad_() for piece in torch.split(candidate, widths, dim=1)]
    pieces[-1].requires_grad_(False)
    whole = candidate.clone().requires_grad_()
    found = {}
    for name, given in {"pieces": pieces, "whole": [whole]}.items():
        network.zero_grad()
        outputs = network.outputs(query, given, request_index)
        outputs.square().sum().backward()  # type: ignore[no-untyped-call]
        gradients = [weight.grad for weight in network.parameters()]
        found[name] = [outputs, *(one.clone() for one in gradients if one is not None)]
    with torch.inference_mode():
        found["asked"] = [network.outputs(query, pieces, request_index)]
    for name in ("pieces", "asked"):
        for one, other in zip(found[name], found["whole"], strict=False):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert len(found["pieces"]) == 1 + len([*network.parameters()])
    assert whole.grad is not None
    of_pieces = zip(pieces, torch.split(whole.grad, widths, dim=1), strict=True)
    for piece, expected in [*of_pieces][:-1]:
        torch.testing.assert_close(piece.grad, expected, rtol=1e-4, atol=1e-5)
    assert pieces[-1].grad is None


def test_without_factors_there_are_no_weights_of_them() -> None:
    names = dict(new_network((8,)).named_parameters())
    assert not [name for name in names if "factors" in name]
    assert [
        name for name in dict(new_network((8,), factors=2).named_parameters()) if "factors" in name
    ]


def test_embeddings_grow_with_the_log_of_the_id_space() -> None:
    config = RankingNetworkConfig(embedding_scale=1.5)
    sizes = [config.embedding_size(num_rows) for num_rows in (2, 16, 256, 65_536)]
    assert sizes == [2, 6, 12, 24]
    assert RankingNetworkConfig(embedding_scale=0.01).embedding_size(2) == 1
    with pytest.raises(ConfigError, match="embedding_scale: expected above 0, got 0"):
        RankingNetworkConfig(embedding_scale=0.0)


@pytest.mark.parametrize(
    "settings", [{"dropout": 1.0}, {"dropout": -0.1}, {"factors": -1}, {"hidden_sizes": (0,)}]
)
def test_sizes_and_shares_out_of_range_are_refused(settings: dict[str, float]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=name):
        RankingNetworkConfig(**settings)  # type: ignore[arg-type]
