"""The exact index is the definition, whatever the size of the blocks it works in."""

import numpy as np
import pytest

from upnext.index import exact
from upnext.index.exact import ExactIndex


def test_it_is_a_full_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    items = rng.integers(-2, 3, (50, 3)).astype(np.float32)
    users = rng.integers(-2, 3, (17, 3)).astype(np.float32)
    excluded = [rng.integers(0, 50, 9).astype(np.int32) for _ in users]
    monkeypatch.setattr(exact, "CELLS_AT_ONCE", 200)
    rows, _ = ExactIndex.build(items).search(users, 12, excluded_rows=excluded)
    for user, left_out, line in zip(users, excluded, rows, strict=True):
        scores = items @ user
        scores[:2] = scores[left_out] = -np.inf
        num_allowed = 48 - len(set(left_out.tolist()) - {0, 1})
        expected = np.argsort(-scores, kind="stable")[: min(12, num_allowed)]
        assert line.tolist() == expected.tolist()


def test_it_misses_nothing() -> None:
    assert ExactIndex.build(np.ones((3, 1), np.float32)).recall_at_100 == 1.0
