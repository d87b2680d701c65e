"""What `/metrics` of a fleet tells: the sums of its servers, and what the front counts itself."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from upnext.cluster.fleet.connections import LostError
from upnext.cluster.fleet.fleet import State
from upnext.cluster.fleet.servers import Rotation, Server
from upnext.cluster.fleet.summing import Summed

PATIENCE_S = 2.0
"""How long a server may take to tell its numbers; without an answer those of before count."""


class FleetNumbers:
    """The numbers of all servers, and of the fleet.

    Args:
        host: what servers are called.
        token: what opens their `/metrics`, if anything has to.
    """

    def __init__(self, rotation: Rotation, *, host: str, token: bytes | None) -> None:
        self._rotation, self._summed = rotation, Summed()
        head = f"GET /metrics HTTP/1.1\r\nhost: {host}\r\n".encode()
        if token is not None:
            head += b"authorization: Bearer " + token + b"\r\n"
        self._question = (head + b"\r\n",)

    async def read(self, server: Server) -> None:
        """Takes down what a server has counted so far; never raises."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await server.managing.ask(self._question)
        except (LostError, TimeoutError):
            return
        if answer.status == 200:  # to be read in a thread, as it takes some ten milliseconds
            await asyncio.to_thread(self._summed.take, server.name, answer.body.decode())

    def end(self, server: Server) -> None:
        """What it counted stays counted."""
        self._summed.end(server.name)

    async def to_text(
        self, num_in_state: Callable[[], Mapping[State, int]], num_in_flight: int
    ) -> bytes:
        """All of it, as Prometheus reads it, once every server has been asked."""
        await asyncio.gather(*map(self.read, self._rotation.servers))
        own = _Own(self._rotation, num_in_state(), num_in_flight)
        return await asyncio.to_thread(_as_text, self._summed, own)


class _Own(Collector):
    def __init__(
        self, rotation: Rotation, num_in_state: Mapping[State, int], num_in_flight: int
    ) -> None:
        self._rotation, self._num_in_state = rotation, num_in_state
        self._num_in_flight = num_in_flight

    def collect(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            "upnext_fleet_replicas", "Replicas in each state.", labels=["state"]
        )
        for state, number in self._num_in_state.items():
            states.add_metric([state], number)
        yield states
        yield GaugeMetricFamily(
            "upnext_fleet_in_flight", "Requests that the front holds.", self._num_in_flight
        )
        yield CounterMetricFamily(
            "upnext_fleet_retried",
            "Requests that another server was asked, as one was lost.",
            self._rotation.num_retried,
        )
        yield CounterMetricFamily(
            "upnext_fleet_refused",
            "Requests that no server was there for.",
            self._rotation.num_refused,
        )


def _as_text(*collectors: Collector) -> bytes:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)
