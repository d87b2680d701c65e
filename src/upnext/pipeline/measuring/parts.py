"""Many events measured in parts, wherever, and put together: the same numbers from any parts.

Events go through in batches, always cut at the same places, and nothing about a batch depends on
another. A part is some batches that follow one another. So how many parts there are decides who
works, never what comes out, to the last bit: matrix products of other sizes would round elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Arrays = Mapping[str, NDArray[Any]]
"""What was found by name, in the order of the events."""


@dataclass(frozen=True)
class Part:
    """The `number`-th, from 0, of `of` parts of whatever is to be done."""

    number: int
    of: int

    def batches(self, num_events: int, batch_size: int) -> list[slice]:
        """The batches that are this part's; parts differ by one batch at most.

        >>> Part(1, 2).batches(25, 10)
        [slice(10, 20, None), slice(20, 25, None)]
        """
        num_batches = -(-num_events // batch_size)
        first, end = (num_batches * cut // self.of for cut in (self.number, self.number + 1))
        starts = (batch_size * place for place in range(first, end))
        return [slice(start, min(start + batch_size, num_events)) for start in starts]


WHOLE = Part(0, 1)


class Measurement(Protocol):
    """Something that is measured of so many events, a batch at a time."""

    @property
    def num_events(self) -> int:
        """How many there are."""
        ...

    @property
    def batch_size(self) -> int:
        """How many are measured at once."""
        ...

    def measure(self, batch: slice) -> Arrays:
        """What is found of these events, which must not depend on what else was measured."""
        ...


def measure_part(measurement: Measurement, part: Part = WHOLE) -> Arrays:
    """What is found of one part; of a part without events, nothing.

    One thread sums, since the number of threads may decide how sums are rounded.
    """
    with threadpool_limits(1):
        batches = part.batches(measurement.num_events, measurement.batch_size)
        return joined([measurement.measure(batch) for batch in batches])


def joined(parts: Sequence[Arrays]) -> Arrays:
    """What was found of parts that follow one another, as if of one; empty ones count for nothing.

    >>> joined([{"ranks": np.array([3, 1])}, {}, {"ranks": np.array([7])}])
    {'ranks': array([3, 1, 7])}
    """
    found = [part for part in parts if part]
    names = found[0] if found else ()
    return {name: np.concatenate([part[name] for part in found]) for name in names}
