"""Being part of a Ray cluster for a while, quietly: a running one, or one of this machine alone."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from upnext.errors import ConfigError

ANSWERS_WITHIN_S = 5.0

LOCAL = "local"
LOCAL_OBJECTS_BYTES = 256 << 20
"""Of shared memory; what is large travels as files, and more than this is spilled to disk."""
MAY_HAVE_OTHERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Read by Ray in each of its processes, on every system."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_DEDUP_LOGS": "0",
}
"""Nothing is told to anybody, and no line is kept back."""


@contextmanager
def connected(address: str, *, num_cpus: int | None = None) -> Iterator[None]:
    """Inside, this process is part of a cluster; of one that is left as it was, or of its own.

    Args:
        address: as `ray start` prints it, `HOST:PORT`; `local` starts a cluster of this machine,
            which listens on loopback and ends with this process; `auto` finds one that runs here.
        num_cpus: how many cores a local cluster reckons with; all there are by default.

    Raises: ConfigError: Ray is not installed, or there is no cluster at this address.
    """
    require_ray()
    import ray

    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "namespace": "upnext",
    }
    if address == LOCAL:
        with _on_loopback():
            ray.init(
                address=LOCAL,  # else a cluster that runs here already would be joined
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=LOCAL_OBJECTS_BYTES,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
    else:
        try:
            _check_answers(address)
            ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            hint = "`ray start --head` on one machine prints the address; or take `--ray local`."
            got = f"{address}, {error}".partition("\n")[0]
            raise ConfigError("--ray", expected="a Ray cluster", got=got, hint=hint) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """What Ray starts inside listens on loopback alone.

    Whatever address it is given, it takes one that others reach, and listens on all: unless it may
    not be part of a cluster of several machines, as where firewalls would ask about each port.
    """
    from ray._private import ray_constants

    before = os.environ.get(MAY_HAVE_OTHERS), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[MAY_HAVE_OTHERS], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
        os.environ.pop(MAY_HAVE_OTHERS)
        if before[0] is not None:
            os.environ[MAY_HAVE_OTHERS] = before[0]


def require_ray() -> None:
    """To be called before Ray is imported, which then reads that it is to be quiet.

    Raises: ConfigError: it is not installed.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        hint = "pip install 'upnext[ray]'."
        raise ConfigError("--ray", expected="Ray", got="none installed", hint=hint) from None


def check_is_seen(path: Path) -> None:
    """Called by a worker. Raises: ConfigError: it does not see what lies at the driver's path."""
    if not path.exists():
        raise ConfigError(
            str(path),
            expected="a path that all nodes see",
            got="none at a worker",
            hint="put it on a file system that the whole cluster shares.",
        )


def _check_answers(address: str) -> None:
    """Ray itself would try for minutes. Raises: OSError, ValueError: nobody listens there."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=ANSWERS_WITHIN_S).close()
