"""What is told to ranking's network, and what is left out since it says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from upnext.examples.impressions import RankingInputs
from upnext.examples.input_groups import OF_IMPRESSIONS
from upnext.recommender.files import Network
from upnext.recommender.ranker import SLOTS_AT_ONCE
from upnext.schema import NUM_RESERVED_ROWS, Floats

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


class Heard:
    """A release's network that remembers what it was last told."""

    def __init__(self, network: Network) -> None:
        self.inputs, self.session, self._network = network.inputs, network.session, network

    def __call__(self, feed: Mapping[str, NDArray[Any]]) -> Floats:
        self.feed = dict(feed)
        return self._network(feed)


@pytest.mark.parametrize("num_users", [1, 7])
def test_slots_that_nobody_fills_are_left_out_and_change_no_bit(
    tiny_release: TrainedRelease, num_users: int
) -> None:
    recommender = tiny_release.recommender
    history, ranker = recommender.history, recommender.ranker
    assert ranker is not None
    rows = np.arange(NUM_RESERVED_ROWS, NUM_RESERVED_ROWS + 20, dtype=np.int32)
    raw = RankingInputs(
        recommender.encoder,
        history,
        user_rows=np.arange(NUM_RESERVED_ROWS, NUM_RESERVED_ROWS + num_users),
        at_ms=np.full(num_users, int(history.shown.at_ms.max()) + 1),
        request_index=np.repeat(np.arange(num_users), len(rows)),
        item_rows=np.tile(rows, num_users),
        position=np.zeros(num_users * len(rows), np.float32),
        source_scores=np.zeros((num_users * len(rows), ranker.num_sources), np.float32),
    )
    most_shown = int((raw.shown_rows > 0).sum(axis=1).max())
    assert 0 < most_shown < raw.shown_rows.shape[1] - SLOTS_AT_ONCE
    network = Heard(ranker.network)
    seconds = replace(ranker, network=network).seconds_of(raw)  # type: ignore[arg-type]
    for name in OF_IMPRESSIONS:
        told = network.feed[name].shape[1]
        assert told % SLOTS_AT_ONCE == 0
        assert most_shown <= told < most_shown + SLOTS_AT_ONCE
    everything = network.feed | {name: raw[name] for name in OF_IMPRESSIONS}
    assert np.array_equal(seconds, ranker.network(everything))
