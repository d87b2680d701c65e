"""Labels stand where the journal says, through crashes, rivals and rollbacks."""

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upnext.errors import ReleaseError
from upnext.registry.journal import LabelMove
from upnext.registry.labels import append_move, journal_path, read_labels, read_moves, resolve
from upnext.registry.moves import move_label, rollback
from upnext.registry.release import publish

NUM_RELEASES = 3


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "a.txt").touch()
    return {}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    for _ in range(NUM_RELEASES):
        publish(tmp_path, _write)
    return tmp_path


def _damage(registry: Path, version: int) -> None:
    path = registry / f"releases/{version}/a.txt"
    path.chmod(0o644)
    path.write_text("x", encoding="utf-8")


def test_a_label_stands_where_it_was_moved(registry: Path) -> None:
    assert read_labels(registry) == {}
    move_label(registry, "stable", 1)
    move_label(registry, "canary", 2)
    move_label(registry, "stable", 3)
    assert read_labels(registry) == {"canary": 2, "stable": 3}


def test_a_move_tells_and_journals_what_happened(registry: Path) -> None:
    move_label(registry, "stable", 1)
    move = move_label(registry, "stable", 2, actor="ada", reason="better recall").move
    assert (move.from_version, move.to_version, move.kind) == (1, 2, "move")
    assert (move.actor, move.reason) == ("ada", "better recall")
    lines = journal_path(registry).read_text(encoding="utf-8").splitlines()
    assert LabelMove(**json.loads(lines[-1])) == move == read_moves(registry)[-1]


def test_rollbacks_go_back_step_by_step(registry: Path) -> None:
    for version in (1, 2, 3):
        move_label(registry, "stable", version)
    assert rollback(registry, "stable").move.to_version == 2
    assert rollback(registry, "stable", reason="this one too").move.to_version == 1
    with pytest.raises(ReleaseError, match="only version 1"):
        rollback(registry, "stable")
    assert read_labels(registry) == {"stable": 1}


def test_after_a_rollback_a_move_starts_from_there(registry: Path) -> None:
    move_label(registry, "stable", 1)
    move_label(registry, "stable", 2)
    rollback(registry, "stable")
    move_label(registry, "stable", 3)
    assert rollback(registry, "stable").move.to_version == 1


def test_a_move_to_where_it_stands_does_not_eat_a_rollback(registry: Path) -> None:
    for version in (1, 2, 2):
        move_label(registry, "stable", version)
    assert rollback(registry, "stable").move.to_version == 1


def test_an_unknown_label_does_not_roll_back(registry: Path) -> None:
    with pytest.raises(ReleaseError, match="no such label"):
        rollback(registry, "stable")


@pytest.mark.parametrize(
    ("start", "expected", "moves"),
    [(None, None, True), (None, 1, False), (1, 1, True), (1, None, False), (1, 3, False)],
)
def test_a_move_happens_only_from_where_it_was_expected(
    registry: Path, start: int | None, expected: int | None, moves: bool
) -> None:
    if start is not None:
        move_label(registry, "stable", start)
    before = read_labels(registry)
    if moves:
        move_label(registry, "stable", 2, expected_previous=expected)
        assert read_labels(registry) == {"stable": 2}
    else:
        with pytest.raises(ReleaseError, match="in the meantime"):
            move_label(registry, "stable", 2, expected_previous=expected)
        assert read_labels(registry) == before


def test_a_label_does_not_move_to_a_missing_or_damaged_release(registry: Path) -> None:
    move_label(registry, "stable", 1)
    _damage(registry, 2)
    with pytest.raises(ReleaseError, match=r"a\.txt"):
        move_label(registry, "stable", 2)
    with pytest.raises(ReleaseError, match="published: 1, 2, 3"):
        move_label(registry, "stable", 9)
    assert read_labels(registry) == {"stable": 1}


def test_a_label_does_not_roll_back_to_a_damaged_release(registry: Path) -> None:
    move_label(registry, "stable", 1)
    move_label(registry, "stable", 2)
    _damage(registry, 1)
    with pytest.raises(ReleaseError, match=r"a\.txt"):
        rollback(registry, "stable")
    assert read_labels(registry) == {"stable": 2}


@pytest.mark.parametrize("label", ["", "8", "Stable", "-a", "a_b", "a b", "é", "a" * 33, "a\n"])
def test_a_name_that_is_no_label_is_refused(registry: Path, label: str) -> None:
    with pytest.raises(ReleaseError, match="small letter"):
        move_label(registry, label, 1)
    assert not journal_path(registry).exists()


def test_a_torn_last_line_is_a_move_that_never_was(registry: Path) -> None:
    move_label(registry, "stable", 1)
    whole = journal_path(registry).read_bytes()
    move_label(registry, "stable", 2)
    both = journal_path(registry).read_bytes()
    for num_bytes in range(len(whole), len(both)):
        journal_path(registry).write_bytes(both[:num_bytes])
        assert read_labels(registry) == {"stable": 1}

    move_label(registry, "stable", 3, expected_previous=1)
    assert [move.to_version for move in read_moves(registry)] == [1, 3]


def test_a_line_damaged_in_the_middle_is_an_error(registry: Path) -> None:
    move_label(registry, "stable", 1)
    move_label(registry, "stable", 2)
    first, second = journal_path(registry).read_bytes().splitlines(keepends=True)
    journal_path(registry).write_bytes(first[:20] + b"\n" + second)
    with pytest.raises(ReleaseError, match="line 1"):
        read_labels(registry)


def test_a_line_that_is_gone_is_an_error(registry: Path) -> None:
    for version in (1, 2, 3):
        move_label(registry, "stable", version)
    first, _, third = journal_path(registry).read_bytes().splitlines(keepends=True)
    journal_path(registry).write_bytes(first + third)
    with pytest.raises(ReleaseError, match="line 2: expected a move of stable from version 1"):
        read_labels(registry)


def test_of_rivals_who_expect_the_same_exactly_one_moves(registry: Path) -> None:
    move_label(registry, "stable", 1)

    def try_to_move(version: int) -> bool:
        try:
            move_label(registry, "stable", version, expected_previous=1)
        except ReleaseError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        moved = list(threads.map(try_to_move, [2, 3] * 8))
    assert sum(moved) == 1
    assert len(read_moves(registry)) == 2


def test_no_move_is_lost_among_many_movers(registry: Path) -> None:
    labels = [f"label-{number}" for number in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda label: move_label(registry, label, 2), labels))
    assert read_labels(registry) == dict.fromkeys(sorted(labels), 2)


def test_a_version_or_a_label_names_a_release(registry: Path) -> None:
    move_label(registry, "stable", 2)
    assert resolve(registry, "3") == 3
    assert resolve(registry, "stable") == 2
    with pytest.raises(ReleaseError, match=r"there is stable \(2\)"):
        resolve(registry, "canary")
    with pytest.raises(ReleaseError, match="there is 1, 2, 3"):
        resolve(registry, "4")


def test_an_empty_registry_resolves_nothing(tmp_path: Path) -> None:
    for name in ("stable", "1"):
        with pytest.raises(ReleaseError, match="none yet"):
            resolve(tmp_path, name)


steps = st.lists(
    st.tuples(st.sampled_from(["stable", "canary"]), st.sampled_from(["back", 1, 2, 3])),
    max_size=12,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps)
def test_labels_behave_like_an_undo_list(
    registry: Path, steps: list[tuple[str, str | int]]
) -> None:
    journal_path(registry).unlink(missing_ok=True)
    history: dict[str, list[int]] = {"stable": [], "canary": []}
    num_moves = 0
    for label, step in steps:
        versions = history[label]
        if isinstance(step, int):
            move_label(registry, label, step)
            num_moves += 1
            if versions[-1:] != [step]:
                versions.append(step)
        elif len(versions) < 2:
            with pytest.raises(ReleaseError):
                rollback(registry, label)
        else:
            rollback(registry, label)
            num_moves += 1
            versions.pop()
        expected = {name: list_[-1] for name, list_ in history.items() if list_}
        assert read_labels(registry) == expected
    assert len(read_moves(registry)) == num_moves


moves = st.lists(
    st.tuples(st.sampled_from(["stable", "canary"]), st.integers(1, 9), st.text(max_size=3)),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(moves=moves)
def test_a_crash_at_any_byte_leaves_the_moves_before_it(
    tmp_path: Path, moves: list[tuple[str, int, str]]
) -> None:
    path = journal_path(tmp_path)
    path.unlink(missing_ok=True)
    standing: list[dict[str, int]] = [{}]
    for label, version, reason in moves:
        append_move(tmp_path, label, version, reason=reason)
        standing.append(dict(sorted({**standing[-1], label: version}.items())))
    whole = path.read_bytes()
    for num_bytes in range(len(whole) + 1):
        path.write_bytes(whole[:num_bytes])
        num_lines = whole[:num_bytes].count(b"\n")
        assert read_labels(tmp_path) == standing[num_lines]
        if num_bytes % 7 == 0:
            append_move(tmp_path, "after", 1)
            assert read_labels(tmp_path) == {"after": 1, **standing[num_lines]}


def test_a_journal_from_before_servers_met_here_still_says_where_labels_stand(
    tmp_path: Path,
) -> None:
    lines = [
        '{"moved_at":"2026-11-01T00:00:00.000Z","label":"stable","kind":"move",'
        '"from_version":null,"to_version":1,"actor":"","reason":""}',
        '{"moved_at":"2026-11-02T00:00:00.000Z","label":"stable","kind":"move",'
        '"from_version":1,"to_version":2,"actor":"ada","reason":"better"}',
        '{"moved_at":"2026-11-03T00:00:00.000Z","label":"stable","kind":"rollback",'
        '"from_version":2,"to_version":1,"actor":"","reason":""}',
    ]
    journal_path(tmp_path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_labels(tmp_path) == {"stable": 1}


def test_the_journal_alone_carries_the_labels(registry: Path, tmp_path: Path) -> None:
    move_label(registry, "stable", 1)
    move_label(registry, "stable", 2)
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(journal_path(registry), copy)
    assert read_labels(copy) == read_labels(registry)
