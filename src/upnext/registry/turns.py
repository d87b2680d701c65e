"""What the server processes of a machine do in turn, so that the others go on undisturbed."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from upnext.registry.servers import servers_path


@contextlib.contextmanager
def alone(registry: Path, what: str) -> Iterator[None]:
    """Inside, no other process of this machine is where it does the same; it waits for its turn.

    Where no lock can be made, as on a read-only disk, each goes by itself. A process that is killed
    loses its turn.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            servers_path(registry).mkdir(exist_ok=True)
            lock = held.enter_context((servers_path(registry) / f"{what}.lock").open("ab"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
