import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from upnext.training.state import (
    array_json,
    array_tensors,
    generator_array,
    json_array,
    load_generator,
    load_optimizer,
    load_random,
    optimizer_arrays,
    prefixed,
    random_arrays,
    tensor_arrays,
    under,
)


def learn(weights: torch.nn.Parameter, optimizer: torch.optim.Optimizer, num_steps: int) -> None:
    for step in range(num_steps):
        optimizer.zero_grad()
        (weights * (step + 1)).square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
        lambda p: torch.optim.AdamW(p, lr=0.1),
        lambda p: torch.optim.Adagrad(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    ],
    ids=["adam", "adamw", "adagrad", "momentum"],
)
def test_an_optimizer_goes_on_as_if_it_had_not_been_put_away(make) -> None:  # type: ignore[no-untyped-def]
    ones = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    first = make([ones])
    learn(ones, first, 3)
    twos = torch.nn.Parameter(ones.detach().clone())
    second = make([twos])
    load_optimizer(second, {k: v.copy() for k, v in optimizer_arrays(first).items()})
    learn(ones, first, 2)
    learn(twos, second, 2)
    assert ones.equal(twos)


def test_an_optimizer_that_took_no_step_holds_little_and_takes_it_back() -> None:
    weights = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weights], lr=0.1)
    load_optimizer(optimizer, optimizer_arrays(optimizer))
    learn(weights, optimizer, 1)
    np.testing.assert_allclose(weights.detach().numpy(), [0.9, 0.9], rtol=1e-5)


def test_a_generator_goes_on_where_another_stood() -> None:
    generator, other = np.random.default_rng(1), np.random.default_rng(2)
    generator.standard_normal(7)
    load_generator(other, generator_array(generator))
    assert (generator.random(5) == other.random(5)).all()


def test_torch_draws_again_what_it_drew() -> None:
    states = copy.deepcopy(random_arrays())
    first = torch.rand(4)
    load_random(states)
    assert torch.rand(4).equal(first)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
def test_plain_values_come_back_from_bytes(value: object) -> None:
    assert array_json(json_array(value)) == value


def test_nan_comes_back_as_nan() -> None:
    assert math.isnan(array_json(json_array(math.nan)))


def test_tensors_come_back_with_kind_and_shape() -> None:
    tensors = {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "flags": torch.tensor([True, False]),
        "counts": torch.tensor([[1, 2]], dtype=torch.int64),
    }
    back = array_tensors(tensor_arrays(tensors))
    assert list(back) == list(tensors)
    assert all(back[name].equal(tensors[name]) for name in tensors)
    assert all(back[name].dtype == tensors[name].dtype for name in tensors)


def test_prefixes_keep_names_apart() -> None:
    first, second = {"a": np.ones(1), "b/c": np.ones(2)}, {"a": np.ones(3)}
    both = prefixed("x/", first) | prefixed("xx/", second)
    assert len(both) == 3
    assert under("x/", both).keys() == first.keys()
    assert len(under("xx/", both)["a"]) == 3
