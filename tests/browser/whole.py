"""All of it as it is run: a trained registry, a server of two processes, a console beside it."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.patience import get
from tests.serving.processes import Served, begin, end, publish_again, start, wait_until

from upnext.registry.moves import move_label
from upnext.registry.release import open_release

NUM_PROCESSES = 2
ADMIN_TOKEN = "the-token-of-the-operators"
EVENTS_TOKEN = "the-token-of-the-players"
TURNED = ("retrieval/item_vectors.npy", "ranking/item_vectors.npy")
"""With these the other way round, a release answers as one that was trained otherwise."""


@dataclass(kw_only=True)
class Whole:
    """Where it all is; whoever changes something there needs its token.

    Release 1 is `stable`; release 2, which answers otherwise, is `canary`; release 3 answers as 2
    does and has no label. `begin_server` begins one on two ports.
    """

    registry: Path
    server: Served
    console_url: str
    begin_server: Callable[[int, int], Served]

    @contextmanager
    def without_server(self) -> Iterator[None]:
        """Its processes die on the spot; afterwards it is begun again on the same ports."""
        ports = [urlsplit(url).port or 0 for url in (self.server.url, self.server.admin_url)]
        os.killpg(self.server.process.pid, signal.SIGKILL)
        self.server.process.communicate()
        wait_until(lambda: not self.server.pids())
        try:
            yield
        finally:
            self.server = self.begin_server(*ports)

    def labels(self) -> dict[str, int]:
        """Where they stand, as the server tells it."""
        ready = get(f"{self.server.url}/readyz").json()
        labels: dict[str, int] = ready["labels"]
        return labels


@contextmanager
def running_whole(trained: Path, directory: Path, root: Path) -> Iterator[Whole]:
    """Runs it over a copy of a registry with one release.

    Args:
        trained: the registry. directory: where the copy goes. root: of the repository.
    """
    registry = Path(shutil.copytree(trained, directory / "registry"))
    first = open_release(registry, 1)
    for _ in range(2):
        publish_again(registry, {name: first.array(name)[::-1] for name in TURNED})
    move_label(registry, "stable", 1)
    move_label(registry, "canary", 2)
    config = _configured(directory)

    def begin_server(port: int, admin_port: int) -> Served:
        ports = ["--port", str(port), "--admin-port", str(admin_port)]
        serve = ["upnext", "serve", str(registry), "--config", str(config), *ports]
        return start(registry, serve, "stderr", root, NUM_PROCESSES)

    with ExitStack() as at_the_end:
        server = begin_server(0, 0)
        at_the_end.callback(lambda: end(whole.server.process))
        show = ["upnext", "console", "--port", "0", "--server", server.url]
        console, url, _ = begin([*show, "--managed", server.admin_url], "stderr", root)
        at_the_end.callback(end, console)
        whole = Whole(registry=registry, server=server, console_url=url, begin_server=begin_server)
        yield whole


def _configured(directory: Path) -> Path:
    """The file of a server's settings, with a token for each who may change something."""
    lines = ["[http]", f"num_processes = {NUM_PROCESSES}", "[security]"]
    for access, token in (("admin", ADMIN_TOKEN), ("events", EVENTS_TOKEN)):
        file = directory / f"{access}.token"
        file.touch(mode=0o600)
        file.write_text(token)
        lines.append(f'{access}_token_file = "{file}"')
    config = directory / "serve.toml"
    config.write_text("\n".join(lines))
    return config
