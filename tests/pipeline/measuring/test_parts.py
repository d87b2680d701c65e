"""However events are dealt out, each is measured once, in its batch, and comes back in order."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upnext.pipeline.measuring.parts import Arrays, Part, joined, measure_part


@dataclass(frozen=True)
class WhoWasThere:
    """Finds of each event its number, and what stood with it in its batch."""

    num_events: int
    batch_size: int

    def measure(self, batch: slice) -> Arrays:
        events = np.arange(batch.start, batch.stop)
        return {"event": events, "batch": np.full((len(events), 2), [batch.start, batch.stop])}


@given(num_events=st.integers(0, 200), batch_size=st.integers(1, 30), of=st.integers(1, 12))
def test_any_number_of_parts_finds_what_one_finds(
    num_events: int, batch_size: int, of: int
) -> None:
    measurement = WhoWasThere(num_events, batch_size)
    whole = measure_part(measurement)
    parts = joined([measure_part(measurement, Part(number, of)) for number in range(of)])
    assert whole.keys() == parts.keys()
    for name, array in whole.items():
        assert parts[name].tolist() == array.tolist()
    if num_events:
        assert whole["event"].tolist() == list(range(num_events))


@given(num_events=st.integers(0, 200), batch_size=st.integers(1, 30), of=st.integers(1, 12))
def test_parts_are_of_one_size_but_for_a_batch(num_events: int, batch_size: int, of: int) -> None:
    sizes = [len(Part(number, of).batches(num_events, batch_size)) for number in range(of)]
    assert max(sizes) - min(sizes) <= 1
