"""How many replicas there should be."""

from hypothesis import given
from hypothesis import strategies as st

from upnext.cluster.fleet.scaling import Window, wanted_replicas
from upnext.serving.config import FleetConfig


@given(st.integers(1, 9), st.floats(0, 1000))
def test_what_a_steady_load_asks_for_is_kept(num_ready: int, num_in_flight: float) -> None:
    """One step at a time, within bounds, and never back and forth."""
    config = FleetConfig(num_replicas=2, max_replicas=8, busy_above=4.0)
    wanted = wanted_replicas(config, num_ready, num_in_flight)
    assert abs(wanted - num_ready) <= 1
    if 2 <= num_ready <= 8:
        assert 2 <= wanted <= 8
        again = wanted_replicas(config, wanted, num_in_flight)
        assert (again - wanted) * (wanted - num_ready) >= 0


def test_a_mean_is_that_of_the_window() -> None:
    now_s = 0.0
    window = Window(lambda: now_s)
    window.look(4.0)
    window.look(2.0)
    assert window.mean_after(1.0) is None
    now_s = 1.0
    assert window.mean_after(1.0) == 3.0
    window.begin()
    assert window.mean_after(0.0) is None
