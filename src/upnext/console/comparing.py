"""The settings of releases side by side, and which of them differ."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]
"""A release's config.json: sections in sections."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting with its full name.

    `values`: by version, as JSON has it; None where the release has no such setting.
    """

    name: str
    values: Mapping[int, str | None]

    @property
    def differs(self) -> bool:
        """Whether not all releases have the same."""
        return len(set(self.values.values())) > 1


def settings_side_by_side(configs: Mapping[int, Config]) -> list[Setting]:
    """Every setting that any of the releases has, in the order of the first that has it."""
    flat = {version: dict(_flattened(config)) for version, config in configs.items()}
    names = dict.fromkeys(name for settings in flat.values() for name in settings)
    return [
        Setting(
            name=name,
            values={version: settings.get(name) for version, settings in flat.items()},
        )
        for name in names
    ]


def only_differences(settings: Sequence[Setting]) -> list[Setting]:
    """Those that differ.

    >>> one, other = {"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": True}
    >>> for setting in only_differences(settings_side_by_side({7: one, 8: other})):
    ...     print(setting.name, setting.values)
    a.c {7: '2', 8: '3'}
    d {7: None, 8: 'true'}
    """
    return [setting for setting in settings if setting.differs]


def _flattened(config: Config, section: str = "") -> Iterator[tuple[str, str]]:
    """Full names and values. An empty section is a value, as it has nothing to show else."""
    for name, value in config.items():
        full = f"{section}{_quoted(name)}"
        if isinstance(value, Mapping) and value:
            yield from _flattened(value, f"{full}.")
        else:
            yield full, json.dumps(value, ensure_ascii=False, sort_keys=True)


def _quoted(name: str) -> str:
    """As TOML has it, so that no two settings share a full name."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name)
