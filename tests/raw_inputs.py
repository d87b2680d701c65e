"""Random raw inputs of ranking, in which ids often meet, for whoever reads them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.examples.places import places_of
from upnext.schema import Floats, Rows

RawInputs = dict[str, NDArray[Any]]

NUM_IDS = 6
"""Rows of each vocabulary: 0, a pad, 1, unknown, and a few that often meet."""


@dataclass(frozen=True)
class _Draw:
    rng: np.random.Generator

    def rows(self, *shape: int) -> Rows:
        return self.rng.integers(0, NUM_IDS, shape).astype(np.int32)

    def seconds(self, *shape: int) -> Floats:
        return self.rng.exponential(300.0, shape).astype(np.float32)


def random_inputs(
    seed: int, *, num_requests: int = 5, num_candidates: int = 12, num_sources: int = 2
) -> RawInputs:
    """Four past watches and five past impressions a request; three tags an item."""
    draw = _Draw(np.random.default_rng(seed))
    of_request, of_candidate, of_shown = (num_requests, 4), (num_candidates,), (num_requests, 5)
    history_rows, shown_rows = draw.rows(*of_request), draw.rows(*of_shown)
    filled, shown = history_rows > 0, shown_rows > 0
    known, known_shown = history_rows > 1, shown_rows > 1
    inputs: RawInputs = {
        "context_rows": draw.rows(num_requests, 2),
        "history_rows": history_rows,
        "history_channel_rows": draw.rows(*of_request) * known,
        "history_tag_rows": draw.rows(*of_request, 3) * known[..., None],
        "history_duration_s": draw.seconds(*of_request) * known * (draw.rows(*of_request) > 0),
        "history_age_s": draw.seconds(*of_request) * 100 * filled,
        "history_watch_time_s": draw.seconds(*of_request) * filled,
        "shown_rows": shown_rows,
        "shown_channel_rows": draw.rows(*of_shown) * known_shown,
        "shown_tag_rows": draw.rows(*of_shown, 3) * known_shown[..., None],
        "shown_age_s": draw.seconds(*of_shown) * 100 * shown,
        "request_index": draw.rng.integers(0, num_requests, num_candidates),
        "item_rows": draw.rows(*of_candidate),
        "channel_rows": draw.rows(*of_candidate),
        "tag_rows": draw.rows(*of_candidate, 3),
        "duration_s": draw.seconds(*of_candidate),
        "item_age_days": draw.seconds(*of_candidate),
        "position": draw.rows(*of_candidate).astype(np.float32),
        "item_counts": draw.rows(*of_candidate, 4).astype(np.float32),
        "channel_counts": draw.rows(*of_candidate, 4).astype(np.float32),
        "source_scores": draw.seconds(*of_candidate, num_sources),
    }
    places = places_of(history_rows, shown_rows, inputs["item_rows"], inputs["request_index"])
    return inputs | places._asdict()
