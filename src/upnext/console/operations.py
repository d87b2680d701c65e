"""What was set in motion and may take a while: it goes on while pages come and go."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Literal

from upnext.console.client import Json
from upnext.errors import UpnextError

KEPT = 50


@dataclass
class Operation:
    """Something that the server was told to do. `steps`: what it says that it did, and when."""

    number: int
    title: str
    began_ms: float
    state: Literal["running", "done", "failed"] = "running"
    steps: list[Json] = field(default_factory=list)
    error: str = ""
    took_s: float = 0.0


class Operations:
    """The last ones, by number."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._all: dict[int, Operation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._num_started = 0

    def start(self, title: str, work: Coroutine[None, None, Json]) -> Operation:
        """Sets something in motion and returns at once."""
        self._num_started += 1
        began_s = self._clock()
        operation = Operation(self._num_started, title, began_s * 1e3)
        self._all[operation.number] = operation
        for number in [n for n, one in self._all.items() if one.state != "running"][:-KEPT]:
            del self._all[number]
        task = asyncio.create_task(self._run(operation, work, began_s))
        self._tasks.add(task)  # the loop itself keeps no hold of its tasks
        task.add_done_callback(self._tasks.discard)
        return operation

    def get(self, number: int) -> Operation | None:
        """One of the last, or None."""
        return self._all.get(number)

    async def _run(
        self, operation: Operation, work: Coroutine[None, None, Json], began_s: float
    ) -> None:
        try:
            told = await work
            operation.steps = list(told.get("steps", ()))
            operation.state = "done"
        except UpnextError as error:
            operation.error, operation.state = str(error), "failed"
        finally:
            if operation.state == "running":
                operation.error = "The console stopped waiting for it; nobody knows how it ended."
                operation.state = "failed"
            operation.took_s = self._clock() - began_s
