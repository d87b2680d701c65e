"""What workers prepare is what one machine prepares, byte for byte, whoever is lost on the way."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pipeline.raw_logs import NOW_MS, few_at_once, outcome, raw_logs, refused, write

ray = pytest.importorskip("ray", reason="work on Ray needs the extra `ray`")
import upnext.cluster.preparing
import upnext.examples.sorting
from upnext.cluster.preparing import prepare_on_ray
from upnext.cluster.start import connected
from upnext.errors import ConfigError, DataError
from upnext.logs.read import LogsConfig
from upnext.logs.sources import TableSource
from upnext.pipeline.prepare import prepare

# Ray warns of its own settings when it reads them for the first time.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.")

DEADLINE_S = 60.0
BAD = "u00001,v00001,soon,3\nu00001,v00001,5,-1\nu00001,nothing,5,1\nu00001\n,v00001,5,1\n"
"""Lines that are refused, each for a reason of its own."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with connected("local", num_cpus=4):
        yield


@pytest.fixture(scope="module", params=["text", "integers"])
def logs_dir(
    request: pytest.FixtureRequest, tiny_logs_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A simulated platform whose days are of several formats, with bad rows, and with watches of
    the first day on later ones too."""
    directory = tmp_path_factory.mktemp("logs")
    days = list[pl.DataFrame]()
    for path in sorted(tiny_logs_dir.rglob("*.parquet")):
        table = with_ids(pl.read_parquet(path), request.param)
        if path.parent.name == "watches":
            days.append(table)
            table = pl.concat([table, days[0].head(20)])
        put(table, directory / path.relative_to(tiny_logs_dir), len(days))
    return directory


def with_ids(table: pl.DataFrame, kind: str) -> pl.DataFrame:
    if kind == "text":
        return table
    ids = pl.col("^(user|item)_id$")
    return table.with_columns(ids.str.slice(1).cast(pl.Int64))


def put(table: pl.DataFrame, path: Path, number: int) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.parent.name != "watches" or number % 3 == 0:
        table.write_parquet(path, row_group_size=40)
    elif number % 3 == 1:
        path.with_suffix(".csv").write_text(table.write_csv() + BAD, encoding="utf-8")
    else:
        table.write_ndjson(path.with_suffix(".jsonl"))


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def expected(logs_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """What one machine prepares, and how it tells of it."""
    directory = tmp_path_factory.mktemp("one") / "prepared"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upnext.examples.sorting, "USERS_PER_BUCKET", 20)
        prepare(logs_dir, directory)
    return contents(directory) | quarantine(logs_dir)


def quarantine(directory: Path) -> dict[str, bytes]:
    return {f"quarantine/{name}": data for name, data in contents(directory / "quarantine").items()}


def found_on_ray(logs_dir: Path, directory: Path, **how: Any) -> dict[str, bytes]:
    """What workers prepare, several buckets of it."""
    for path in (logs_dir / "quarantine").iterdir():
        path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upnext.examples.sorting, "USERS_PER_BUCKET", 20)
        prepare_on_ray(logs_dir, directory, **how)
    return contents(directory) | quarantine(logs_dir)


@pytest.mark.parametrize(
    ("num_workers", "rows_per_piece", "num_shares"), [(1, 1_000, 1), (2, 50, 3), (4, 15, 5)]
)
def test_any_number_of_workers_and_pieces_make_the_same_bytes(
    logs_dir: Path,
    expected: Mapping[str, bytes],
    cluster: None,
    tmp_path: Path,
    num_workers: int,
    rows_per_piece: int,
    num_shares: int,
) -> None:
    how = {"rows_per_piece": rows_per_piece, "num_shares": num_shares}
    found = found_on_ray(logs_dir, tmp_path / "prepared", num_workers=num_workers, **how)
    assert found == expected
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]
    assert b'"duplicate": ' in found["prepared.json"]


@settings(max_examples=12)
@given(raw_logs(), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_steps_of_workers_do_the_same_to_any_logs(
    files: Mapping[str, list[dict[str, Any]]],
    rows_per_piece: int,
    num_shares: int,
    limits_share: bool,
) -> None:
    """Their work done in this process, a few rows at a time; errors are the same as well."""
    config = LogsConfig(max_watch_share=1.5 if limits_share else None)
    with tempfile.TemporaryDirectory() as name, few_at_once(), working_here():
        logs = Path(name) / "logs"
        write(files, logs)
        one, ours = Path(name) / "one", Path(name) / "ours"
        made = outcome(lambda: prepare(logs, one, config, now_ms=NOW_MS))
        in_one = refused(logs)
        how: dict[str, Any] = {
            "num_workers": 1,
            "rows_per_piece": rows_per_piece,
            "num_shares": num_shares,
        }
        also = outcome(lambda: prepare_on_ray(logs, ours, config, now_ms=NOW_MS, **how))
        if isinstance(made, DataError):
            assert str(also) == str(made)
        else:
            assert contents(ours) == contents(one)
        assert refused(logs).keys() == in_one.keys()
        assert all(frame.equals(in_one[table]) for table, frame in refused(logs).items())


@contextmanager
def working_here() -> Iterator[None]:
    """This process does what it would ask workers for."""

    @contextmanager
    def one_by_one(
        work: Callable[[Any], Any], jobs: Sequence[Any], *, num_workers: int
    ) -> Iterator[Iterator[Any]]:
        assert num_workers == 1
        yield map(work, jobs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upnext.cluster.preparing, "in_order", one_by_one)
        yield


def ours_at_work() -> list[int]:
    """Processes of this process's own cluster that are at a job."""
    return [pid for pid in processes_titled("ray::_answer") if os.getpid() in ancestors(pid)]


def processes_titled(title: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(title.encode()):
                yield int(path.parent.name)
        except OSError:
            continue


def ancestors(pid: int) -> Iterator[int]:
    """The process that started this one, the one that started that, and so on."""
    try:
        while pid > 1:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            yield pid
    except OSError:
        return


@contextmanager
def when_there_is(pattern: str, directory: Path, act: Callable[[], None]) -> Iterator[list[Path]]:
    """Acts once as soon as a path matches; that path."""
    seen, ends = list[Path](), threading.Event()

    def look() -> None:
        while not seen and not ends.wait(0.001):
            seen.extend(list(directory.glob(pattern))[:1])
            if seen:
                act()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        ends.set()
        watcher.join()


def test_killed_workers_change_nothing(
    logs_dir: Path, expected: Mapping[str, bytes], cluster: None, tmp_path: Path
) -> None:
    """One is killed while it reads, and one when buckets are sorted."""
    killed = list[int]()

    def kill_one() -> None:
        for pid in ours_at_work()[:1]:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    scratch = ".prepared.unfinished/scratch"
    with (
        when_there_is(f"{scratch}/read/.*", tmp_path, kill_one),
        when_there_is(f"{scratch}/sort/*", tmp_path, kill_one),
    ):
        found = found_on_ray(logs_dir, tmp_path / "prepared", num_workers=2, rows_per_piece=20)
    assert killed
    assert found == expected


def test_an_interrupt_leaves_nothing_behind_and_nobody_at_work(
    logs_dir: Path, cluster: None, tmp_path: Path
) -> None:
    interrupt = partial(os.kill, os.getpid(), signal.SIGINT)
    at_work = ".prepared.unfinished/scratch/read/*"
    with pytest.raises(KeyboardInterrupt), when_there_is(at_work, tmp_path, interrupt):
        prepare_on_ray(logs_dir, tmp_path / "prepared", num_workers=2, rows_per_piece=20)
    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: not ours_at_work())


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_an_error_of_a_worker_is_that_of_one_machine(cluster: None, tmp_path: Path) -> None:
    logs = tmp_path / "logs" / "watches"
    logs.mkdir(parents=True)
    for name, header in (("a", "user_id,item_id,started_at_ms,watch_time_s"), ("b", "user_id")):
        (logs / f"{name}.csv").write_text(f"{header}\nann,soup,1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"watches/b.csv: expected a column item_id"):
        prepare_on_ray(logs.parent, tmp_path / "prepared", num_workers=2)
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_nobody_prepares_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers: expected 1 or more, got 0"):
        prepare_on_ray(tmp_path, tmp_path / "prepared", num_workers=0)


def test_a_relative_path_is_told_as_it_was_given(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("logs", "elsewhere"):
        (tmp_path / name).mkdir()
    lines = "user_id,item_id,started_at_ms,watch_time_s\nann,soup,1,2\nann,soup,1,-2\n"
    (tmp_path / "elsewhere" / "a.csv").write_text(lines, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = LogsConfig(watches=TableSource(files="../elsewhere/*.csv"))
    prepare(Path("logs"), Path("one"), config)
    prepare_on_ray(Path("logs"), Path("ours"), config, num_workers=1)
    assert contents(tmp_path / "ours") == contents(tmp_path / "one")
    assert b'"file": "../elsewhere/a.csv"' in contents(tmp_path / "one")["prepared.json"]
