"""What the benchmarks of serving share: processes that serve, load on them, own registries."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from benchmarks.load_report import Records, Summary, summary_of
from benchmarks.open_loop import Load

from upnext.registry.moves import move_label
from upnext.registry.release import open_release

READY_WITHIN_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """A server that answers."""

    url: str
    process: subprocess.Popen[bytes]
    started_in_s: float

    def memory_mib(self, what: str = "VmRSS") -> float:
        """Of the process and those it has started: `VmRSS` with mapped files, `RssAnon` without."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        told_kib = 0
        for pid in (str(self.process.pid), *children.split()):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                told_kib += int(line.split()[1]) if line.startswith(f"{what}:") else 0
        return told_kib / 1024

    def kill(self) -> None:
        """`kill -9` of all its processes at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def upnext_command(registry: Path, port: int, options: Sequence[str] = ()) -> list[str]:
    """How upnext's server is started."""
    return [sys.executable, "-m", "upnext", "serve", str(registry), "--port", str(port), *options]


def rival_command(python: Path, registry: Path, index: Path, port: int) -> list[str]:
    """How the rival is started, in the environment that has what it needs."""
    module = "benchmarks.rivals.fastapi_torch_faiss"
    return [str(python), "-m", module, str(registry), "--port", str(port), "--index", str(index)]


@contextlib.contextmanager
def running(command: Sequence[str], port: int) -> Iterator[Served]:
    """A server on a port of this machine, from when it is ready until the end of the block.

    Raises: RuntimeError: it is not ready in time; what it said stands in the error.
    """
    served = start(command, port)
    try:
        yield served
    finally:
        stop(served)


def start(command: Sequence[str], port: int) -> Served:
    """The same without an end.

    Where that is allowed, the server goes before all else that the machine does, as if it had it
    to itself; what asks it goes before the server.
    """
    began_s = time.perf_counter()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text("-15")
        while not _is_ready(url):
            if process.poll() is not None or time.perf_counter() - began_s > READY_WITHIN_S:
                process.kill()
                said.seek(0)
                told = said.read().decode()[-2000:]
                raise RuntimeError(f"{' '.join(command)} is not ready: {told}")
            time.sleep(0.02)
    return Served(url=url, process=process, started_in_s=time.perf_counter() - began_s)


def stop(served: Served) -> None:
    """Terminates a server, if it lives, and waits."""
    if served.process.poll() is None:
        served.process.terminate()
        try:
            served.process.wait(30)
        except subprocess.TimeoutExpired:
            served.process.kill()
    served.process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class RunningLoad:
    """A process of `open_loop` at work."""

    def __init__(self, load: Load, users: Path) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._records = Path(self._folder.name) / "records.npy"
        values = {field.name: getattr(load, field.name) for field in fields(load)}
        options = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
            for name, value in values.items()
            if name != "url" and value is not None and value is not False
        ]
        command = [sys.executable, "-m", "benchmarks.open_loop", load.url, f"--users={users}"]
        command += [*options, f"--records={self._records}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def stop(self) -> None:
        """Nothing more is asked."""
        self._process.send_signal(signal.SIGTERM)

    def records(self) -> Records:
        """Waits for the end. Raises RuntimeError where it failed."""
        told, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(f"open_loop failed: {told.decode()}")
        self.generator_cpu_ms = float(json.loads(told)["generator_cpu_ms"])
        records: Records = np.load(self._records)
        self._folder.cleanup()
        return records


def measured(load: Load, users: Path, *, warm_up_s: float) -> Summary:
    """One run from beginning to end, the warm-up left out."""
    return summary_of(RunningLoad(load, users).records(), warm_up_s=warm_up_s)


def write_users(registry: Path, version: int, path: Path, *, most: int | None = None) -> Path:
    """The ids of a release's users, a line each; at most so many."""
    ids = open_release(registry, version, verify=False).array("users/ids.npy")[:most]
    lines = [one.decode() if isinstance(one, bytes) else str(one) for one in ids.tolist()]
    path.write_text("\n".join(lines))
    return path


def linked_registry(registry: Path, folder: Path, versions: Sequence[int]) -> Path:
    """A registry with the same releases, by hard links, the first of them stable.

    So nobody else's labels move, and nobody else's store is written to.
    """
    own = folder / "registry"
    for version in versions:
        source = registry / "releases" / str(version)
        shutil.copytree(source, own / "releases" / str(version), copy_function=os.link)
    move_label(own, "stable", versions[0])
    return own


def add_broken(registry: Path, version: int, like: int, *, is_sealed: bool) -> None:
    """One more version whose ranking network is damaged.

    `is_sealed`: half of it is missing and the manifest says so, so that only loading finds out;
    without, some bytes are others than the manifest says.
    """
    source, target = (registry / "releases" / str(one) for one in (like, version))
    shutil.copytree(source, target, copy_function=os.link)
    for directory in (target, target / "ranking"):
        directory.chmod(0o755)
    network = target / "ranking" / "network.onnx"
    content = network.read_bytes()
    half = len(content) // 2
    content = content[:half] if is_sealed else content[:-half] + bytes(half)
    _replace(network, content)
    manifest = json.loads((target / "manifest.json").read_bytes())
    manifest["version"] = version
    if is_sealed:
        told = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest["files"]["ranking/network.onnx"] |= told
    text = f"{json.dumps(manifest, indent=2, ensure_ascii=False)}\n".encode()
    _replace(target / "manifest.json", text)
    seal = f"{hashlib.sha256(text).hexdigest()}  manifest.json\n"
    _replace(target / "manifest.sha256", seal.encode())


def _replace(path: Path, content: bytes) -> None:
    """A new file in place of a link, which others share."""
    path.unlink()
    path.write_bytes(content)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
