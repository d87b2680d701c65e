"""Hashing finds long vectors too, and more of the truth the more it may look at."""

import numpy as np

from upnext.index.hashing import HashingIndex


def test_the_longest_item_wins_and_not_the_smallest_angle() -> None:
    rng = np.random.default_rng(0)
    items = 0.1 * rng.standard_normal((2000, 8)).astype(np.float32)
    items[7] = [5, 3, 0, 0, 0, 0, 0, 0]
    items[8] = [0.1, 0, 0, 0, 0, 0, 0, 0]
    index = HashingIndex.build(items, num_bits=256, num_compared=20)
    user = np.array([[1, 0, 0, 0, 0, 0, 0, 0]], np.float32)
    assert index.search(user, 1)[0].tolist() == [[7]]


def test_more_bits_and_more_comparisons_find_more() -> None:
    rng = np.random.default_rng(1)
    items = rng.standard_normal((3000, 16)).astype(np.float32)
    few = HashingIndex.build(items, num_bits=32, num_compared=150).recall_at_100
    bits = HashingIndex.build(items, num_bits=128, num_compared=150).recall_at_100
    both = HashingIndex.build(items, num_bits=128, num_compared=600).recall_at_100
    assert few + 0.1 < bits < both - 0.1
    assert HashingIndex.build(items, num_compared=3000).recall_at_100 == 1.0
