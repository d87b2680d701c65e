"""What lies in a registry and what runs of it: each release, its labels, its servers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upnext.errors import ReleaseError
from upnext.registry.labels import read_labels
from upnext.registry.release import list_releases, open_release
from upnext.registry.servers import State, read_servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One server that has a release in it; `cause`: why it failed there."""

    server: str
    pid: int
    state: State
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """One published release. What a damaged one would say of itself is None; `problem` says why.

    `created_at` and `train_until` are ISO 8601 in UTC.
    """

    version: int
    labels: Sequence[str]
    created_at: str
    train_until: str | None
    num_items: int | None
    size_bytes: int
    servers: Sequence[Holder]
    problem: str = ""


def overview(registry: Path) -> list[Overview]:
    """Every release, oldest first. Files are not verified, so that it takes a moment.

    Raises: ReleaseError: the journal of labels is damaged.
    """
    labels, servers = read_labels(registry), read_servers(registry)
    rows = []
    for version in list_releases(registry):
        holders = [
            Holder(server=one.server, pid=one.pid, state=held.state, cause=held.cause)
            for one in servers
            for held in one.releases
            if held.version == version
        ]
        there = [label for label, at in labels.items() if at == version]
        rows.append(_row(registry, version, there, holders))
    return rows


def _row(
    registry: Path, version: int, labels: Sequence[str], servers: Sequence[Holder]
) -> Overview:
    try:
        release = open_release(registry, version, verify=False)
    except ReleaseError as error:
        return Overview(
            version=version,
            labels=labels,
            created_at="",
            train_until=None,
            num_items=None,
            size_bytes=0,
            servers=servers,
            problem=str(error),
        )
    return Overview(
        version=version,
        labels=labels,
        created_at=release.created_at,
        train_until=release.metadata.get("train_until"),
        num_items=release.metadata.get("num_items"),
        size_bytes=sum(entry.size_bytes for entry in release.files.values()),
        servers=servers,
    )
