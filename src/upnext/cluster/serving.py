"""`upnext serve --ray`, top to bottom: a cluster, a front that listens, replicas behind it."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import ray

from upnext.cluster.fleet.actor import PROGRAM, RayReplica
from upnext.cluster.fleet.endpoint import SERVER_NAME, FleetEndpoint
from upnext.cluster.start import connected
from upnext.config import config_to_table
from upnext.errors import ConfigError
from upnext.serving.config import ServingConfig
from upnext.serving.json_logs import log_as_json
from upnext.serving.listening import ended_by_signals, listen_all, refuse_remote, told
from upnext.serving.server import SWITCH_EVERY_S, securities_of

LOOPBACK, ANY_ADDRESS = "127.0.0.1", "0.0.0.0"

Say = Callable[[str], None]


def serve_on_ray(
    registry: Path,
    config: ServingConfig,
    address: str,
    *,
    say: Say,
    program: Sequence[str] = (PROGRAM,),
) -> None:
    """Serves a registry by replicas on a Ray cluster, until interrupted or terminated.

    Args:
        registry: a directory that all nodes see under this path.
        address: of the cluster, as `cluster.start.connected` takes it.
        say: told once where the front listens, and of replicas that come and go.
        program: what each replica runs: a module, and its first arguments.

    Raises:
        ConfigError: as `serving.server.serve` and `connected`; `num_processes` is set; events
            are to lie in a file, and replicas on several machines; or no replica becomes ready.
    """
    refuse_remote(config.http)
    securities = securities_of(config)
    if config.http.num_processes > 1:
        hint = "more replicas answer more."
        raise ConfigError("[http] num_processes", expected="1 on Ray", got="more", hint=hint)
    if config.logs == "json":
        log_as_json()
    listeners = listen_all(config.http)
    num_cores = max(os.cpu_count() or 1, round(config.fleet.most * config.fleet.cores_per_replica))
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        stack.enter_context(_silent_stdout())
        stack.enter_context(connected(address, num_cpus=num_cores))
        stack.enter_context(ended_by_signals())  # Ray has taken signals for itself
        here: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        others = {node["NodeManagerAddress"] for node in nodes if node["Alive"]} - {here}
        node = here if must_share_machine(config, has_others=bool(others)) else None
        if others and node:
            say("all replicas are on this machine; --allow-remote lets them go to others")
        replica_config = config_of_replicas(config, are_remote=node is None)
        securities_of(replica_config)
        sys.setswitchinterval(SWITCH_EVERY_S)
        place = partial(
            RayReplica,
            [*program, str(registry.resolve())],
            msgspec.json.encode(config_to_table(replica_config)),
            host=None if node is None else LOOPBACK,
            node=node,
            num_cores=config.fleet.cores_per_replica,
        )
        managing_port = listeners[1].getsockname()[1] if listeners[1:] else None
        endpoint = FleetEndpoint(config, securities, place, managing_port=managing_port, say=say)
        say(f"serving {registry} on {told(config.http, listeners)}")
        endpoint.run(listeners)


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """Where Ray tells at length of every process that is gone; the fleet says what it comes to."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def config_of_replicas(config: ServingConfig, *, are_remote: bool) -> ServingConfig:
    """What each replica is told: its sockets are an actor's, and it is asked by the front alone."""
    host = ANY_ADDRESS if are_remote else LOOPBACK
    http = replace(config.http, host=host, port=0, admin_host=host, admin_port=0)
    security = replace(
        config.security,
        allowed_hosts=(SERVER_NAME,),
        read_token_file=_whole(config.security.read_token_file),
        events_token_file=_whole(config.security.events_token_file),
        admin_token_file=_whole(config.security.admin_token_file),
    )
    return replace(config, http=http, security=security)


def _whole(path: str | None) -> str | None:
    """An actor works in another directory."""
    return None if path is None else str(Path(path).resolve())


def must_share_machine(config: ServingConfig, *, has_others: bool) -> bool:
    """Whether all replicas have to be on the front's machine.

    Args:
        has_others: whether the cluster has other machines.

    Raises: ConfigError: they are meant to be on several, and cannot.
    """
    if not config.http.allow_remote:
        return True
    if not config.live_history or config.events.store != "sqlite":
        return False
    if has_others:
        raise ConfigError(
            "[events] store",
            expected="redis, as the cluster has other machines, which cannot share a file",
            got="sqlite",
            hint="live_history = false does without; without allow_remote all replicas are on "
            "this machine.",
        )
    return True
