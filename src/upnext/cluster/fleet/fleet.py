"""The replicas of a fleet: placed, awaited, watched, and as many as the load asks for.

One replica, from its beginning to its end:

    placing → starting → ready ⇄ lost → … → draining → gone

A replica is asked for its place, then whether it is ready. One that answers is in the rotation.
One that does not is asked for its place again, for Ray has started it anew by then, or soon will.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from upnext.cluster.fleet.connections import Answer, Connections, LostError
from upnext.cluster.fleet.scaling import Window, wanted_replicas
from upnext.cluster.fleet.servers import Rotation, Server
from upnext.errors import ConfigError
from upnext.serving.config import FleetConfig

logger = logging.getLogger(__name__)

PROBE_EVERY_S = 0.5
ASK_AGAIN_S = 0.1
"""How soon one that is not ready yet is asked again."""
LOOK_EVERY_S = 0.1
MAX_STARTS = 5
"""A replica that was started so often and was never ready will not get better by itself."""
CLEAR_AFTER_S = 5.0
"""How much longer than its server's own time an actor may take to end."""

State = Literal["placing", "starting", "unready", "ready", "lost", "draining"]
STATES: Sequence[State] = ("placing", "starting", "unready", "ready", "lost", "draining")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server listens, and which process it is."""

    host: str
    port: int
    managing_port: int
    node: str
    pid: int


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
    """One of a fleet. `place` and `server` are those of the last start; `num_starts` counts them
    since one was ready."""

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
        host: what servers are called when they are asked whether they are ready.
        before_end: called with a server before it is ended.
        hopeless: called if no server has been ready, and none will.
    """

    def __init__(
        self,
        config: FleetConfig,
        rotation: Rotation,
        place: Callable[[], Placed],
        *,
        graceful_s: float,
        host: str = "localhost",
        before_end: Callable[[Server], Awaitable[None]],
        hopeless: Callable[[ConfigError], None],
        say: Callable[[str], None],
    ) -> None:
        self._config, self._rotation, self._place = config, rotation, place
        self._graceful_s, self._before_end = graceful_s, before_end
        self._hopeless, self._say = hopeless, say
        self._question = (f"GET /readyz HTTP/1.1\r\nhost: {host}\r\n\r\n".encode(),)
        self.replicas: list[Replica] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._window = Window()
        self._was_ever_ready = False
        rotation.doubt = self._doubt

    async def __aenter__(self) -> None:
        """Has the first replicas placed; waits for none."""
        for _ in range(self._config.num_replicas):
            self._add()
        self._scaling = self._begin(self._keep_scaling())

    async def __aexit__(self, *_: object) -> None:
        """Ends all of them, each with what it was asked."""
        self._scaling.cancel()
        await asyncio.gather(*map(self._remove, self.replicas))
        for task in self._tasks:
            task.cancel()

    def num_in_state(self) -> Counter[State]:
        """How many replicas are in each state."""
        return Counter(replica.state for replica in self.replicas)

    def _add(self) -> None:
        replica = Replica(placed=self._place())
        self.replicas.append(replica)
        replica.keeping = self._begin(self._keep(replica))

    async def _remove(self, replica: Replica) -> None:
        """Sends it nothing more, waits for what it was sent, and ends it."""
        self._tell(replica, "draining")
        if replica.keeping is not None:
            replica.keeping.cancel()
        if replica.server is not None:
            await self._drain(replica.server)
            replica.server.close()
            try:
                async with asyncio.timeout(self._graceful_s + CLEAR_AFTER_S):
                    await replica.placed.end()
            except Exception:  # it is gone already, or as good as gone
                logger.info("a replica could not be ended gracefully", exc_info=True)
        replica.placed.kill()

    async def _drain(self, server: Server) -> None:
        loop = asyncio.get_running_loop()
        by_s = loop.time() + self._graceful_s
        while server.num_in_flight and loop.time() < by_s:
            await asyncio.sleep(LOOK_EVERY_S / 10)
        await self._before_end(server)

    async def _keep(self, replica: Replica) -> None:
        while True:
            try:
                await self._keep_once(replica)
            except Exception:  # whatever Ray says of it, it is asked again
                logger.exception("a replica could not be kept")
            await asyncio.sleep(ASK_AGAIN_S)

    async def _keep_once(self, replica: Replica) -> None:
        """From where it is now until it is there no longer."""
        place = await replica.placed.where()
        if place != replica.place:
            self._moved(replica, place)
        server = replica.server
        assert server is not None
        if self._should_give_up(replica):
            return
        while (state := await self._state_of(server)) is not None:
            if state == "ready":
                replica.num_starts, self._was_ever_ready = 0, True
            self._tell(replica, state)
            every_s = PROBE_EVERY_S if state == "ready" else ASK_AGAIN_S
            replica.is_doubted.clear()
            await _first(replica.is_doubted.wait(), asyncio.sleep(every_s))
        if replica.state in ("ready", "unready"):
            self._tell(replica, "lost")
            self._say(f"replica {place.pid} on {place.node} is lost: another is awaited")
            replica.server = _again(server)
            server.close()

    def _moved(self, replica: Replica, place: Place) -> None:
        if replica.server is not None:
            replica.server.close()
        replica.place, replica.num_starts = place, replica.num_starts + 1
        replica.server = Server(
            public=Connections(place.host, place.port),
            managing=Connections(place.host, place.managing_port),
        )
        self._tell(replica, "starting")

    def _should_give_up(self, replica: Replica) -> bool:
        if self._was_ever_ready or replica.num_starts <= MAX_STARTS:
            return False
        assert replica.place is not None
        got = f"{replica.num_starts} starts, the last on {replica.place.node}"
        hint = "its standard error, in Ray's logs on that node, says why."
        self._hopeless(ConfigError("replica", expected="to become ready", got=got, hint=hint))
        return True

    async def _state_of(self, server: Server) -> State | None:
        """Whether it answers, and is ready; None if it does not answer.

        It accepts nothing before it follows all labels, so that no answer is awaited for long only
        once it has answered.
        """
        is_known = server in self._rotation.servers
        try:
            async with asyncio.timeout(self._config.silent_s if is_known else None):
                answer: Answer = await server.public.ask(self._question)
        except (LostError, TimeoutError):
            return None
        return "ready" if answer.status == 200 else "unready"

    def _tell(self, replica: Replica, state: State) -> None:
        if state == replica.state:
            return
        replica.state = state
        by_state = {
            state: [one.server for one in self.replicas if one.state == state and one.server]
            for state in ("ready", "unready")
        }
        # One that is not ready says so better than the front could, where there is no other.
        self._rotation.servers = by_state["ready"] or by_state["unready"]

    def _doubt(self, server: Server) -> None:
        self._rotation.servers = [one for one in self._rotation.servers if one is not server]
        for replica in self.replicas:
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
        num_ready = self.num_in_state()["ready"]
        if num_ready == 0:
            return
        wanted = wanted_replicas(self._config, num_ready, num_in_flight)
        if wanted > len(self.replicas):
            self._say(f"{num_in_flight:.1f} requests under way: one more replica")
            self._add()
        elif wanted < num_ready or (wanted == num_ready < len(self.replicas) > self._least):
            self._say(f"{num_in_flight:.1f} requests under way: one replica less")
            self._begin(self._leave(self._dispensable()))

    @property
    def _least(self) -> int:
        return self._config.num_replicas

    def _dispensable(self) -> Replica:
        """One that is not ready, else the youngest."""
        unready = [one for one in self.replicas if one.state != "ready"]
        return (unready or self.replicas)[-1]

    async def _leave(self, replica: Replica) -> None:
        await self._remove(replica)
        self.replicas.remove(replica)

    def _begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _again(server: Server) -> Server:
    """The same place, should the server have been slow and not gone."""
    return Server(
        public=Connections(server.public.host, server.public.port),
        managing=Connections(server.managing.host, server.managing.port),
    )


async def _first(*works: Coroutine[Any, Any, Any]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
