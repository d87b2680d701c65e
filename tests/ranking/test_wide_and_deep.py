import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from upnext.errors import ConfigError
from upnext.ranking.config import CROSSED_INPUTS, RankingNetworkConfig
from upnext.ranking.front import Parts
from upnext.ranking.wide_and_deep import (
    MULTIPLIER,
    PRIME,
    Ftrl,
    WideAndDeepNetwork,
    wide_optimizer,
)

RandomInputs = Callable[..., dict[str, torch.Tensor]]
Cross = tuple[str, ...]

CONTEXTS = ["hour", "region"]
QUERY_SIZE, CANDIDATE_SIZE = 4, 3
CROSSES: list[Cross] = [
    ("item", "channel"),
    ("history_items", "item"),
    ("history_channels", "tags"),
    ("hour", "tags"),
    ("position", "region", "item"),
    ("history_items", "history_channels", "tags"),
]


def new_network(*crosses: Cross, num_buckets: int = 1_000) -> WideAndDeepNetwork:
    torch.manual_seed(1)
    config = RankingNetworkConfig(
        kind="wide-and-deep", hidden_sizes=(8,), crosses=crosses, num_cross_buckets=num_buckets
    )
    return WideAndDeepNetwork(
        config, CONTEXTS, query_size=QUERY_SIZE, candidate_size=CANDIDATE_SIZE, num_outputs=2
    )


def parts_of(inputs: dict[str, torch.Tensor]) -> Parts:
    generator = torch.Generator().manual_seed(3)
    num_requests, num_candidates = len(inputs["history_rows"]), len(inputs["item_rows"])
    return Parts(
        torch.randn(num_requests, QUERY_SIZE, generator=generator),
        (torch.randn(num_candidates, CANDIDATE_SIZE, generator=generator),),
        inputs["request_index"],
        inputs,
    )


def values_of(inputs: dict[str, torch.Tensor], field: str, place: int) -> list[int]:
    """What a field is for one candidate: known ids, or the one number."""
    request = int(inputs["request_index"][place])
    if field in CONTEXTS:
        return [int(inputs["context_rows"][request, CONTEXTS.index(field)])]
    line = inputs[CROSSED_INPUTS[field]][request if field.startswith("history") else place]
    values = line.reshape(-1).long().tolist()
    return values if field == "position" else [value for value in values if value > 1]


def hashed(number: int, values: tuple[int, ...]) -> int:
    """h ← ((h · a mod p) + v) · a mod p, from the number of the cross on."""
    found = number + 1
    for value in values:
        found = (found * MULTIPLIER % PRIME + value) * MULTIPLIER % PRIME
    return found


def hashes_of(
    inputs: dict[str, torch.Tensor], number: int, cross: Cross, place: int
) -> Iterator[int]:
    fields = [values_of(inputs, field, place) for field in cross]
    return (hashed(number, values) for values in itertools.product(*fields))


@pytest.mark.parametrize("cross", CROSSES)
def test_a_cross_takes_one_known_value_of_each_field_together(
    random_inputs: RandomInputs, cross: Cross
) -> None:
    inputs, number, num_buckets = random_inputs(2), 3, 101
    network = new_network(cross, num_buckets=num_buckets)
    buckets, known = network.buckets(inputs, number, cross)
    assert buckets.min() >= 0
    assert buckets.max() < num_buckets
    for place in range(len(inputs["item_rows"])):
        found = buckets[place][known[place] > 0].tolist()
        expected = [one % num_buckets for one in hashes_of(inputs, number, cross, place)]
        assert sorted(found) == sorted(expected)
    assert known.any()


def test_outputs_are_those_of_the_layers_and_a_weight_of_every_value(
    random_inputs: RandomInputs,
) -> None:
    """z = MLP + Σ over crosses of Σ w over its values, by the root of their number."""
    inputs, num_buckets = random_inputs(4), 50
    network = new_network(*CROSSES, num_buckets=num_buckets)
    parts = parts_of(inputs)
    assert network(parts).equal(network.mlp(parts))
    with torch.no_grad():
        network.wide.copy_(torch.randn(num_buckets, 2))
        expected = network.mlp(parts)
        for place in range(len(expected)):
            for number, cross in enumerate(CROSSES):
                buckets = [h % num_buckets for h in hashes_of(inputs, number, cross, place)]
                if buckets:
                    expected[place] += network.wide[buckets].sum(dim=0) * len(buckets) ** -0.5
        torch.testing.assert_close(network(parts), expected, rtol=1e-4, atol=1e-5)


def test_pads_and_unknown_ids_make_no_value(random_inputs: RandomInputs) -> None:
    inputs = random_inputs(5)
    for row in (0, 1):
        nobody = {
            name: torch.full_like(value, row) if name.endswith("_rows") else value
            for name, value in inputs.items()
        }
        for cross in CROSSES:
            assert not new_network(cross).buckets(nobody, 0, cross)[1].any()


def test_the_largest_ids_do_not_overflow(random_inputs: RandomInputs) -> None:
    inputs = random_inputs(6)
    largest = 2**31 - 1
    inputs |= {name: torch.full_like(inputs[name], largest) for name in ("item_rows", "tag_rows")}
    cross = ("tags", "item", "tags")
    buckets, _ = new_network(cross).buckets(inputs, 7, cross)
    assert set(buckets.flatten().tolist()) == {hashed(7, (largest,) * 3) % 1_000}


def test_few_of_many_pairs_meet_in_a_bucket(random_inputs: RandomInputs) -> None:
    """As by chance: of n pairs in b buckets about n² / 2b meet another."""
    side, num_buckets = 60, 262_144
    inputs = random_inputs(7, num_candidates=side * side)
    items, channels = np.divmod(np.arange(side * side), side)
    inputs["item_rows"] = torch.from_numpy(items + 2)
    inputs["channel_rows"] = torch.from_numpy(channels + 2)
    cross = ("item", "channel")
    network = new_network(cross, num_buckets=num_buckets)
    num_pairs = side * side
    distinct = len(set(network.buckets(inputs, 0, cross)[0].flatten().tolist()))
    assert num_pairs - distinct < 3 * num_pairs**2 / (2 * num_buckets)
    swapped = network.buckets(inputs, 0, ("channel", "item"))[0]
    assert (swapped == network.buckets(inputs, 0, cross)[0]).float().mean() < 0.05


@pytest.mark.parametrize(
    "cross", [("item",), (), ("item", "mood"), ("item", "channel", "tags", "position")]
)
def test_a_cross_of_strange_fields_or_of_too_few_is_refused(cross: Cross) -> None:
    with pytest.raises(ConfigError, match=r"two or three of item, .*, hour, region each, got"):
        new_network(("item", "channel"), cross)


def ftrl_by_hand(
    gradients: list[float], *, rate: float, l1: float, beta: float = 1.0
) -> list[float]:
    """Algorithm 1 of McMahan et al. 2013 for one coordinate, without λ₂: w after each step."""
    z = n = w = 0.0
    weights = []
    for g in gradients:
        sigma = ((n + g * g) ** 0.5 - n**0.5) / rate
        z += g - sigma * w
        n += g * g
        sign = 1.0 if z > 0 else -1.0
        w = 0.0 if abs(z) <= l1 else -(z - sign * l1) / ((beta + n**0.5) / rate)
        weights.append(w)
    return weights


@pytest.mark.parametrize("l1", [0.0, 0.5, 3.0])
def test_ftrl_is_the_published_algorithm_in_every_coordinate(l1: float) -> None:
    rng = np.random.default_rng(8)
    gradients = rng.normal(rng.normal(0, 0.1, 12), 0.3, (100, 12))
    weight = torch.nn.Parameter(torch.zeros(12, dtype=torch.float64))
    optimizer = Ftrl([weight], lr=0.1, l1=l1)
    found = []
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
        found.append(weight.detach().clone().numpy())
    expected = [ftrl_by_hand(column.tolist(), rate=0.1, l1=l1) for column in gradients.T]
    np.testing.assert_allclose(np.array(found), np.array(expected).T, rtol=1e-9, atol=1e-12)
    zeros = (np.array(found) == 0.0).mean()
    assert (zeros > 0.05) if l1 else (zeros == 0)


def test_ftrl_goes_to_the_minimum_and_keeps_at_zero_what_is_not_worth_its_weight() -> None:
    """Of ½ (w − a)², whose slope at 0 is −a, the least with λ |w| each step."""
    target = torch.tensor([1.0, -1.0, 1e-4])
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = Ftrl([weight], lr=0.5, l1=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (0.5 * (weight - target).square().sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert weight[2].item() == 0.0
    torch.testing.assert_close(weight[:2].detach(), target[:2], atol=0.02, rtol=0)


def test_ftrl_leaves_what_has_no_gradient() -> None:
    weight, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    other.grad = torch.ones(2)
    Ftrl([weight, other], lr=0.1, l1=0.0).step()
    assert weight.tolist() == [1.0, 1.0]
    assert other.tolist() != [1.0, 1.0]


@pytest.mark.parametrize("name", ["ftrl", "adagrad"])
def test_the_declared_optimizer_moves_the_crosses_alone(
    random_inputs: RandomInputs, name: str
) -> None:
    network = new_network(("item", "channel"))
    config = RankingNetworkConfig(kind="wide-and-deep", wide_optimizer=name)  # type: ignore[arg-type]
    optimizer = wide_optimizer(network, config)
    assert type(optimizer).__name__.lower() == name
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network(parts_of(random_inputs(9))).sum().backward()
    optimizer.step()
    moved = [key for key, value in network.state_dict().items() if not value.equal(before[key])]
    assert moved == ["wide"]
