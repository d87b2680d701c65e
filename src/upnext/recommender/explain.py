"""Why this item? What its expected watch time would be without one thing or another.

Each reason is an ablation in the very network that ranked: one thing is taken out of its inputs and
the network is asked again. The seconds that are then missing are what the thing brought. Reasons do
not add up, as two that say the same stand in for one another.

    reason = expected watch time − expected watch time without it

Source: ablation as attribution, Zeiler and Fergus 2014, "Visualizing and understanding
convolutional networks" (occlusion).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder
from upnext.examples.history import Indices
from upnext.examples.input_groups import (
    ALL_SHOWN,
    ALL_WATCHED,
    CONTEXT,
    OF_CANDIDATES,
    OF_REQUESTS,
)
from upnext.examples.places import places_of
from upnext.examples.ranking_inputs import CANDIDATE_INPUTS, REQUEST_INPUTS, RankingInputs
from upnext.recommender.ranker import Ranker
from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Reason

Arrays = dict[str, NDArray[Any]]

NUM_WATCHES = 20
"""Last watched items that are each taken out by themselves."""


def explain(
    ranker: Ranker,
    encoder: Encoder,
    raw: RankingInputs,
    places: Indices,
    *,
    num_reasons: int,
) -> list[list[Reason]]:
    """The reasons for some candidates of one request, those that moved it most first.

    Args:
        raw: the inputs of one request and all its candidates [M].
        places: [P] which of the candidates.
        num_reasons: reasons at most for each.

    Returns: P lists.
    """
    arrays = dict(raw.arrays())
    changes: list[tuple[str, int | None, Arrays]] = [("", None, {}), *_changes(arrays)]
    variants = [_variant(arrays, changed, places) for _, _, changed in changes]
    seconds = ranker.seconds_of(_one_batch(variants)).reshape(len(changes), len(places))
    reasons = []
    for column in (seconds[0] - seconds[1:]).T:
        strongest = np.argsort(-np.abs(column), kind="stable")[:num_reasons]
        told = [(*changes[1 + n][:2], float(column[n])) for n in strongest]
        reasons.append([_reason(encoder, *one) for one in told])
    return reasons


def _reason(encoder: Encoder, about: str, item_row: int | None, moved_s: float) -> Reason:
    item_id = None if item_row is None else encoder.catalogue.items.id(item_row)
    return Reason(about=about, item_id=item_id, watch_time_s=moved_s)


def _changes(arrays: Arrays) -> Iterator[tuple[str, int | None, Arrays]]:
    """What is taken out, the past item that it is, and the arrays that it changes."""
    rows = arrays["history_rows"][0]
    known = rows[rows >= NUM_RESERVED_ROWS][::-1]
    _, first = np.unique(known, return_index=True)
    for row in known[np.sort(first)][:NUM_WATCHES]:
        yield "watching", int(row), _without(arrays, ALL_WATCHED, rows == row)
    yield ALL_WATCHED, None, _without(arrays, ALL_WATCHED, rows > 0)
    yield ALL_SHOWN, None, _without(arrays, ALL_SHOWN, arrays["shown_rows"][0] > 0)
    if arrays["context_rows"].shape[1]:
        unknown = np.full_like(arrays["context_rows"], UNKNOWN_ROW)
        yield CONTEXT, None, {"context_rows": unknown}
    # Of a number, the item is given what the middle one of the request's candidates has.
    for about, name in OF_CANDIDATES.items():
        if arrays[name].size:
            middle = np.median(arrays[name], axis=0).astype(np.float32)
            yield about, None, {name: np.broadcast_to(middle, arrays[name].shape)}


def _without(arrays: Arrays, past: str, gone: NDArray[np.bool_]) -> Arrays:
    """The arrays of past events, without those in some slots."""
    changed = {name: arrays[name].copy() for name in OF_REQUESTS[past]}
    for array in changed.values():
        array[:, gone] = 0
    return changed


def _variant(arrays: Arrays, changed: Arrays, places: Indices) -> Arrays:
    """One request with some of its candidates, in which something was changed."""
    both = arrays | changed
    return {name: both[name] for name in REQUEST_INPUTS} | {
        name: both[name][places] for name in CANDIDATE_INPUTS
    }


def _one_batch(variants: list[Arrays]) -> Arrays:
    """All variants as one batch of requests."""
    batch = {
        name: np.concatenate([variant[name] for variant in variants])
        for name in REQUEST_INPUTS + CANDIDATE_INPUTS
    }
    per_request = len(variants[0]["item_rows"])
    batch["request_index"] = np.repeat(np.arange(len(variants)), per_request)
    places = places_of(
        batch["history_rows"], batch["shown_rows"], batch["item_rows"], batch["request_index"]
    )
    return batch | places._asdict()
