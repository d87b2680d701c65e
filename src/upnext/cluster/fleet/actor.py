"""A replica as Ray knows it: an actor that keeps one server running on the node that it is on.

Ray finds it a place, starts it anew when it or its node is gone, and counts its cores. It answers
no request: it holds the sockets of a server that is a child of its process.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from upnext.cluster.fleet.fleet import Place
from upnext.serving.listening import listen
from upnext.serving.processes import LISTENERS, ONE_THREAD

PROGRAM = "upnext.cluster.fleet.server"
SMALLEST_PART = 0.001
"""Of a node's own resource in Ray, which says that an actor has to be on that node."""


class ServerActor:
    """Starts the server; this process ends when the server does so unasked, and Ray tries again.

    Args:
        arguments: of Python, after `-m`: a program such as `server`.
        settings: what it reads.
        host: where it listens; None: on the address that other nodes know this one by.
    """

    def __init__(self, arguments: Sequence[str], settings: bytes, host: str | None) -> None:
        self._node: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._host = host or self._node
        self._listeners = [listen(self._host, 0), listen(self._host, 0)]
        self._is_told_to_end = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            env=_environment(self._listeners),
            pass_fds=[listener.fileno() for listener in self._listeners],
        )
        assert self._process.stdin is not None
        with self._process.stdin as pipe:
            pipe.write(settings)
        threading.Thread(target=self._end_with_it, daemon=True).start()

    def where(self) -> Place:
        """Where the server listens; it accepts as soon as it can answer."""
        port, managing_port = (listener.getsockname()[1] for listener in self._listeners)
        return Place(
            host=self._host,
            port=port,
            managing_port=managing_port,
            node=self._node,
            pid=self._process.pid,
        )

    def end(self) -> None:
        """Has the server finish what it has accepted, and waits for its end."""
        self._is_told_to_end.set()
        self._process.terminate()
        self._process.wait()

    def _end_with_it(self) -> None:
        self._process.wait()
        if not self._is_told_to_end.is_set():
            os._exit(1)


def _environment(listeners: Sequence[socket.socket]) -> Mapping[str, str]:
    numbers = ",".join(str(listener.fileno()) for listener in listeners)
    return {**os.environ, **ONE_THREAD, LISTENERS: numbers}


class RayReplica:
    """An actor, as the front sees it.

    Args:
        node: the address of the only node that it may be on; None: any.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        settings: bytes,
        *,
        host: str | None,
        node: str | None,
        num_cores: float,
    ) -> None:
        actor = ray.remote(ServerActor).options(
            num_cpus=num_cores,
            resources={} if node is None else {f"node:{node}": SMALLEST_PART},
            scheduling_strategy="SPREAD",
            max_restarts=-1,
            max_task_retries=-1,  # so that `where` waits for the next start
            max_concurrency=2,  # and is answered while `end` waits
        )
        self._actor: Any = actor.remote(tuple(arguments), settings, host)

    async def where(self) -> Place:
        """Waits until Ray has placed and started it. Raises RayError: it never will."""
        place: Place = await self._actor.where.remote()
        return place

    async def end(self) -> None:
        """Has the server finish what it was asked. Raises RayError: it is gone."""
        await self._actor.end.options(max_task_retries=0).remote()

    def kill(self) -> None:
        """Ends it at once, and for good."""
        ray.kill(self._actor, no_restart=True)
