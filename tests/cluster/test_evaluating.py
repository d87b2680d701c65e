"""Workers of a real Ray cluster, lost ones too, come to the report and the index of one process."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

ray = pytest.importorskip("ray", reason="work on Ray needs the extra `ray`")
from upnext.cluster.evaluating import evaluate_apart
from upnext.cluster.indexing import ShardsApart, build_index_apart
from upnext.cluster.start import connected
from upnext.errors import ConfigError, DataError, ReleaseError
from upnext.index import IndexConfig, build_index
from upnext.pipeline.evaluate import evaluate
from upnext.schema import Floats

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease, Upnext

# Ray warns of its own settings when it reads them for the first time.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.")

APPROXIMATE = IndexConfig(kind="approximate", num_shards=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with connected("local", num_cpus=2):
        yield


def workers_at(task: str) -> list[int]:
    """Processes that are at this task for this process's own cluster."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            is_at_it = path.read_bytes().startswith(f"ray::{task}".encode())
            if is_at_it and os.getpid() in ancestors(int(path.parent.name)):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def ancestors(pid: int) -> Iterator[int]:
    """The process that started this one, the one that started that, and so on."""
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        yield pid


def test_two_workers_one_of_them_killed_report_what_one_process_reports(
    tiny_release: TrainedRelease, cluster: None
) -> None:
    killed: list[int] = []
    ends = threading.Event()

    def kill_the_first() -> None:
        while not killed and not ends.wait(0.01):
            for pid in workers_at("measured_part")[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    said: list[str] = []
    killer = threading.Thread(target=kill_the_first)
    killer.start()
    report = evaluate_apart(
        tiny_release.logs_dir, tiny_release.registry, 1, num_workers=2, say=said.append
    )
    ends.set()
    killer.join()
    assert len(killed) == 1
    expected = evaluate(tiny_release.logs_dir, tiny_release.registry, 1)
    assert json.dumps(report.to_table()) == json.dumps(expected.to_table())
    assert said[-1] == "evaluation: 2 of 2 parts measured"


def test_an_error_is_that_of_one_process(tiny_release: TrainedRelease, cluster: None) -> None:
    with pytest.raises(ReleaseError, match="no such directory"):
        evaluate_apart(tiny_release.logs_dir, tiny_release.registry, 7, num_workers=2)


def test_nobody_measures_nothing(tiny_release: TrainedRelease) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        evaluate_apart(tiny_release.logs_dir, tiny_release.registry, 1, num_workers=0)


def test_workers_are_asked_for_on_ray_alone(tiny_release: TrainedRelease, upnext: Upnext) -> None:
    ended = upnext("evaluate", tiny_release.logs_dir, tiny_release.registry, "--workers", 2)
    assert ended.status == 2
    assert "--workers without --ray" in ended.stderr


def vectors(num_vectors: int, *, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((num_vectors, 8)).astype(np.float32)


def test_shards_that_workers_build_and_search_one_of_them_killed_are_those_of_one_process(
    cluster: None, tmp_path: Path
) -> None:
    items, users = vectors(2_000), vectors(5, seed=1)
    np.save(tmp_path / "items.npy", items)
    expected = build_index(items, APPROXIMATE)
    built = build_index_apart(tmp_path / "items.npy", tmp_path / "index", APPROXIMATE)
    assert built.facts.num_cells == expected.facts.num_cells
    apart = ShardsApart.open(tmp_path / "items.npy", tmp_path / "index")
    filters = {
        "excluded_rows": [np.arange(3 * user, 400, dtype=np.int32) for user in range(5)],
        "allowed_rows": np.arange(200, 1_900, dtype=np.int32),
    }
    for asked in ({}, filters):
        rows, scores = expected.search(users, 30, **asked)  # type: ignore[arg-type]
        for index in (built, apart):
            found, found_scores = index.search(users, 30, **asked)  # type: ignore[arg-type]
            assert found.tolist() == rows.tolist()
            assert found_scores.tolist() == scores.tolist()
    ray.kill(apart.keepers[0], no_restart=False)
    assert apart.search(users, 30)[0].tolist() == built.search(users, 30)[0].tolist()
    with pytest.raises(ValueError, match="below 2000"):
        apart.search(users, 3, allowed_rows=np.array([2_000], np.int32))


def test_vectors_that_cannot_be_searched_are_refused_by_a_worker(
    cluster: None, tmp_path: Path
) -> None:
    items = vectors(300)
    items[250] = np.nan
    np.save(tmp_path / "items.npy", items)
    with pytest.raises(DataError, match="nan or inf"):
        build_index_apart(tmp_path / "items.npy", tmp_path / "index", APPROXIMATE)


def test_an_index_in_one_piece_has_no_keepers(cluster: None, tmp_path: Path) -> None:
    items = vectors(300)
    np.save(tmp_path / "items.npy", items)
    build_index(items, IndexConfig(kind="exact")).save(tmp_path / "index")
    with pytest.raises(ReleaseError, match="first_rows"):
        ShardsApart.open(tmp_path / "items.npy", tmp_path / "index")
