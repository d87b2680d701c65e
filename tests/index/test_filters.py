"""What was removed stays removed, whatever a call allows."""

import numpy as np

from upnext.index.filters import allowed_mask, joined_rows, no_rows


def test_no_filter_is_no_mask() -> None:
    assert allowed_mask(5, no_rows()) is None
    assert joined_rows(no_rows(), no_rows(), 5).dtype == np.int32


def test_removed_rows_and_reserved_ones_are_never_allowed() -> None:
    removed = joined_rows(np.array([4], np.int32), np.array([6, 4, 0, -1], np.int32), 8)
    assert removed.tolist() == [4, 6]
    mask = allowed_mask(8, removed)
    assert mask is not None
    assert np.flatnonzero(mask).tolist() == [2, 3, 5, 7]
    mask = allowed_mask(8, removed, np.array([-1, 1, 2, 6, 7, 7], np.int32))
    assert mask is not None
    assert np.flatnonzero(mask).tolist() == [2, 7]
