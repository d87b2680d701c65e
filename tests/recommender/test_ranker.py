"""What is told to ranking's network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from upnext.errors import ReleaseError
from upnext.examples.ranking_inputs import RankingInputs
from upnext.recommender.ranker import Ranker
from upnext.schema import NUM_RESERVED_ROWS

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


@pytest.mark.parametrize("num_users", [1, 7])
def test_slots_that_nobody_fills_change_no_bit(
    tiny_release: TrainedRelease, num_users: int
) -> None:
    recommender = tiny_release.recommender
    history, ranker, encoder = recommender.history, recommender.ranker, recommender.encoder
    assert ranker is not None
    rows = np.arange(NUM_RESERVED_ROWS, NUM_RESERVED_ROWS + 20, dtype=np.int32)
    users = np.arange(NUM_RESERVED_ROWS, NUM_RESERVED_ROWS + num_users)
    some, more = (
        ranker.seconds_of(
            RankingInputs(
                replace(encoder, config=replace(encoder.config, num_shown=num_shown)),
                history,
                user_rows=users,
                at_ms=np.full(num_users, int(history.shown.at_ms.max()) + 1),
                request_index=np.repeat(np.arange(num_users), len(rows)),
                item_rows=np.tile(rows, num_users),
                position=np.zeros(num_users * len(rows), np.float32),
                source_scores=np.zeros((num_users * len(rows), ranker.num_sources), np.float32),
            )
        )
        for num_shown in (2_000, 2_500)
    )
    np.testing.assert_array_equal(some, more)


def test_a_network_without_features_beside_it_is_refused(tiny_release: TrainedRelease) -> None:
    release = tiny_release.release
    files = {name: one for name, one in release.files.items() if "ranking/features" not in name}
    assert len(files) < len(release.files)
    with pytest.raises(ReleaseError, match="earlier version"):
        Ranker.open(replace(release, files=files), num_threads=1)
