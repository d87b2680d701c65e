"""A tiny platform's requests, and random inputs of a ranking network, for the tests of ranking."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.impressions import (
    ImpressionExamples,
    build_impression_examples,
    places_of,
)
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


@pytest.fixture(scope="session")
def random_inputs() -> RandomInputs:
    return _random_inputs


@dataclass(frozen=True)
class _Draw:
    rng: np.random.Generator

    def rows(self, *shape: int) -> torch.Tensor:
        """From 0, a pad, and 1, unknown, to a few that often meet."""
        return torch.from_numpy(self.rng.integers(0, 6, shape).astype(np.int32))

    def seconds(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self.rng.exponential(300.0, shape).astype(np.float32))


def _random_inputs(
    seed: int,
    *,
    num_requests: int = 5,
    num_candidates: int = 12,
    num_sources: int = 2,
    vector_size: int = 3,
) -> dict[str, torch.Tensor]:
    """Four past watches and five past impressions a request; three tags an item; rows below 6."""
    draw = _Draw(np.random.default_rng(seed))
    of_request, of_candidate, of_shown = (num_requests, 4), (num_candidates,), (num_requests, 5)
    history_rows, shown_rows = draw.rows(*of_request), draw.rows(*of_shown)
    filled, shown = history_rows > 0, shown_rows > 0
    known, known_shown = history_rows > 1, shown_rows > 1
    inputs = {
        "context_rows": draw.rows(num_requests, 2),
        "history_rows": history_rows,
        "history_channel_rows": draw.rows(*of_request) * known,
        "history_tag_rows": draw.rows(*of_request, 3) * known[..., None],
        "history_duration_s": draw.seconds(*of_request) * known * draw.rows(*of_request).bool(),
        "history_age_s": draw.seconds(*of_request) * 100 * filled,
        "history_watch_time_s": draw.seconds(*of_request) * filled,
        "shown_rows": shown_rows,
        "shown_channel_rows": draw.rows(*of_shown) * known_shown,
        "shown_tag_rows": draw.rows(*of_shown, 3) * known_shown[..., None],
        "shown_age_s": draw.seconds(*of_shown) * 100 * shown,
        "request_index": torch.from_numpy(draw.rng.integers(0, num_requests, num_candidates)),
        "item_rows": draw.rows(*of_candidate),
        "channel_rows": draw.rows(*of_candidate),
        "tag_rows": draw.rows(*of_candidate, 3),
        "duration_s": draw.seconds(*of_candidate),
        "item_age_days": draw.seconds(*of_candidate),
        "position": draw.rows(*of_candidate).float(),
        "item_counts": draw.rows(*of_candidate, 4).float(),
        "channel_counts": draw.rows(*of_candidate, 4).float(),
        "source_scores": draw.seconds(*of_candidate, num_sources),
    }
    places = places_of(
        history_rows.numpy(),
        shown_rows.numpy(),
        inputs["item_rows"].numpy(),
        inputs["request_index"].numpy(),
    )
    inputs |= {name: torch.from_numpy(array) for name, array in places._asdict().items()}
    table = torch.from_numpy(draw.rng.standard_normal((6, vector_size)).astype(np.float32))
    table[:2] = 0.0
    return inputs | {
        "item_vectors": table[inputs["item_rows"]],
        "history_vectors": table[history_rows],
        "history_pooled": _pooled(table, history_rows),
        "shown_pooled": _pooled(table, shown_rows),
    }


def _pooled(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return table[rows].sum(dim=1) / (rows > 1).sum(dim=1, keepdim=True).clamp(min=1).sqrt()
