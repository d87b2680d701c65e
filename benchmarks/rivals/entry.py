"""What every contestant of a contest of speed has: a command line, a stopwatch, one line to report.

Each rival runs in a virtual environment of its own, so this needs the standard library alone.
"""

import argparse
import json
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    SettingsT = TypeVar("SettingsT", bound=DataclassInstance)


def arguments(contestant: str, settings: "type[DataclassInstance]") -> argparse.ArgumentParser:
    """The command line of a contestant: where the task is, and each setting as an option."""
    parser = argparse.ArgumentParser(description=contestant)
    parser.add_argument("task", type=Path, help="what the contest wrote for its contestants")
    add_settings(parser, settings)
    return parser


def add_settings(parser: argparse.ArgumentParser, settings: "type[DataclassInstance]") -> None:
    """Each setting as an option of its name."""
    for setting in fields(settings):
        name, default = f"--{setting.name.replace('_', '-')}", setting.default
        if isinstance(default, tuple):
            parser.add_argument(name, type=int, nargs="*", default=default)
        else:
            parser.add_argument(name, type=type(default), default=default)


def read_settings(given: argparse.Namespace, settings: "type[SettingsT]") -> "SettingsT":
    """The settings among what the command line gave."""
    values = {setting.name: getattr(given, setting.name) for setting in fields(settings)}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return settings(**values | lists)


def to_options(settings: "DataclassInstance") -> list[str]:
    """The command line that `read_settings` reads as these settings."""
    options: list[str] = []
    for name, value in asdict(settings).items():
        values = value if isinstance(value, tuple) else (value,)
        options += [f"--{name.replace('_', '-')}", *(str(one) for one in values)]
    return options


class Stopwatch:
    """Lap times; what happens between `stop` and the next `start` is not counted."""

    def __init__(self) -> None:
        self.laps_s: list[float] = []
        self.laps_cpu_s: list[float] = []
        self._began_s = self._began_cpu_s = 0.0

    def start(self) -> None:
        """Begins a lap."""
        self._began_s, self._began_cpu_s = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Ends the lap that runs."""
        self.laps_s.append(time.perf_counter() - self._began_s)
        self.laps_cpu_s.append(time.process_time() - self._began_cpu_s)

    @property
    def total_s(self) -> float:
        """Of all laps."""
        return sum(self.laps_s)

    def speed(self, num_examples: int) -> dict[str, float]:
        """Examples a second, and a second of one core's work, of all laps but the first.

        The first warms up; each took `num_examples`. The second figure hardly minds what else the
        machine has to do.
        """
        num_timed = num_examples * (len(self.laps_s) - 1)
        return {
            "examples_per_s": num_timed / sum(self.laps_s[1:]),
            "examples_per_cpu_s": num_timed / sum(self.laps_cpu_s[1:]),
        }


def report(
    name: str,
    settings: "DataclassInstance",
    *,
    speed: dict[str, float],
    training_s: float,
    measured: dict[str, float],
    **own_settings: Any,
) -> None:
    """Prints what a contestant reached, one line of JSON.

    Args:
        speed: from `Stopwatch.speed`.
        training_s: of all training until `measured`, the first epoch too.
        measured: how good it is.
        own_settings: what this contestant alone has set.
    """
    line = {
        "name": name,
        **speed,
        **measured,
        "training_s": training_s,
        "settings": asdict(settings) | own_settings,
    }
    print(json.dumps(line), flush=True)
