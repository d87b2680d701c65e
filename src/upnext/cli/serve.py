"""The verbs that serve: the server itself, and which label answers whom."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upnext.cli.crew import RayAddress
from upnext.cli.releases import refuse_missing
from upnext.cli.terminal import AsJson, Registry, print_result, say
from upnext.config import read_config
from upnext.errors import ConfigError

if TYPE_CHECKING:
    from upnext.serving.config import FleetConfig, ServingConfig
    from upnext.serving.traffic import ShadowConfig

ServeConfig = Annotated[
    Path | None,
    typer.Option("--config", metavar="SERVE.TOML", help="All settings; flags go before them."),
]


def serve(
    registry: Registry,
    config: ServeConfig = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port for releases, labels and metrics."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes that answer.")
    ] = None,
    allow_remote: Annotated[bool, typer.Option(help="Listen beyond this machine.")] = False,
    ray: RayAddress = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Servers on Ray, at least.")
    ] = None,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, metavar="M", help="Servers on Ray, when it is busy.")
    ] = None,
) -> None:
    """Serve the labelled releases over HTTP, following labels as they move.

    Without a configuration it listens on 127.0.0.1:8080, and keeps events in the registry.
    """
    refuse_missing(registry)
    settings = _settings(config, host, port, admin_port, processes, allow_remote)
    settings = replace(settings, fleet=_fleet(settings.fleet, ray, replicas, max_replicas))
    if ray is not None:
        from upnext.cluster.start import require_ray

        require_ray()
        from upnext.cluster.serving import serve_on_ray

        serve_on_ray(registry, settings, ray, say=say)
        return
    from upnext.recommender.warm import OpensWarm
    from upnext.serving.server import serve as serve_

    serve_(
        registry,
        OpensWarm(registry, max_batch=settings.queue.max_batch),
        settings,
        command=[sys.executable, "-m", "upnext", *sys.argv[1:]],
        say=say,
    )


def traffic(
    registry: Registry,
    shares: Annotated[
        list[str] | None, typer.Argument(metavar="LABEL=SHARE...", help="Such as stable=95.")
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(metavar="LABEL=PERCENT", help="Answers so many requests too, unseen."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Split users between labels, or tell how they are split; servers follow at once."""
    from upnext.registry.labels import read_labels
    from upnext.serving.traffic import Traffic, read_traffic, traffic_of, write_traffic

    refuse_missing(registry)
    if shares or shadow:
        asked = dict(_share(text) for text in shares or ["stable=100"])
        write_traffic(registry, traffic_of(asked, None if shadow is None else _shadow(shadow)))
    now: Traffic = read_traffic(registry)
    named = {*now.split, *([] if now.shadow is None else [now.shadow.label])}
    for label in sorted(named - read_labels(registry).keys()):
        say(f"label {label} points at no release yet")
    if as_json:
        told = None if now.shadow is None else {now.shadow.label: now.shadow.share}
        print_result({"split": now.split, "shadow": told})
        return
    parts = [f"{label} {share:.1%}" for label, share in now.split.items()]
    if now.shadow is not None:
        parts.append(f"unseen: {now.shadow.label} {now.shadow.share:.1%}")
    print_result(", ".join(parts))


def _settings(
    config: Path | None,
    host: str | None,
    port: int | None,
    admin_port: int | None,
    processes: int | None,
    allow_remote: bool,
) -> "ServingConfig":
    from upnext.serving.config import ServingConfig

    settings = read_config(config, ServingConfig) if config else ServingConfig()
    told = {"host": host, "port": port, "admin_port": admin_port, "num_processes": processes}
    flags = {name: value for name, value in told.items() if value is not None}
    http = replace(settings.http, **flags)  # type: ignore[arg-type]
    if allow_remote:
        http = replace(http, allow_remote=True)
    return replace(settings, http=http)


def _fleet(
    fleet: "FleetConfig", ray: str | None, replicas: int | None, max_replicas: int | None
) -> "FleetConfig":
    if ray is None and (replicas, max_replicas) != (None, None):
        got = "--replicas or --max-replicas without --ray"
        raise ConfigError("--ray", expected="an address, or `local`", got=got)
    told = {"num_replicas": replicas, "max_replicas": max_replicas}
    return replace(fleet, **{name: value for name, value in told.items() if value is not None})


def _share(text: str) -> tuple[str, float]:
    label, _, share = text.partition("=")
    try:
        return label, float(share.removesuffix("%"))
    except ValueError:
        raise ConfigError(text, expected="a label and its share, as stable=95", got=text) from None


def _shadow(text: str) -> "ShadowConfig":
    from upnext.serving.traffic import ShadowConfig

    label, percent = _share(text)
    return ShadowConfig(label=label, share=percent / 100)
