"""A tiny platform's requests, and random inputs of a ranking network, for the tests of ranking."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.raw_inputs import NUM_IDS, random_inputs

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.schema import Logs

RandomInputs = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture(scope="session")
def encoder(tiny_logs: Logs) -> Encoder:
    """With a clock, a user feature, and an item feature of each kind."""
    config = ExamplesConfig(
        num_watches_ranked=6,
        num_shown=12,
        clock=("hour",),
        user_features=("region",),
        item_features=("channel_id", "tags", "duration_s"),
    )
    return build_encoder(tiny_logs, config)


@pytest.fixture(scope="session")
def examples(tiny_logs: Logs, encoder: Encoder) -> ImpressionExamples:
    assert tiny_logs.impressions is not None
    users = user_vocabulary(tiny_logs)
    history = encoder.history(tiny_logs, users)
    return build_impression_examples(encoder, history, users, tiny_logs.impressions)


@pytest.fixture(scope="session", name="random_inputs")
def tensors() -> RandomInputs:
    return _random_inputs


def _random_inputs(
    seed: int, *, num_requests: int = 5, num_candidates: int = 12, vector_size: int = 3
) -> dict[str, torch.Tensor]:
    """Raw arrays, and beside them vectors of the items."""
    raw = random_inputs(seed, num_requests=num_requests, num_candidates=num_candidates)
    inputs = {name: torch.from_numpy(array) for name, array in raw.items()}
    rng = np.random.default_rng(seed)
    table = torch.from_numpy(rng.standard_normal((NUM_IDS, vector_size)).astype(np.float32))
    table[:2] = 0.0
    return inputs | {
        "item_vectors": table[inputs["item_rows"]],
        "history_vectors": table[inputs["history_rows"]],
    }
