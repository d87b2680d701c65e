"""Logs prepared by workers of a Ray cluster, beside the same on one machine: speed and memory.

    python benchmarks/scale.py DIRECTORY --step make --num-watches 20000000 --num-users 1000000
    python -m benchmarks.ray_prepare DIRECTORY --workers 1 2

Each way is a process of its own and prints a line of JSON: seconds by the clock, without those that
starting the cluster took; CPU seconds of this process and of the workers; what each holds in memory
at most. Anonymous memory is that of a process alone; files that it maps can be dropped. All ways
must leave the same bytes, or there is an error.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.scale import LAST_MS

LOOK_EVERY_S = 0.1
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Prints a line of JSON for one machine and for each number of workers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="0: without Ray")
    parser.add_argument("--alone", action="store_true", help="this one way, in this process")
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(prepared(arguments.directory, arguments.workers[0])), flush=True)
        return
    digests = set()
    for num_workers in (0, *arguments.workers):
        command = [sys.executable, "-m", "benchmarks.ray_prepare", str(arguments.directory)]
        told = subprocess.run(
            [*command, "--alone", "--workers", str(num_workers)], check=True, stdout=subprocess.PIPE
        )
        print(told.stdout.decode(), end="", flush=True)
        digests.add(json.loads(told.stdout)["digest"])
    assert len(digests) == 1, "prepared logs differ"


def prepared(directory: Path, num_workers: int) -> dict[str, float | str]:
    """Prepares the logs, in this process or by so many workers; what it took."""
    from upnext.pipeline.prepare import prepare

    out = directory / "prepared-again"
    shutil.rmtree(out, ignore_errors=True)
    logs = directory / "logs"
    if not num_workers:
        with watched() as most:
            prepare(logs, out, now_ms=LAST_MS, say=_say)
    else:
        from upnext.cluster.preparing import prepare_on_ray
        from upnext.cluster.start import connected

        with connected("local", num_cpus=num_workers), watched() as most:
            prepare_on_ray(logs, out, num_workers=num_workers, now_ms=LAST_MS, say=_say)
    return {"workers": num_workers, **most, "digest": digest(out)}


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Seconds and mebibytes of what happens inside, once it is over."""
    told: dict[str, float] = {}
    own = dict[int, int]()
    workers = dict[int, tuple[int, float]]()
    ends, began = threading.Event(), time.perf_counter()
    cpu_before_s = time.process_time()

    def look() -> None:
        while not ends.wait(LOOK_EVERY_S):
            own[os.getpid()] = max(own.get(os.getpid(), 0), anonymous_mib(os.getpid()))
            for pid in ray_workers():
                most_mib, _ = workers.get(pid, (0, 0.0))
                workers[pid] = (max(most_mib, anonymous_mib(pid)), cpu_s(pid))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    yield told
    ends.set()
    watcher.join()
    told["wall_s"] = round(time.perf_counter() - began, 1)
    told["cpu_s"] = round(time.process_time() - cpu_before_s, 1)
    told["workers_cpu_s"] = round(sum(cpu for _, cpu in workers.values()), 1)
    told["most_mib"] = max(own.values(), default=0)
    told["worker_most_mib"] = max((most for most, _ in workers.values()), default=0)


def ray_workers() -> Iterator[int]:
    """Processes that work, or wait for work, on this process's cluster."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::") and is_ours(int(path.parent.name)):
                yield int(path.parent.name)
        except OSError:
            continue


def is_ours(pid: int) -> bool:
    """Whether this process has started a process, or whoever started that one."""
    while pid > 1 and pid != os.getpid():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid > 1


def anonymous_mib(pid: int) -> int:
    """Memory that a process holds alone; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        return int(status.partition("RssAnon:")[2].split()[0]) >> 10
    except (OSError, IndexError):
        return 0


def cpu_s(pid: int) -> float:
    """CPU seconds of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def digest(directory: Path) -> str:
    """Of all that lies in a directory."""
    whole = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.relative_to(directory)} {content}\n".encode())
    return whole.hexdigest()


def _say(line: str) -> None:
    print(f"{time.perf_counter():.1f} {line.splitlines()[0]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
