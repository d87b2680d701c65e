"""What is exported is there whole or not at all."""

import os
from pathlib import Path

import pytest

from upnext.errors import DataError
from upnext.export.directory import made_whole


def test_all_files_appear_together(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "vectors"
    with made_whole(target) as place:
        (place / "a").write_text("1")
        assert not target.exists()
        (place / "b").write_text("2")
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "1", "b": "2"}
    assert list(target.parent.iterdir()) == [target], "nothing else is left beside it"


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with made_whole(tmp_path / "empty") as place:
        (place / "a").write_text("1")
    assert (tmp_path / "empty" / "a").read_text() == "1"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        stopped_halfway(tmp_path / "out", error)
    assert list(tmp_path.iterdir()) == []


def stopped_halfway(target: Path, error: type[BaseException]) -> None:
    with made_whole(target) as place:
        (place / "a").write_text("half of it")
        raise error


def test_what_is_there_stays(tmp_path: Path) -> None:
    kept = tmp_path / "full" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("precious")
    for target, got in ((kept.parent, "files in it"), (kept, "a file")):
        with pytest.raises(DataError, match=got), made_whole(target):
            pytest.fail("nothing is written")
    assert kept.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_others_may_read_it_as_any_new_directory(tmp_path: Path) -> None:
    with made_whole(tmp_path / "out"):
        pass
    (tmp_path / "usual").mkdir()
    modes = {os.stat(tmp_path / name).st_mode for name in ("out", "usual")}
    assert len(modes) == 1
