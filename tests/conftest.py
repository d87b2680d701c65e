"""What tests of several rooms share: a tiny simulated platform, and logs written by hand."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import settings

from upnext.logs.read import read_logs
from upnext.logs.simulation.simulate import simulate
from upnext.logs.simulation.world import SimulationConfig
from upnext.schema import (
    IMPRESSION_COLUMNS,
    ITEM_COLUMNS,
    KIND_DTYPES,
    SEARCH_COLUMNS,
    WATCH_COLUMNS,
    Column,
    Impressions,
    Items,
    Logs,
    Searches,
    Users,
    Watches,
)

if TYPE_CHECKING:
    from upnext.pipeline.config import RunConfig
    from upnext.pipeline.releasing import Learned
    from upnext.recommender import Recommender
    from upnext.registry.release import Release

# Ray reads it once a process, and all clusters of a process must agree.
os.environ.setdefault("RAY_AUTH_MODE", "token")

# A commit is judged alike each time; `--hypothesis-profile explore` looks elsewhere.
settings.register_profile("upnext", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("upnext")

# Tests run in several processes at once; threads of each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

Lines = Sequence[tuple[Any, ...]]
"""One tuple a line, its values in the order of the table's required columns."""

TINY_RUN_TOML = """
[examples]
user_features = ["region", "device"]
[retrieval]
batch_size = 256
num_epochs = 5
network = { vector_size = 16, embedding_size = 16, hidden_sizes = [32] }
[ranking]
requests_per_batch = 50
num_epochs = 3
network = { hidden_sizes = [32, 16] }
[recommender]
num_candidates = 30
[map]
num_points = 60
"""
UNICODE_USERS = ("Zoë", "ユーザー 2", "пользователь", "👩‍🚀", "d'Arc & <co>", 'a"b')


@dataclass(frozen=True, kw_only=True)
class TrainedRelease:
    """A published release, what training still held in memory, and what it said on the way."""

    logs_dir: Path
    registry: Path
    config: "RunConfig"
    release: "Release"
    learned: "Learned"
    said: Sequence[str]
    recommender: "Recommender"


@dataclass(frozen=True)
class Ended:
    """What a run of the command line left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


Upnext = Callable[..., Ended]


class RedisServer:
    """A Redis of our own, which syncs every write; it may be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = f"redis-server --bind 127.0.0.1 --port {self.port} --appendonly yes"
        self.process = subprocess.Popen(
            [*command.split(), "--appendfsync", "always", "--save", "", "--dir", self.directory],
            stdout=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline_s, "redis-server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None, "redis-server has ended"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False


@pytest.fixture(autouse=True)
def _denormals_as_usual() -> Iterator[None]:
    """Training flushes tiny numbers to zero, in its own process; here it must not spread."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def tiny_logs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six days of 60 users and 120 items, in the canonical layout."""
    directory = tmp_path_factory.mktemp("tiny") / "logs"
    simulate(SimulationConfig(num_users=60, num_items=120, num_days=6), directory)
    return directory


@pytest.fixture(scope="session")
def tiny_logs(tiny_logs_dir: Path) -> Logs:
    return read_logs(tiny_logs_dir)[0]


@pytest.fixture(scope="session")
def tiny_run_toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings with which training takes seconds."""
    path = tmp_path_factory.mktemp("config") / "run.toml"
    path.write_text(TINY_RUN_TOML, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_release(
    tiny_logs_dir: Path, tiny_run_toml: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedRelease:
    """Both stages, trained on `tiny_logs`."""
    from upnext.config import read_config
    from upnext.pipeline.config import RunConfig

    config = read_config(tiny_run_toml, RunConfig)
    return _train(tiny_logs_dir, tmp_path_factory.mktemp("tiny") / "registry", config)


@pytest.fixture(scope="session")
def retrieval_release(
    tiny_logs_dir: Path, tiny_run_toml: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedRelease:
    """Stage 1 alone, trained anew on training and validation of `tiny_logs` together."""
    from dataclasses import replace

    from upnext.config import read_config
    from upnext.pipeline.config import RunConfig

    config = replace(read_config(tiny_run_toml, RunConfig), rank=False, refit=True)
    return _train(tiny_logs_dir, tmp_path_factory.mktemp("retrieval") / "registry", config)


@pytest.fixture(scope="session")
def plain_release(tiny_run_toml: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRelease:
    """Trained on the least that is enough: who watched what in which order, no impressions.

    User ids are `UNICODE_USERS`, items are named `видео 0` and so on, times are 0, 1, 2, …
    """
    from upnext.config import read_config
    from upnext.logs.read import write_logs
    from upnext.pipeline.config import RunConfig, SplitConfig

    directory = tmp_path_factory.mktemp("plain")
    lines = [
        (user, f"видео {(3 * place + step) % 20}", step, 60.0)
        for place, user in enumerate(UNICODE_USERS)
        for step in range(12)
    ]
    write_logs(_make_logs(watches=lines), directory / "logs")
    tiny = read_config(tiny_run_toml, RunConfig)
    config = RunConfig(
        split=SplitConfig(protocol="last-event"), retrieval=tiny.retrieval, ranking=tiny.ranking
    )
    return _train(directory / "logs", directory / "registry", config)


def _train(logs_dir: Path, registry: Path, config: "RunConfig") -> TrainedRelease:
    import upnext.pipeline.train
    from upnext.pipeline.releasing import publish_release
    from upnext.recommender import Recommender

    published: list[Learned] = []
    said: list[str] = []

    def keep_and_publish(registry: Path, learned: "Learned", **about: Any) -> "Release":
        published.append(learned)
        return publish_release(registry, learned, **about)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upnext.pipeline.train, "publish_release", keep_and_publish)
        release = upnext.pipeline.train.train(logs_dir, registry, config, say=said.append)
    published[0].retrieval.model.to("cpu")
    return TrainedRelease(
        logs_dir=logs_dir,
        registry=registry,
        config=config,
        release=release,
        learned=published[0],
        said=said,
        recommender=Recommender.open(registry, release.version),
    )


@pytest.fixture
def upnext(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Upnext:
    """`upnext("check", directory)` runs the verb in this process, errors and all."""

    from upnext.cli import main

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["upnext", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        status = ended.value.code or 0
        assert isinstance(status, int)
        return Ended(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One that tests share, each with keys of its own."""
    yield from _redis(tmp_path_factory.mktemp("redis"))


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One that a test may ill-treat."""
    yield from _redis(tmp_path_factory.mktemp("redis"))


def _redis(directory: Path) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server on this machine")
    server = RedisServer(directory)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of a bucket of an S3 of our own, which lives for a module."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    from upnext.registry.storage.objects import open_storage

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    backend, one_at_a_time = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def answer(environment: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        # It looks whether an object is there, then writes it; S3 does both in one step.
        with one_at_a_time:
            return list(backend(environment, start))

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        open_storage("s3://shelf").fs.makedirs("shelf", exist_ok=True)
        yield "s3://shelf"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def make_logs() -> Callable[..., Logs]:
    return _make_logs


def _make_logs(
    *,
    watches: Lines = (),
    impressions: Lines | None = None,
    searches: Lines | None = None,
    items: Lines = (),
    users: pl.DataFrame | None = None,
) -> Logs:
    """Logs from lines; of items that occur and are not described, nothing is known."""
    seen = [line[1] for line in watches] + [line[2] for line in impressions or ()]
    undescribed = dict.fromkeys(seen).keys() - {line[0] for line in items}
    nothing_known = (None,) * (len(ITEM_COLUMNS) - 1)
    catalogue = [*items, *((item_id, *nothing_known) for item_id in undescribed)]
    return Logs(
        watches=Watches(_frame(watches, WATCH_COLUMNS)),
        items=Items(_frame(catalogue, ITEM_COLUMNS)),
        impressions=None
        if impressions is None
        else Impressions(_frame(impressions, IMPRESSION_COLUMNS)),
        searches=None if searches is None else Searches(_frame(searches, SEARCH_COLUMNS)),
        users=None if users is None else Users(users),
    )


def _frame(lines: Lines, columns: Mapping[str, Column]) -> pl.DataFrame:
    names = [name for name, column in columns.items() if column.required]
    values = zip(*lines, strict=True) if lines else [()] * len(names)
    return pl.DataFrame(
        [
            pl.Series(name, cells, dtype=_dtype(columns[name], cells))
            for name, cells in zip(names, values, strict=True)
        ]
    )


def _dtype(column: Column, cells: Iterable[Any]) -> pl.DataType:
    are_strings = any(isinstance(cell, str) for cell in cells)
    return KIND_DTYPES[column.kind][-1 if are_strings else 0]
