"""The replicas of a fleet: placed, awaited, watched, and as many as the load asks for.

One replica, from its beginning to its end:

    placing → starting → ready ⇄ lost → … → draining → gone

A replica is asked for its place, then whether it is ready. One that answers is in the rotation.
One that does not is asked for its place again, for Ray has started it anew by then, or soon will.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from upnext.cluster.fleet.connections import Connections, LostError
from upnext.cluster.fleet.scaling import Window, wanted_replicas
from upnext.cluster.fleet.servers import Rotation, Server
from upnext.errors import ConfigError
from upnext.serving.config import FleetConfig

logger = logging.getLogger(__name__)

PROBE_EVERY_S = 0.5
ASK_AGAIN_S = 0.1
"""How soon one that is not ready yet is asked again."""
START_PATIENCE_S = 10.0
"""How long one that starts is waited for before it is asked where it is once more."""
LOOK_EVERY_S = 0.1
DRAIN_LOOK_S = 0.01
MAX_STARTS = 5
"""A replica that was started so often and was never ready will not get better by itself."""
CLEAR_AFTER_S = 5.0
"""How much longer than its server's own time an actor may take to end."""

State = Literal["placing", "starting", "unready", "ready", "lost", "draining"]
STATES: Sequence[State] = ("placing", "starting", "unready", "ready", "lost", "draining")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server listens, and which process it is, on which node."""

    host: str
    port: int
    managing_port: int
    node: str
    pid: int


class Numbers(Protocol):
    """What servers count."""

    async def read(self, server: Server) -> None:
        """Takes down what a server has counted so far; never raises."""

    def end(self, server: Server) -> None:
        """A server is asked nothing more."""


class Placed(Protocol):
    """Something that keeps a server running somewhere."""

    async def where(self) -> Place:
        """Waits until there is a server, and tells its place."""

    async def end(self) -> None:
        """Has the server finish what it was asked, and ends it."""

    def kill(self) -> None:
        """Ends it at once."""


@dataclass(kw_only=True, eq=False)
class Replica:
    """One of a fleet. `place` is that of the last start; `num_starts` counts them since one was
    ready. `server`: what is there, while it is asked anything."""

    placed: Placed
    state: State = "placing"
    place: Place | None = None
    server: Server | None = None
    num_starts: int = 0
    is_doubted: asyncio.Event = field(default_factory=asyncio.Event)
    keeping: "asyncio.Task[None] | None" = None


class Fleet:
    """Keeps so many replicas as there should be, and the rotation up to date.

    Args:
        place: has one more replica placed.
        graceful_s: how long what is under way may take when a replica is ended.
        host: what servers are called when they are asked whether they are ready.
        hopeless: called if no server has been ready, and none will.
        say: told of replicas that are lost, and of more and fewer of them.
    """

    def __init__(
        self,
        config: FleetConfig,
        rotation: Rotation,
        place: Callable[[], Placed],
        *,
        numbers: Numbers,
        graceful_s: float,
        host: str = "localhost",
        hopeless: Callable[[ConfigError], None],
        say: Callable[[str], None],
    ) -> None:
        self._config, self._rotation, self._place = config, rotation, place
        self._numbers, self._graceful_s = numbers, graceful_s
        self._hopeless, self._say = hopeless, say
        self._question = (f"GET /readyz HTTP/1.1\r\nhost: {host}\r\n\r\n".encode(),)
        self._replicas: list[Replica] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._window = Window()
        self._was_ever_ready = False
        rotation.doubt = self._doubt

    async def __aenter__(self) -> Self:
        """Has the first replicas placed; waits for none."""
        for _ in range(self._config.num_replicas):
            self._add()
        self._scaling = self._begin(self._keep_scaling())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends all of them, each with what it was asked."""
        self._scaling.cancel()
        await asyncio.gather(*self._leaving, *map(self._remove, self._staying()))
        for task in self._tasks:
            task.cancel()

    def num_in_state(self) -> Mapping[State, int]:
        """How many replicas are in each state."""
        counted = Counter(replica.state for replica in self._replicas)
        return {state: counted[state] for state in STATES}

    def _staying(self) -> list[Replica]:
        return [replica for replica in self._replicas if replica.state != "draining"]

    def _add(self) -> None:
        replica = Replica(placed=self._place())
        self._replicas.append(replica)
        replica.keeping = self._begin(self._keep(replica))

    async def _remove(self, replica: Replica) -> None:
        """Sends it nothing more, waits for what it was sent, and ends it."""
        self._turn(replica, "draining")
        if replica.keeping is not None:
            replica.keeping.cancel()
        if (server := replica.server) is not None:
            await self._drain(server)
            self._numbers.end(server)
            server.close()
            try:
                async with asyncio.timeout(self._graceful_s + CLEAR_AFTER_S):
                    await replica.placed.end()
            except Exception:  # it is gone already, or as good as gone
                logger.info("a replica could not be ended gracefully", exc_info=True)
        replica.placed.kill()
        self._replicas.remove(replica)

    async def _drain(self, server: Server) -> None:
        loop = asyncio.get_running_loop()
        by_s = loop.time() + self._graceful_s
        while server.num_in_flight and loop.time() < by_s:
            await asyncio.sleep(DRAIN_LOOK_S)
        await self._numbers.read(server)

    async def _keep(self, replica: Replica) -> None:
        while True:
            try:
                place = await replica.placed.where()
            except Exception:  # whatever Ray says of it: it is gone for good, and another is placed
                logger.warning("a replica is gone", exc_info=True)
                replica.placed.kill()
                replica.placed = self._place()
                replica.num_starts += 1
                self._turn(replica, "placing")
            else:
                await self._watch(replica, place)
            if replica.num_starts > MAX_STARTS:
                self._despair(replica)
            await asyncio.sleep(ASK_AGAIN_S)

    async def _watch(self, replica: Replica, place: Place) -> None:
        """Returns once there is no answer from a place any more."""
        server = replica.server = Server(
            name=f"{place.node} {place.pid} {place.port}",
            public=Connections(place.host, place.port),
            managing=Connections(place.host, place.managing_port),
        )
        if place != replica.place:
            replica.place, replica.num_starts = place, replica.num_starts + 1
            self._turn(replica, "starting")
        patience_s = max(START_PATIENCE_S, self._config.silent_s)
        while (state := await self._state_of(server, patience_s)) is not None:
            if state == "ready":
                replica.num_starts, self._was_ever_ready = 0, True
            patience_s = self._config.silent_s
            replica.is_doubted.clear()
            self._turn(replica, state)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_EVERY_S if state == "ready" else ASK_AGAIN_S):
                    await replica.is_doubted.wait()
        if replica.state in ("ready", "unready"):
            self._say(f"the replica with process {place.pid} is lost: another is awaited")
            self._turn(replica, "lost")
        replica.server = None
        self._numbers.end(server)
        server.close()

    async def _state_of(self, server: Server, patience_s: float) -> State | None:
        """Whether it is ready; None if it does not answer.

        It accepts nothing before it follows all labels: only then does the first answer come.
        """
        try:
            async with asyncio.timeout(patience_s):
                answer = await server.public.ask(self._question)
        except (LostError, TimeoutError):
            return None
        return "ready" if answer.status == 200 else "unready"

    def _despair(self, replica: Replica) -> None:
        """Where others are ready, it is tried on; what keeps this one from it may be its node's."""
        node = "no node" if replica.place is None else replica.place.node
        error = ConfigError(
            "a replica",
            expected="that it becomes ready",
            got=f"{replica.num_starts} starts, the last on {node}",
            hint="its standard error, in Ray's logs on that node, says why.",
        )
        replica.num_starts = 0
        if self._was_ever_ready:
            self._say(str(error))
        else:
            self._hopeless(error)

    def _turn(self, replica: Replica, state: State) -> None:
        """A replica is in another state, or in the same for certain."""
        replica.state = state
        ready = self._servers_that_are("ready")
        # One that is not ready says so better than the front could, where there is no other.
        self._rotation.servers = ready or self._servers_that_are("unready")

    def _servers_that_are(self, state: State) -> list[Server]:
        are_so = (one for one in self._replicas if one.state == state)
        return [one.server for one in are_so if one.server and not one.is_doubted.is_set()]

    def _doubt(self, server: Server) -> None:
        """Nobody else is sent there until it has answered once more."""
        self._rotation.servers = [one for one in self._rotation.servers if one is not server]
        for replica in self._replicas:
            if replica.server is server:
                replica.is_doubted.set()

    async def _keep_scaling(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._window.look(sum(one.num_in_flight for one in self._rotation.servers))
            mean = self._window.mean_after(self._config.window_s)
            if mean is not None:
                self._window.begin()
                self._scale(mean)

    def _scale(self, num_in_flight: float) -> None:
        """One that is not ready yet is waited for, or done without, before another is added."""
        staying = self._staying()
        num_ready = self.num_in_state()["ready"]
        if num_ready == 0:
            return
        wanted = wanted_replicas(self._config, num_ready, num_in_flight)
        if wanted > len(staying):
            self._say(f"{num_in_flight:.1f} requests under way in {num_ready}: one replica more")
            self._add()
        elif len(staying) > max(wanted, self._config.num_replicas):
            self._say(f"{num_in_flight:.1f} requests under way in {num_ready}: one replica less")
            unready = [replica for replica in staying if replica.state != "ready"]
            leaving = self._begin(self._remove((unready or staying)[-1]))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    def _begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
