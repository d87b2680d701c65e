"""A local cluster is nobody else's: it listens on loopback, and ends with who started it."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving.processes import wait_until

pytest.importorskip("ray", reason="a cluster needs the extra `ray`")

PROGRAM = """
import os
from contextlib import suppress
from pathlib import Path
from upnext.cluster.start import connected

def children(pid):
    with suppress(OSError):  # it has ended meanwhile
        tasks = [one.read_text() for one in Path(f"/proc/{pid}/task").glob("*/children")]
        found = [int(one) for task in tasks for one in task.split()]
        return [pid, *(deeper for one in found for deeper in children(one))]
    return []

def listening(pid):
    inodes = set()
    with suppress(OSError):
        for one in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                inodes.add(os.readlink(one))
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in inodes:
                yield local.partition(":")[0]

with connected("local", num_cpus=1):
    import ray
    pid = ray.get(ray.remote(lambda: os.getpid()).options(num_cpus=0).remote())
    pids = children(os.getpid())
    assert pid in pids
    print(*sorted({address for one in pids for address in listening(one)}), flush=True)
    print(*pids[1:], flush=True)
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


def test_a_local_cluster_listens_on_loopback_and_ends_with_its_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    addresses, pids = (line.split() for line in done.stdout.splitlines())
    assert set(addresses) <= LOOPBACK
    assert addresses
    assert len(pids) > 2
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
