"""Labels: movable names for releases. Every move is a line of a journal, and only that is true.

`REGISTRY/labels.journal.jsonl` grows by one line a move; where the labels stand follows from
replaying it (`journal.py`), so that state and record can never disagree. Here is the file alone;
what has to happen around a move while servers run, and in which order, is told in `moves.py`.
"""

import fcntl
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from upnext.errors import ReleaseError
from upnext.registry.files import force_to_disk
from upnext.registry.journal import (
    AskedMove,
    LabelMove,
    Previous,
    Standing,
    as_followed,
    decode_move,
    encode_move,
    moves_not_followed,
    next_move,
    standings_of,
)
from upnext.registry.release import list_releases


def append_move(
    registry: Path,
    label: str,
    version: int,
    *,
    expected_previous: Previous = "any",
    actor: str = "",
    reason: str = "",
) -> LabelMove:
    """Writes down that a label points at a release from now on; safe on disk on return.

    Nothing is verified and no server is asked: that is for `moves.move_label`.

    `expected_previous`: the move happens only if the label stands there now (None: only if it
    does not exist yet), so that two operators cannot undo each other unawares.

    Raises:
        LabelConflictError: the label stands elsewhere than expected.
        ReleaseError: the name is no label, or the journal is damaged.
    """
    asked = AskedMove(
        label=label,
        version=version,
        expected_previous=expected_previous,
        actor=actor,
        reason=reason,
    )
    return _append(registry, lambda moves, where: [next_move(moves, where, asked)])[-1]


def append_rollback(
    registry: Path,
    label: str,
    version: int,
    *,
    expected_previous: Previous,
    actor: str = "",
    reason: str = "",
) -> LabelMove:
    """Writes down that a label went back to the version that it had before.

    Raises:
        LabelConflictError: the label stands elsewhere than expected.
        ReleaseError: that was not its version before, or the journal is damaged.
    """
    asked = AskedMove(
        label=label,
        version=version,
        kind="rollback",
        expected_previous=expected_previous,
        actor=actor,
        reason=reason,
    )
    return _append(registry, lambda moves, where: [next_move(moves, where, asked)])[-1]


def append_followed(registry: Path, elsewhere: Sequence[LabelMove]) -> LabelMove:
    """Of all moves that a label has made elsewhere, writes down those that are new, in one write.

    Gives the label's last move, as it is here.

    Raises: ReleaseError: the name is no label, or the journal is damaged.
    """
    label = elsewhere[-1].label

    def make(moves: Sequence[LabelMove], where: str) -> list[LabelMove]:
        # Asked now that nobody else writes: another mirror may have been faster.
        return as_followed(moves, where, moves_not_followed(elsewhere, moves))

    return [move for move in _append(registry, make) if move.label == label][-1]


def read_labels(registry: Path) -> dict[str, int]:
    """Where every label stands now, by name.

    Raises:
        ReleaseError: the journal is damaged.
    """
    return {label: standing.version for label, standing in read_standings(registry).items()}


def read_standings(registry: Path) -> dict[str, Standing]:
    """Where every label stands and where it would roll back to, by name.

    Raises:
        ReleaseError: the journal is damaged.
    """
    return standings_of(read_moves(registry), str(journal_path(registry)))


def read_moves(registry: Path) -> list[LabelMove]:
    """All moves, oldest first. A last line that a crash cut short is a move that never was.

    Raises:
        ReleaseError: another line cannot be read.
    """
    path = journal_path(registry)
    return _parse(_whole_lines(path.read_bytes()), path) if path.exists() else []


def resolve(registry: Path, version_or_label: str) -> int:
    """The version that a user means by `"8"` or `"stable"`.

    Raises:
        ReleaseError: there is no such release or label; the hint lists what there is.
    """
    return resolve_among(
        version_or_label,
        versions=lambda: list_releases(registry),
        labels=lambda: read_labels(registry),
        where=str(registry),
    )


def resolve_among(
    version_or_label: str,
    *,
    versions: Callable[[], Sequence[int]],
    labels: Callable[[], Mapping[str, int]],
    where: str,
) -> int:
    """As `resolve`, among versions and labels that lie anywhere; only what is needed is asked."""
    if re.fullmatch("[0-9]+", version_or_label):
        published = versions()
        if int(version_or_label) in published:
            return int(version_or_label)
        there = ", ".join(map(str, published))
        kind = "a published version"
    else:
        standing = labels()
        if version_or_label in standing:
            return standing[version_or_label]
        there = ", ".join(f"{label} ({version})" for label, version in standing.items())
        kind = "a label"
    hint = f"there is {there}." if there else "there is none yet."
    raise ReleaseError(where, expected=kind, got=repr(version_or_label), hint=hint)


def journal_path(registry: Path) -> Path:
    """Where the journal lies, or will lie once a label has moved."""
    return registry / "labels.journal.jsonl"


def _append(
    registry: Path, make: Callable[[Sequence[LabelMove], str], Sequence[LabelMove]]
) -> Sequence[LabelMove]:
    """Adds what `make` makes of the moves so far, and of where they lie; gives all moves then."""
    path = journal_path(registry)
    with path.open("a+b") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        journal.seek(0)
        content = _whole_lines(journal.read())
        moves = _parse(content, path)
        added = make(moves, str(path))
        journal.truncate(len(content))
        journal.write(b"".join(map(encode_move, added)))
        journal.flush()
        force_to_disk(path)
        force_to_disk(registry)
    return [*moves, *added]


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _parse(content: bytes, path: Path) -> list[LabelMove]:
    lines = enumerate(content.splitlines(), start=1)
    return [decode_move(line, f"{path}, line {number}") for number, line in lines]
