"""All that one release says of itself, and what a registry knows of it beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upnext.errors import ReleaseError
from upnext.registry.evaluations import read_evaluation
from upnext.registry.labels import read_labels
from upnext.registry.overview import Holder, holders_of, labels_of
from upnext.registry.release import SEAL, Release
from upnext.registry.remembered import remembered_json, remembered_release
from upnext.registry.servers import read_servers

CONFIG = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFile:
    """One file of a release; `sha256` is in hexadecimal."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a release comes from; what it does not tell is None.

    `extends`: the version that it knows more items than, and is else the same as. `training`: the
    folder of its curves. Times are ISO 8601 in UTC.
    """

    extends: int | None = None
    training: str | None = None
    train_until: str | None = None
    history_until: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """What opening a release took where it took longest, as `num_servers` that have it ready tell.

    `num_tried`: requests that each answered before anybody's; None where a server does not tell.
    """

    num_servers: int = 0
    load_time_s: float | None = None
    num_tried: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """One published release. Of a damaged one `problem` says why, and what it would tell is empty.

    `created_at` is ISO 8601 in UTC. `evaluation`: the whole report; None without one.
    """

    version: int
    labels: Sequence[str]
    created_at: str = ""
    problem: str = ""
    size_bytes: int = 0
    servers: Sequence[Holder] = ()
    manifest_sha256: str = ""
    files: Sequence[ReleaseFile] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    lineage: Lineage = Lineage()
    warm_up: WarmUp = WarmUp()


def detail(registry: Path, version: int) -> Detail:
    """Tells of a release that is there, whole or not; files are not hashed anew.

    Raises: ReleaseError: the journal of labels is damaged.
    """
    problems: list[str] = []
    evaluation = release = None
    config: Mapping[str, Any] = {}
    try:
        evaluation = read_evaluation(registry, version)
    except ReleaseError as error:
        problems.append(str(error))
    try:
        release = remembered_release(registry, version)
        config = config_of(release)
    except ReleaseError as error:
        problems.append(str(error))
    holders = holders_of(version, read_servers(registry))
    return Detail(
        version=version,
        labels=labels_of(version, read_labels(registry)),
        problem="\n".join(problems),
        servers=holders,
        evaluation=evaluation,
        config=config,
        warm_up=_warm_up(holders),
        **({} if release is None else _of_itself(release)),
    )


def data_of(release: Release) -> Mapping[str, Any]:
    """What the check of its logs found: tables, unreadable files, and tables made from others.

    What the release does not tell is empty.
    """
    told = release.metadata.get("data") or {}
    return {"tables": {}, "unreadable_files": [], "derived": [], **told}


def config_of(release: Release) -> Mapping[str, Any]:
    """Its `run.toml`, by section; empty where the release keeps none."""
    if CONFIG not in release.files:
        return {}
    config = remembered_json(release.file(CONFIG))
    if isinstance(config, dict):
        return config
    where = f"release {release.version}, {CONFIG}"
    raise ReleaseError(where, expected="sections", got=type(config).__name__)


def _of_itself(release: Release) -> dict[str, Any]:
    """The fields of a `Detail` that its manifest fills."""
    told = release.metadata
    return {
        "created_at": release.created_at,
        "size_bytes": release.size_bytes,
        "manifest_sha256": (release.path / SEAL).read_text(encoding="ascii").split()[0],
        "files": [
            ReleaseFile(name=name, size_bytes=entry.size_bytes, sha256=entry.sha256)
            for name, entry in release.files.items()
        ],
        "metadata": told,
        "lineage": Lineage(
            extends=told.get("extended_from"),
            training=told.get("training"),
            train_until=told.get("train_until"),
            history_until=told.get("history_until"),
        ),
    }


def _warm_up(holders: Sequence[Holder]) -> WarmUp:
    ready = [one for one in holders if one.state == "ready"]
    return WarmUp(
        num_servers=len(ready),
        load_time_s=max((one.load_time_s for one in ready if one.load_time_s), default=None),
        num_tried=max((one.num_tried for one in ready if one.num_tried), default=None),
    )
