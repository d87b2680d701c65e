from collections.abc import Callable

import numpy as np
import pytest
import torch

from upnext.ranking.config import RankingNetworkConfig
from upnext.ranking.din import LONG_AGO, DinNetwork, watch_share
from upnext.ranking.front import Sizes

RandomInputs = Callable[..., dict[str, torch.Tensor]]

VECTOR, WIDTH = 3, 5
SIZES = Sizes(item_vector=VECTOR, contexts=(6, 6), query_levels=0, candidate_levels=0)


def new_network(attended_watches: int = 50) -> DinNetwork:
    torch.manual_seed(1)
    config = RankingNetworkConfig(
        kind="din", factors=0, attention_size=WIDTH, attended_watches=attended_watches
    )
    return DinNetwork(config, SIZES, query_size=4, candidate_size=2, num_outputs=1)


def whole_matrix(network: DinNetwork) -> torch.Tensor:
    """[width, 4 E + 2] a W for [h, c, h − c, h ⊙ c, share, age] that is the network's.

    Of what h and c add, as much is given to their difference as comes out the same.
    """
    of_watch, facts = torch.split(network.of_watch.weight, [VECTOR, 2], dim=1)
    difference = torch.randn(WIDTH, VECTOR)
    return torch.cat(
        [
            of_watch - difference,
            network.of_candidate.weight + difference,
            difference,
            network.of_pair,
            facts,
        ],
        dim=1,
    )


def attended_by_hand(
    network: DinNetwork, inputs: dict[str, torch.Tensor], place: int, last: int
) -> torch.Tensor:
    """One candidate's weighted sum over the last watches of its request, a watch at a time."""
    matrix, bias = whole_matrix(network), network.of_watch.bias
    request, candidate = int(inputs["request_index"][place]), inputs["item_vectors"][place]
    share = watch_share(inputs)[request]
    total = torch.zeros(VECTOR)
    num_slots = inputs["history_rows"].shape[1]
    for slot in range(max(0, num_slots - last), num_slots):
        if inputs["history_rows"][request, slot] <= 1:
            continue
        watched = inputs["history_vectors"][request, slot]
        age = torch.log(1 + inputs["history_age_s"][request, slot]) / LONG_AGO
        told = torch.stack([share[slot], age])
        whole = [watched, candidate, watched - candidate, watched * candidate, told]
        hidden = matrix @ torch.cat(whole) + bias
        weight = network.weigh(hidden.clamp(min=0))
        total = total + weight * watched
    return total


@pytest.mark.parametrize("last", [50, 4, 2, 1])
def test_attention_is_a_loop_over_candidates_and_watches(
    random_inputs: RandomInputs, last: int
) -> None:
    inputs = random_inputs(3, vector_size=VECTOR)
    network = new_network(attended_watches=last)
    attended = network.attended(inputs)
    assert attended.shape == (12, VECTOR)
    for place in range(len(attended)):
        expected = attended_by_hand(network, inputs, place, last)
        torch.testing.assert_close(attended[place], expected, rtol=1e-4, atol=1e-5)
    assert attended.any(dim=1).sum() > 5


def test_as_many_candidates_of_each_request_in_order_or_any_in_any_are_one(
    random_inputs: RandomInputs,
) -> None:
    """The first is how training and a page ask, and is worked out request by request."""
    inputs = random_inputs(8, num_requests=4, num_candidates=12, vector_size=VECTOR)
    of_candidates = ("request_index", "item_vectors")
    inputs["request_index"] = torch.arange(4).repeat_interleave(3)
    network = new_network()
    in_order = network.attended(inputs)
    assert in_order.any(dim=1).sum() > 5
    for order in (torch.randperm(12), torch.arange(11), torch.tensor([5]), torch.arange(0)):
        some = inputs | {name: inputs[name][order] for name in of_candidates}
        torch.testing.assert_close(network.attended(some), in_order[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row", [0, 1])
def test_pads_and_unknown_watches_weigh_nothing(random_inputs: RandomInputs, row: int) -> None:
    inputs = random_inputs(4, vector_size=VECTOR)
    inputs["history_vectors"] = torch.ones_like(inputs["history_vectors"])
    network = new_network()
    assert network.attended(inputs).any()
    inputs["history_rows"] = torch.full_like(inputs["history_rows"], row)
    assert not network.attended(inputs).any()


def test_weights_are_not_normalised(random_inputs: RandomInputs) -> None:
    """The same watch twice counts twice."""
    inputs = random_inputs(5, vector_size=VECTOR)
    histories = [name for name in inputs if name.startswith("history") and "pooled" not in name]
    inputs["history_rows"] = torch.full_like(inputs["history_rows"], 2)
    twice = inputs | {name: torch.cat([inputs[name]] * 2, dim=1) for name in histories}
    network = new_network()
    once = network.attended(inputs)
    assert once.any()
    torch.testing.assert_close(network.attended(twice), 2 * once, rtol=1e-4, atol=1e-5)


def test_what_a_candidate_is_like_decides_what_counts(random_inputs: RandomInputs) -> None:
    inputs = random_inputs(6, vector_size=VECTOR)
    inputs["request_index"] = torch.zeros_like(inputs["request_index"])
    inputs["history_rows"] = torch.full_like(inputs["history_rows"], 2)
    attended = new_network().attended(inputs)
    vectors = inputs["item_vectors"]
    distinct = len(np.unique(vectors.numpy(), axis=0))
    found = np.unique(attended.detach().numpy().round(4), axis=0)
    assert len(found) == distinct > 2
