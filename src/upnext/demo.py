"""The whole way on a simulated platform: logs → release → server → a page, and a console."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from upnext.cli.report import write_page
from upnext.config import read_config
from upnext.errors import ConfigError
from upnext.evaluation.report import write_report
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.world import SimulationConfig
from upnext.pipeline.config import RunConfig
from upnext.pipeline.evaluate import evaluate
from upnext.pipeline.train import train
from upnext.registry.moves import move_label
from upnext.registry.release import open_release

Say = Callable[[str], None]

RUN_TOML = """\
# What `upnext demo` trains with; `upnext train LOGS REGISTRY --config run.toml` reads it too.
[split]
validation_days = 1
test_days = 1

[examples]
user_features = ["region", "device"]
num_watches_ranked = 300
num_shown = 1000

[retrieval]
num_epochs = 8

[retrieval.network]
tied = true
dropout = 0.2

[sources]
segment = "region"

[ranking]
objective = "click-and-share"
"""
SERVE_TOML = """\
# What `upnext demo` serves with; `upnext serve REGISTRY --config serve.toml` reads it too.
[events]
retention_days = 3650   # the simulated logs end in the past, and so do watches sent beside them
"""
DEMO_USER = "u00017"
START_S = 60
CONSOLE_PORT = 8090
OTHER_PORT_HINT = "`upnext demo DIRECTORY --port N` takes another."


def run_demo(directory: Path, *, once: bool, port: int, say: Say) -> None:
    """Simulates, trains, evaluates, labels, serves and asks; serves on until interrupted.

    Logs that are already there are used again; every run publishes a new release.

    Raises:
        ConfigError: the port is taken. DataError: `directory` holds other logs.
    """
    began = time.perf_counter()
    logs, registry, run_toml = directory / "logs", directory / "registry", directory / "run.toml"
    serve_toml = directory / "serve.toml"
    if not (logs / "items.parquet").exists():
        say("simulating 30 days of a video platform: 2,000 users, 5,000 items")
        simulate(SimulationConfig(), logs)
    if not run_toml.exists():
        run_toml.write_text(RUN_TOML, encoding="utf-8")
    if not serve_toml.exists():
        serve_toml.write_text(SERVE_TOML, encoding="utf-8")
    release = train(logs, registry, read_config(run_toml, RunConfig), say=say)
    report = evaluate(logs, registry, release.version, say=say)
    write_report(report, registry / "evaluations" / str(release.version))
    print(report.to_text())
    say(f"on one page: {write_page(registry, release.version)}")
    move_label(registry, "stable", release.version, reason="demo")
    say(f"labelled release {release.version} stable after {time.perf_counter() - began:.0f} s")
    _serve(registry, release.version, serve_toml, once=once, port=port, say=say)


def _serve(
    registry: Path, version: int, serve_toml: Path, *, once: bool, port: int, say: Say
) -> None:
    """A server and a console beside it, each a process of its own, until interrupted."""
    _refuse_taken_port(port)
    managed_port = _free_port(port + 1)
    console_port = _free_port(CONSOLE_PORT, but=managed_port)
    url = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            _process(
                *("serve", str(registry), "--config", str(serve_toml)),
                *("--port", str(port), "--admin-port", str(managed_port)),
            )
        )
        stack.enter_context(
            _process(
                *("console", "--server", url, "--managed", f"http://127.0.0.1:{managed_port}"),
                *("--port", str(console_port)),
            )
        )
        _wait_until_ready(url, server, version)
        at_ms = _end_of_logs_ms(registry, version)
        _show_answer(url, at_ms, say)
        console = f"http://127.0.0.1:{console_port}"
        _wait_until_open(console_port)
        page = f"{console}/recommend?user_id={DEMO_USER}&at_ms={at_ms}"
        say(f"\nlook into it: {page}")
        if once:
            return
        say(f"serving at {url} until Ctrl-C; {url}/openapi.json describes the API")
        try:
            server.wait()
        except KeyboardInterrupt:
            say("stopping")


@contextlib.contextmanager
def _process(*verb: str) -> Iterator[subprocess.Popen[bytes]]:
    """`upnext VERB ...` while the block runs."""
    process = subprocess.Popen([sys.executable, "-m", "upnext", *verb])
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _free_port(wanted: int, *, but: int = 0) -> int:
    """The wanted port, or any other where that is taken."""
    for port in (wanted, 0):
        with (
            contextlib.suppress(OSError, OverflowError),
            socket.create_server(("127.0.0.1", port)) as free,
        ):
            found: int = free.getsockname()[1]
            if found != but:
                return found
    raise ConfigError("ports", expected="a free one", got="none")


def _wait_until_open(port: int) -> None:
    """Returns once somebody listens there."""
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=1),
        ):
            return
        time.sleep(0.1)
    raise ConfigError("the console", expected=f"an answer within {START_S} s", got="none")


def _refuse_taken_port(port: int) -> None:
    """Another upnext on this port would answer before ours has found that it cannot listen."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise ConfigError(
            f"port {port}", expected="a free port", got=str(error), hint=OTHER_PORT_HINT
        ) from None


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], version: int) -> None:
    """Returns once our own server answers that `stable` is this version."""
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up and server.poll() is None:
        if _stable_version(url) == version and server.poll() is None:
            return
        time.sleep(0.1)
    raise ConfigError(
        url,
        expected=f"a server that is ready with release {version} within {START_S} s",
        got="none",
        hint=f"is the port taken? {OTHER_PORT_HINT}",
    )


def _stable_version(url: str) -> Any:
    """What the server there, whoever it is, calls `stable`; None where it does not say."""
    with (
        contextlib.suppress(OSError, ValueError, LookupError, TypeError),
        urllib.request.urlopen(f"{url}/readyz", timeout=1) as response,
    ):
        return json.load(response)["labels"]["stable"]
    return None


def _end_of_logs_ms(registry: Path, version: int) -> int:
    """The moment when the simulated logs end."""
    until = open_release(registry, version, verify=False).metadata["history_until"]
    return int(datetime.fromisoformat(until).timestamp() * 1000)


def _show_answer(url: str, at_ms: int, say: Say) -> None:
    """Asks as any client would."""
    body = {"user_id": DEMO_USER, "k": 10, "at_ms": at_ms}
    say(f"\nPOST {url}/v1/recommendations {json.dumps(body)}")
    request = urllib.request.Request(
        f"{url}/v1/recommendations",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    print(f"Recommendations for {DEMO_USER}, release {answer['release']} ({answer['label']}):")
    for place, item in enumerate(answer["items"], start=1):
        seconds = item["expected_watch_time_s"]
        print(f"{place:>3}. {item['title']:<48} {seconds:>7.1f} s  ({item['item_id']})")
    stages = "  ".join(f"{stage} {ms:.1f} ms" for stage, ms in answer["timings_ms"].items())
    print(f"{answer['num_candidates']} candidates; {stages}")
