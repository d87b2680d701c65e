"""What lies in a registry and what runs of it: each release, its labels, its servers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upnext.errors import ReleaseError
from upnext.registry.evaluations import (
    Baselines,
    Metrics,
    best_baselines,
    evaluation_path,
    own_metrics,
    read_evaluation,
)
from upnext.registry.labels import read_labels
from upnext.registry.release import list_releases
from upnext.registry.remembered import remembered_release
from upnext.registry.servers import ServerStatus, State, read_servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One server that has a release in it; `cause`: why it failed there.

    `load_time_s`: how long it took to become ready, and `num_tried` requests that it answered
    meanwhile; None where it is not ready, or a server does not tell.
    """

    server: str
    pid: int
    state: State
    cause: str = ""
    load_time_s: float | None = None
    num_tried: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """One published release. What a damaged one would say of itself is None; `problem` says why.

    `created_at` and `train_until` are ISO 8601 in UTC. `training`: the folder of its curves.
    `metrics`: its own, by stage, where it was evaluated, and the best of `baselines` at each; a
    damaged report is a `problem` too.
    """

    version: int
    labels: Sequence[str]
    created_at: str = ""
    train_until: str | None = None
    num_items: int | None = None
    size_bytes: int = 0
    servers: Sequence[Holder] = ()
    problem: str = ""
    training: str | None = None
    has_evaluation: bool = False
    metrics: Metrics = field(default_factory=dict)
    baselines: Baselines = field(default_factory=dict)


def overview(registry: Path) -> list[Overview]:
    """Every release, oldest first. Files are not verified, so that it takes a moment.

    Raises: ReleaseError: the journal of labels is damaged.
    """
    labels, servers = read_labels(registry), read_servers(registry)
    return [
        _row(registry, version, labels_of(version, labels), holders_of(version, servers))
        for version in list_releases(registry)
    ]


def labels_of(version: int, labels: Mapping[str, int]) -> list[str]:
    """The labels that stand at a version, of where they all stand."""
    return [label for label, at in labels.items() if at == version]


def holders_of(version: int, servers: Sequence[ServerStatus]) -> list[Holder]:
    """Who of the living servers has a version in it."""
    return [
        Holder(
            server=one.server,
            pid=one.pid,
            state=held.state,
            cause=held.cause,
            load_time_s=held.load_time_s,
            num_tried=held.num_tried,
        )
        for one in servers
        for held in one.releases
        if held.version == version
    ]


def _row(
    registry: Path, version: int, labels: Sequence[str], servers: Sequence[Holder]
) -> Overview:
    metrics, baselines, damage = _measured(registry, version)
    has_evaluation = evaluation_path(registry, version).exists()
    try:
        release = remembered_release(registry, version)
    except ReleaseError as error:
        return Overview(
            version=version,
            labels=labels,
            servers=servers,
            problem=str(error),
            has_evaluation=has_evaluation,
            metrics=metrics,
            baselines=baselines,
        )
    return Overview(
        version=version,
        labels=labels,
        created_at=release.created_at,
        train_until=release.metadata.get("train_until"),
        num_items=release.metadata.get("num_items"),
        size_bytes=release.size_bytes,
        servers=servers,
        problem=damage,
        training=release.metadata.get("training"),
        has_evaluation=has_evaluation,
        metrics=metrics,
        baselines=baselines,
    )


def _measured(registry: Path, version: int) -> tuple[Metrics, Baselines, str]:
    """Of an evaluation, nothing without one; and why a report cannot be read."""
    try:
        report = read_evaluation(registry, version)
        where = str(evaluation_path(registry, version))
        if report is None:
            return {}, {}, ""
        return own_metrics(report, where), best_baselines(report, where), ""
    except ReleaseError as error:
        return {}, {}, str(error)
