"""The numbers of a fleet: sums of what its servers tell, which never fall when one is gone."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client import Counter as Counted
from prometheus_client.parser import text_string_to_metric_families

from upnext.cluster.fleet.summing import Summed


def text_of(times_s: Sequence[float], waiting: int) -> str:
    registry = CollectorRegistry()
    answers = Counted("upnext_answers", "Answers.", ["label"], registry=registry)
    took = Histogram("upnext_took_seconds", "Times.", buckets=(1.0, 2.0), registry=registry)
    Gauge("upnext_waiting", "Waiting.", registry=registry).set(waiting)
    Gauge("upnext_release_state", "State.", ["state"], registry=registry).labels("ready").set(1)
    for time_s in times_s:
        answers.labels('a "quoted" one').inc()
        took.observe(time_s)
    return generate_latest(registry).decode()


def told(summed: Summed) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(summed)
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


Steps = Sequence[tuple[str, list[float], bool]]
STEPS: st.SearchStrategy[Steps] = st.lists(
    st.tuples(st.sampled_from("abc"), st.lists(st.floats(0, 3), max_size=3), st.booleans()),
    max_size=12,
)


@given(STEPS)
def test_sums_are_those_of_all_that_was_ever_told(steps: Steps) -> None:
    summed, seen, living = Summed(), Counter[str](), set[str]()
    times: dict[str, list[float]] = {}
    for server, more, ends in steps:
        times.setdefault(server, []).extend(more)
        summed.take(server, text_of(times[server], waiting=2))
        living.add(server)
        if ends:
            summed.end(server)
            living.discard(server)
        numbers = told(summed)
        all_times = [time_s for one in times.values() for time_s in one]
        assert numbers.get("upnext_answers_total", 0) == len(all_times)
        assert numbers["upnext_took_seconds_bucket1.0"] == sum(one <= 1 for one in all_times)
        assert numbers.get("upnext_waiting", 0) == 2 * len(living)
        assert numbers.get("upnext_release_state", 1) == 1
        counted = Counter({name: int(v) for name, v in numbers.items() if "_bucket" in name})
        assert counted >= seen
        seen = counted
