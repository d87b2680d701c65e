"""Runs the commands of a page of the docs, as somebody would who copies them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

LATEST_S = 180


class Said(NamedTuple):
    """What came to stdout and to stderr."""

    results: str
    complaints: str


def commands_of(page: str) -> str:
    """The commands of all blocks, in one script."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))


def run_script(script: str, directory: Path, variables: Mapping[str, str] | None = None) -> Said:
    """Runs a script whose first command in the background ends with it; any failure fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    running = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", f"trap 'kill %1; wait' EXIT\n{script}"],
        cwd=directory,
        env={**os.environ, "PATH": path, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said = Said(*running.communicate(timeout=LATEST_S))
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0, said.complaints
    return said
