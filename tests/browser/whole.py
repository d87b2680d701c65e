"""All of it as it is run: a trained registry, a server of two processes, a console beside it."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.serving.processes import begin, end, publish_again, start

from upnext.registry.moves import move_label

NUM_PROCESSES = 2


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Where it all is. Release 1 is `stable`; release 2 has the same files."""

    registry: Path
    server_url: str
    managed_url: str
    console_url: str


@contextmanager
def running_whole(trained: Path, directory: Path, root: Path) -> Iterator[Whole]:
    """Runs it over a copy of a registry with one release.

    Args:
        trained: the registry. directory: where the copy goes. root: of the repository.
    """
    registry = Path(shutil.copytree(trained, directory / "registry"))
    publish_again(registry)
    move_label(registry, "stable", 1)
    serve = ["upnext", "serve", str(registry), "--port", "0", "--admin-port", "0"]
    served = start(
        registry, [*serve, "--processes", str(NUM_PROCESSES)], "stderr", root, NUM_PROCESSES
    )
    with ExitStack() as at_the_end:
        at_the_end.callback(end, served.process)
        show = ["upnext", "console", "--port", "0"]
        console, console_url, _ = begin(
            [*show, "--server", served.url, "--managed", served.admin_url], "stderr", root
        )
        at_the_end.callback(end, console)
        yield Whole(
            registry=registry,
            server_url=served.url,
            managed_url=served.admin_url,
            console_url=console_url,
        )
