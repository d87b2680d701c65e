import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.recommender.vectors import mean_vectors, pooled_vectors, window_means
from upnext.schema import Floats, Rows

NUM_ROWS, SIZE = 7, 5
VECTORS = np.random.default_rng(1).normal(size=(NUM_ROWS, SIZE)).astype(np.float32)
"""Of rows 0 to 6; rows beyond have none."""


@st.composite
def lines(draw: st.DrawFn) -> Rows:
    num_lines, num_slots = draw(st.integers(0, 4)), draw(st.integers(1, 8))
    line = st.lists(st.integers(0, NUM_ROWS + 2), min_size=num_slots, max_size=num_slots)
    told = [draw(line) for _ in range(num_lines)]
    return np.array(told, np.int32).reshape(num_lines, num_slots)


def known(line: Rows) -> Rows:
    return line[(line > 1) & (line < NUM_ROWS)]


def sum_in_order(line: Rows) -> Floats:
    total = np.zeros(SIZE, np.float32)
    for row in known(line):
        total = total + VECTORS[row]
    return total


def stacked(vectors: list[NDArray[np.float32]], size: int) -> Floats:
    return np.array(vectors, np.float32).reshape(len(vectors), size)


@given(lines())
def test_sums_are_those_of_known_rows_in_order_to_the_bit(rows: Rows) -> None:
    means = [sum_in_order(line) / np.float32(max(1, len(known(line)))) for line in rows]
    assert mean_vectors(VECTORS, rows).tobytes() == stacked(means, SIZE).tobytes()
    roots = [np.float32(np.sqrt(max(1, len(known(line))))) for line in rows]
    pooled = [sum_in_order(line) / root for line, root in zip(rows, roots, strict=True)]
    assert pooled_vectors(VECTORS, rows).tobytes() == stacked(pooled, SIZE).tobytes()


@given(lines(), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_each_window_is_the_mean_of_its_last_rows(rows: Rows, lengths: list[int]) -> None:
    told = window_means(VECTORS, rows, lengths)
    apart = [mean_vectors(VECTORS, rows[:, -length:]) for length in lengths]
    assert told.tobytes() == np.concatenate(apart, axis=1).tobytes()
    assert told.shape == (len(rows), len(lengths) * SIZE)
