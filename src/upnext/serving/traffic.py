"""Which label answers a request that names none, and which label answers beside it unseen.

`REGISTRY/traffic.json` says it for all servers of a registry, and each follows it as it runs:

    {"split": {"stable": 0.95, "canary": 0.05}, "shadow": {"label": "canary", "share": 0.1}}

A user is always answered by the same label while the shares stay, and when a share grows, users
only come to its label: each has a place in [0, 1) by the hash of his id, and labels take ranges of
it, in the order of their names but `stable` last.
"""

import hashlib
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from upnext.config import config_from_table
from upnext.errors import ConfigError
from upnext.registry.files import force_to_disk
from upnext.registry.servers import moving
from upnext.schema import Id

STABLE = "stable"
"""The label that answers unless something else is said."""


@dataclass(frozen=True, kw_only=True)
class ShadowConfig:
    """A label that answers some requests beside the one that is asked; nobody is shown it."""

    label: str
    """Whose release it is."""
    share: float
    """Of requests, by chance, while threads are free."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError("shadow share", expected="0 to 1", got=str(self.share))


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Shares of users by label, together 1, and the shadow if there is one."""

    split: dict[str, float] = field(default_factory=lambda: {STABLE: 1.0})
    """What each label takes."""
    shadow: ShadowConfig | None = None
    """What answers unseen."""

    def __post_init__(self) -> None:
        total = sum(self.split.values())
        if not self.split or min(self.split.values()) < 0 or abs(total - 1) > 1e-6:
            got = ", ".join(f"{label} {share:g}" for label, share in self.split.items()) or "none"
            raise ConfigError("traffic split", expected="shares that add up to 1", got=got)

    def label_of(self, user_id: Id | None) -> str:
        """The label that answers a user; of nobody known, one by chance.

        >>> traffic = Traffic(split={"stable": 0.5, "canary": 0.5})
        >>> [traffic.label_of(user) for user in ("ann", "ben", "cai", "ann")]
        ['stable', 'stable', 'canary', 'stable']
        """
        if len(self.split) == 1:
            return next(iter(self.split))
        place = random.random() if user_id is None else place_of(user_id)
        *others, last = sorted(self.split, key=lambda label: (label == STABLE, label))
        for label in others:
            place -= self.split[label]
            if place < 0:
                return label
        return last

    def is_shadowed(self) -> bool:
        """Whether this request is answered by the shadow too."""
        return self.shadow is not None and random.random() < self.shadow.share


def place_of(user_id: Id) -> float:
    """Where a user stands in [0, 1), evenly spread and always the same; "7" is not 7."""
    key = f"{type(user_id).__name__}:{user_id}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(key, digest_size=8, person=b"upnext").digest()
    return int.from_bytes(digest, "big") / 2**64


def traffic_path(registry: Path) -> Path:
    """Where it is written."""
    return registry / "traffic.json"


def read_traffic(registry: Path) -> Traffic:
    """What is written; without a file `stable` answers everybody.

    Raises: ConfigError: the file is no such thing.
    """
    path = traffic_path(registry)
    try:
        table = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except FileNotFoundError:
        return Traffic()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), expected="shares of traffic", got=str(error)) from None
    return config_from_table(table, Traffic, where=str(path))


def write_traffic(
    registry: Path, traffic: Traffic, *, expected_previous: Traffic | None = None
) -> None:
    """Replaces what is written, in one step, safe on disk on return; servers follow at once.

    Raises: ConfigError: shares do not stand as `expected_previous`, and nothing has changed.
    """
    path = traffic_path(registry)
    with moving(registry):  # of several who write, each meets what the one before left
        if expected_previous is not None and expected_previous != read_traffic(registry):
            raise ConfigError(
                "expected_previous",
                expected="the shares as they stand",
                got="others",
                hint="somebody changed them in the meantime; look again, then decide anew.",
            )
        unfinished = path.with_name(f".{path.name}.unfinished")
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(traffic), indent=2) + b"\n")
        force_to_disk(unfinished)
        os.replace(unfinished, path)
        force_to_disk(registry)


def traffic_of(shares: Mapping[str, float], shadow: ShadowConfig | None = None) -> Traffic:
    """Shares in any unit, such as percent, as parts of their sum.

    Raises: ConfigError: a share is below 0, or all are 0.
    """
    total = sum(shares.values())
    if total <= 0:
        raise ConfigError("traffic split", expected="a share above 0", got=str(total))
    return Traffic(split={label: share / total for label, share in shares.items()}, shadow=shadow)
