"""The journal on storage: no gap, no line twice, each move from where the one before has ended."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.registry.storage.conftest import write

from upnext.errors import ReleaseError
from upnext.registry.journal import LabelConflictError, LabelMove, encode_move
from upnext.registry.labels import append_move, journal_path, read_moves
from upnext.registry.release import publish
from upnext.registry.storage.labels import (
    move_stored_label,
    read_stored_labels,
    read_stored_moves,
    read_stored_standings,
    resolve_stored,
    roll_back_stored_label,
)
from upnext.registry.storage.objects import Storage
from upnext.registry.storage.push import push

MOVE_IN_ANOTHER_PROCESS = """
import sys
from upnext.registry.storage.labels import move_stored_label
from upnext.registry.storage.objects import open_storage

storage = open_storage(sys.argv[1])
for number in range(int(sys.argv[3])):
    move_stored_label(storage, "stable", 1 + number % 3, actor=f"{sys.argv[2]}-{number}")
"""


@pytest.fixture
def shelf(registry: Path, url: str, storage: Storage) -> Storage:
    """Storage with three releases."""
    publish(registry, write)
    publish(registry, write)
    push(registry, url)
    return storage


def assert_unbroken(moves: list[LabelMove], num_moves: int) -> None:
    """As many as were made, and of each label one after the other."""
    assert len(moves) == num_moves
    assert len({move.actor for move in moves}) == num_moves
    stands: dict[str, int] = {}
    for move in moves:
        assert move.from_version == stands.get(move.label)
        stands[move.label] = move.to_version


def test_a_label_stands_where_it_was_moved_and_rolls_back(shelf: Storage) -> None:
    assert read_stored_labels(shelf) == {}
    for version in (1, 2, 3):
        move_stored_label(shelf, "stable", version, actor="ada", reason=f"number {version}")
    move_stored_label(shelf, "canary", 1)
    assert read_stored_labels(shelf) == {"canary": 1, "stable": 3}
    assert roll_back_stored_label(shelf, "stable", actor="eve").to_version == 2
    assert roll_back_stored_label(shelf, "stable").to_version == 1
    with pytest.raises(LabelConflictError, match="only version 1"):
        roll_back_stored_label(shelf, "stable")
    assert [(move.kind, move.to_version) for move in read_stored_moves(shelf)] == [
        ("move", 1),
        ("move", 2),
        ("move", 3),
        ("move", 1),
        ("rollback", 2),
        ("rollback", 1),
    ]
    assert read_stored_standings(shelf)["stable"].num_lines == 6


def test_a_line_there_is_a_line_here(shelf: Storage, tmp_path: Path) -> None:
    moved = move_stored_label(shelf, "stable", 2, actor="ada", reason="für Zoë")
    assert shelf.sizes_below("labels").keys() == {"000000000001.json"}
    line = shelf.read("labels/000000000001.json")
    assert line == encode_move(moved)
    journal_path(tmp_path).write_bytes(line)
    assert read_moves(tmp_path) == [moved]
    append_move(tmp_path, "stable", 3)


def test_a_label_needs_a_release_that_is_there(shelf: Storage) -> None:
    with pytest.raises(ReleaseError, match="published: 1, 2, 3"):
        move_stored_label(shelf, "stable", 4)
    shelf.fs.rm_file(f"{shelf.root}/releases/3/manifest.json")
    with pytest.raises(ReleaseError, match="has not ended"):
        move_stored_label(shelf, "stable", 3)
    with pytest.raises(ReleaseError, match="expected a small letter"):
        move_stored_label(shelf, "../x", 1)
    assert read_stored_moves(shelf) == []


def test_an_operator_cannot_undo_another_unawares(shelf: Storage) -> None:
    move_stored_label(shelf, "stable", 1, expected_previous=None)
    for expected in (None, 2):
        with pytest.raises(LabelConflictError, match="got version 1"):
            move_stored_label(shelf, "stable", 3, expected_previous=expected)
    move_stored_label(shelf, "stable", 2, expected_previous=1)
    with pytest.raises(LabelConflictError):
        roll_back_stored_label(shelf, "stable", expected_previous=1)
    roll_back_stored_label(shelf, "stable", expected_previous=2)


def test_movers_who_race_leave_no_gap_and_lose_no_move(shelf: Storage) -> None:
    def move(number: int) -> None:
        label = ("stable", "canary")[number % 2]
        move_stored_label(shelf, label, 1 + number % 3, actor=f"mover {number}")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(move, range(12)))
    assert_unbroken(read_stored_moves(shelf), 12)


def test_of_movers_who_expect_the_same_one_succeeds(shelf: Storage) -> None:
    move_stored_label(shelf, "stable", 1)

    def moves(number: int) -> bool:
        try:
            move_stored_label(
                shelf, "stable", 2 + number % 2, expected_previous=1, actor=str(number)
            )
        except LabelConflictError:
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(moves, range(6))) == 1
    assert len(read_stored_moves(shelf)) == 2


def test_movers_in_processes_lose_no_move(shelf: Storage, url: str) -> None:
    if url.startswith("memory"):
        pytest.skip("memory is one process's own")
    command = [sys.executable, "-c", MOVE_IN_ANOTHER_PROCESS, url]
    running = [subprocess.Popen([*command, name, "4"]) for name in ("left", "right")]
    assert [process.wait() for process in running] == [0, 0]
    moves = read_stored_moves(shelf)
    assert_unbroken(moves, 8)
    for name in ("left", "right"):
        own = [move.actor for move in moves if move.actor.startswith(name)]
        assert own == [f"{name}-{number}" for number in range(4)]


def test_known_lines_are_not_read_again(shelf: Storage) -> None:
    move_stored_label(shelf, "stable", 1)
    known = read_stored_moves(shelf)
    shelf.fs.pipe_file(f"{shelf.root}/labels/000000000001.json", b"not read")
    assert read_stored_moves(shelf, known) == known
    with pytest.raises(ReleaseError, match=r"000000000001\.json"):
        read_stored_moves(shelf)


def test_a_missing_line_is_told(shelf: Storage) -> None:
    for version in (1, 2, 3):
        move_stored_label(shelf, "stable", version)
    shelf.fs.rm_file(f"{shelf.root}/labels/000000000002.json")
    with pytest.raises(ReleaseError, match=r"000000000002\.json: expected a label's move"):
        read_stored_labels(shelf)


def test_a_line_that_does_not_go_on_from_the_one_before_is_told(shelf: Storage) -> None:
    moved = move_stored_label(shelf, "stable", 1)
    assert shelf.create("labels/000000000002.json", encode_move(moved))
    with pytest.raises(ReleaseError, match="labels, line 2: expected a move of stable from"):
        read_stored_labels(shelf)


def test_a_version_or_a_label_names_a_release(shelf: Storage) -> None:
    move_stored_label(shelf, "stable", 2)
    assert (resolve_stored(shelf, "3"), resolve_stored(shelf, "stable")) == (3, 2)
    with pytest.raises(ReleaseError, match=r"there is stable \(2\)"):
        resolve_stored(shelf, "canary")
