"""Real processes of `upnext`: begun, once they say where they listen, and ended."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.patience import SOON_S, get, post

from upnext.registry.release import open_release, publish
from upnext.registry.servers import read_servers

ROUTE = "/v1/recommendations"


@dataclass
class Served:
    """A server that has said where it listens."""

    registry: Path
    process: subprocess.Popen[str]
    url: str
    admin_url: str

    def pids(self) -> set[int]:
        return {one.pid for one in read_servers(self.registry)}

    def releases(self, *, count: int = 20) -> set[str]:
        """Which releases answer, each time over a new connection."""
        return {ask(self.url)["release"] for _ in range(count)}


def ask(url: str, **request: Any) -> dict[str, Any]:
    response = post(f"{url}{ROUTE}", json={"is_logged": False, **request})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def wait_until(is_so: Callable[[], bool]) -> None:
    by_s = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < by_s
        time.sleep(0.02)


def begin(command: Sequence[str], pipe: str, root: Path) -> tuple[subprocess.Popen[str], str, str]:
    """Runs `python -m COMMAND` until it has said where it listens, and where it is managed."""
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    line = getattr(process, pipe).readline()
    told = re.search(r"on (http://\S+:\d+)(?:, managed on (http://\S+:\d+))?\n", line)
    assert told, line + process.communicate(timeout=SOON_S)[1]
    return process, told[1], told[2] or ""


def start(
    registry: Path, command: Sequence[str], pipe: str, root: Path, num_processes: int
) -> Served:
    """Returns once every process follows the labels."""
    served = Served(registry, *begin(command, pipe, root))
    wait_until(lambda: len(served.pids()) == num_processes)
    wait_until(lambda: get(f"{served.url}/readyz").status_code == 200)
    return served


def end(process: subprocess.Popen[str]) -> None:
    """Asks it to end; it does, and has nothing to complain of."""
    process.terminate()
    _, complaints = process.communicate(timeout=SOON_S)
    assert (process.returncode, complaints) == (0, "")


def publish_again(registry: Path, other: Mapping[str, NDArray[Any]] | None = None) -> None:
    """The files of release 1 as one more release, but for arrays that are `other` ones."""
    first = open_release(registry, 1)

    def write_files(directory: Path) -> Mapping[str, Any]:
        for name in first.files:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(first.path / name, directory / name)
        for name, array in (other or {}).items():
            np.save(directory / name, array)
        return first.metadata

    publish(registry, write_files)
