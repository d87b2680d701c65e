"""Jobs that workers do, lost ones again, leave whole folders and answers in order."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="work on Ray needs the extra `ray`")
from upnext.cluster.start import connected
from upnext.cluster.tasks import in_order, once
from upnext.errors import ConfigError, DataError

# Ray warns of its own settings when it reads them for the first time.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with connected("local", num_cpus=2):
        yield


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_job_whose_worker_is_lost_is_done_again_and_what_it_made_is_whole(
    cluster: None, tmp_path: Path
) -> None:
    with in_order(partial(_made, tmp_path), range(4), num_workers=2) as made:
        assert list(made) == [0, 10, 20, 30]
    assert contents(tmp_path) == {f"{n}/all": b"half" * 2 for n in range(4)} | {
        ".killed": b"",
        **{name: b"half" for name in contents(tmp_path) if name.startswith(".2.")},
    }


def _made(directory: Path, number: int) -> int:
    with once(directory / str(number)) as folder, (folder / "all").open("wb", buffering=0) as file:
        file.write(b"half")
        if number == 2 and not (directory / ".killed").exists():
            (directory / ".killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        file.write(b"half")
    return 10 * number


def test_what_another_attempt_has_made_stays(tmp_path: Path) -> None:
    with once(tmp_path / "made") as late:
        with once(tmp_path / "made") as early:
            (early / "file").write_text("early")
        (late / "file").write_text("late")
    assert contents(tmp_path) == {"made/file": b"early"}


def test_a_worker_must_see_the_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a path that all nodes see"), once(tmp_path / "no" / "a"):
        pass


def test_the_first_error_in_order_is_raised(cluster: None) -> None:
    with in_order(_halved, [2, 4, 5, 6, 7], num_workers=2) as halves:
        assert [next(halves), next(halves)] == [1, 2]
        with pytest.raises(DataError, match="expected an even number, got 5"):
            next(halves)


def _halved(number: int) -> int:
    if number % 2:
        raise DataError("a job", expected="an even number", got=str(number))
    return number // 2
