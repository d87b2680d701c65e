"""What a training run holds, as plain arrays by name, and back."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def tensor_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors as arrays; those in main memory are not copied."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def array_tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    """The inverse of `tensor_arrays`, in main memory."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def optimizer_arrays(optimizer: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """Moments and step counts of an optimiser, `0.exp_avg` being the first parameter's.

    Rates and the like stay out: they are the config's.
    """
    held: Mapping[int, Mapping[str, torch.Tensor]] = optimizer.state_dict()["state"]
    return tensor_arrays(
        {f"{place}.{name}": held[place][name] for place in held for name in held[place]}
    )


def load_optimizer(optimizer: torch.optim.Optimizer, arrays: Arrays) -> None:
    """Gives an optimiser over the same parameters back what `optimizer_arrays` took."""
    held: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in array_tensors(arrays).items():
        place, _, name = key.partition(".")
        held.setdefault(int(place), {})[name] = tensor
    optimizer.load_state_dict(
        {"state": held, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def generator_array(generator: np.random.Generator) -> NDArray[np.uint8]:
    """Where a generator stands, as bytes of JSON."""
    return json_array(generator.bit_generator.state)


def load_generator(generator: np.random.Generator, array: NDArray[np.uint8]) -> None:
    """Sets a generator of the same kind to where another stood."""
    generator.bit_generator.state = array_json(array)


def random_arrays() -> dict[str, NDArray[Any]]:
    """Where torch's own generators stand, which dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return tensor_arrays(states)


def load_random(arrays: Arrays) -> None:
    """Sets torch's own generators; those of accelerators that are not here are passed over."""
    states = array_tensors(arrays)
    torch.set_rng_state(states.pop("cpu"))
    for place, state in enumerate(states.values()):
        if place < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, place)


def json_array(value: object) -> NDArray[np.uint8]:
    """Plain values as bytes of JSON. Whole numbers may be of any size, and numbers nan."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def array_json(array: NDArray[np.uint8]) -> Any:
    """The inverse of `json_array`."""
    return json.loads(array.tobytes())


def prefixed(prefix: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The same arrays under longer names.

    >>> list(prefixed("best/", {"bias": np.zeros(1)}))
    ['best/bias']
    """
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def under(prefix: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with a prefix, without it: the inverse of `prefixed`."""
    begins = len(prefix)
    return {name[begins:]: array for name, array in arrays.items() if name.startswith(prefix)}
