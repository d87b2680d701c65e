"""What the server processes of a machine do in turn, so that the others go on undisturbed."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from upnext.registry.servers import servers_path

LONGEST_S = 120.0
"""After which one goes on beside whoever has the turn: a process that is stopped keeps it."""
LOOK_EVERY_S = 0.02


@contextlib.contextmanager
def alone(registry: Path, what: str, *, longest_s: float = LONGEST_S) -> Iterator[None]:
    """Inside, no other process of this machine is where it does the same; it waits for its turn.

    A process that is killed loses its turn. Where no lock can be made, as on a read-only disk, each
    goes by itself; so does one that has waited for `longest_s`.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            servers_path(registry).mkdir(exist_ok=True)
            lock = held.enter_context((servers_path(registry) / f"{what}.lock").open("ab"))
            _take(lock, time.monotonic() + longest_s)
        yield


def _take(lock: IO[bytes], by_s: float) -> None:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > by_s:
                return
            time.sleep(LOOK_EVERY_S)
        else:
            return
