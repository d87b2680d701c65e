"""Labels: movable names for releases. Every move is a line of a journal, and only that is true.

`REGISTRY/labels.journal.jsonl` grows by one line a move; where the labels stand follows from
replaying it, so that state and record can never disagree. Here is the journal alone; what has to
happen around a move while servers run, and in which order, is told in `moves.py`.
"""

import fcntl
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from upnext.errors import ReleaseError
from upnext.registry.files import force_to_disk
from upnext.registry.release import list_releases

Previous = int | Literal["any"] | None
"""A version, no version yet, or whichever it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMove:
    """One line of the journal; `from_version` is None where the label is new.

    `moved_at` is ISO 8601 in UTC. A `rollback` goes back along the versions that the label has
    had; a `move` goes anywhere.
    """

    moved_at: str
    label: str
    kind: Literal["move", "rollback"]
    from_version: int | None
    to_version: int
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a label stands, and how it came there.

    `versions`: those that it would roll back along, the current one last. `num_lines`: how many
    lines the journal had when the label last moved.
    """

    versions: Sequence[int]
    num_lines: int

    @property
    def version(self) -> int:
        """Where it stands now."""
        return self.versions[-1]

    @property
    def rollback_version(self) -> int | None:
        """Where a rollback would take it; None where it has never stood elsewhere."""
        return self.versions[-2] if len(self.versions) > 1 else None


class LabelConflictError(ReleaseError):
    """What was asked for does not go with where the labels stand now; nothing has changed."""


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
    check_label(label)
    return _append(registry, label, "move", version, expected_previous, actor, reason)


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
    return _append(registry, label, "rollback", version, expected_previous, actor, reason)


def rollback_of(registry: Path, label: str) -> tuple[int, int]:
    """Where a label stands, and where a rollback would take it.

    Raises: LabelConflictError: it has no earlier version, or there is no such label.
    """
    standing = read_standings(registry).get(label)
    if standing is None or standing.rollback_version is None:
        raise LabelConflictError(
            f"label {label}",
            expected="an earlier version to go back to",
            got=f"only version {standing.version}" if standing else "no such label",
            hint="move the label to a version instead.",
        )
    return standing.version, standing.rollback_version


def check_expected(label: str, expected: Previous, version: int | None) -> None:
    """Raises LabelConflictError: the label stands elsewhere than where it was expected."""
    if expected not in ("any", version):
        raise LabelConflictError(
            f"label {label}",
            expected=_standing(expected),
            got=_standing(version),
            hint="it moved in the meantime; look at the journal, then decide anew.",
        )


def check_label(label: str) -> None:
    """Raises ReleaseError: this cannot be the name of a label."""
    if not re.fullmatch("[a-z][a-z0-9-]{0,31}", label):
        raise ReleaseError(
            "label",
            expected="a small letter, then up to 31 small letters, digits or hyphens",
            got=repr(label),
        )


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
    moves = read_moves(registry)
    stacks = _replay(moves, journal_path(registry))
    last_lines = {move.label: number for number, move in enumerate(moves, start=1)}
    return {
        label: Standing(versions=tuple(stacks[label]), num_lines=last_lines[label])
        for label in sorted(stacks)
    }


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
    if re.fullmatch("[0-9]+", version_or_label):
        versions = list_releases(registry)
        if int(version_or_label) in versions:
            return int(version_or_label)
        there = ", ".join(map(str, versions))
        kind = "a published version"
    else:
        labels = read_labels(registry)
        if version_or_label in labels:
            return labels[version_or_label]
        there = ", ".join(f"{label} ({version})" for label, version in labels.items())
        kind = "a label"
    hint = f"there is {there}." if there else "there is none yet."
    raise ReleaseError(str(registry), expected=kind, got=repr(version_or_label), hint=hint)


def journal_path(registry: Path) -> Path:
    """Where the journal lies, or will lie once a label has moved."""
    return registry / "labels.journal.jsonl"


def _append(
    registry: Path,
    label: str,
    kind: Literal["move", "rollback"],
    version: int,
    expected_previous: Previous,
    actor: str,
    reason: str,
) -> LabelMove:
    path = journal_path(registry)
    with path.open("a+b") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        journal.seek(0)
        content = _whole_lines(journal.read())
        moves = _parse(content, path)
        versions = _replay(moves, path).get(label, [None])
        check_expected(label, expected_previous, versions[-1])
        if kind == "rollback" and versions[-2:-1] != [version]:
            raise LabelConflictError(
                f"label {label}",
                expected=f"version {version} as the one before",
                got=f"the versions {versions}",
                hint="it moved in the meantime; look at the journal, then decide anew.",
            )
        move = LabelMove(
            moved_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            label=label,
            kind=kind,
            from_version=versions[-1],
            to_version=version,
            actor=actor,
            reason=reason,
        )
        _replay([*moves, move], path)
        journal.truncate(len(content))
        journal.write(msgspec.json.encode(move) + b"\n")
        journal.flush()
        force_to_disk(path)
        force_to_disk(registry)
    return move


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _parse(content: bytes, path: Path) -> list[LabelMove]:
    moves = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            moves.append(msgspec.json.decode(line, type=LabelMove))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            where = f"{path}, line {number}"
            raise ReleaseError(where, expected="a label's move", got=str(error)) from None
    return moves


def _replay(moves: Sequence[LabelMove], path: Path) -> dict[str, list[int]]:
    """By label, the versions that it would roll back along, the current one last."""
    stacks: dict[str, list[int]] = {}
    for number, move in enumerate(moves, start=1):
        stack = stacks.setdefault(move.label, [])
        current = stack[-1] if stack else None
        back = stack[-2] if len(stack) > 1 else None
        if move.from_version != current or (move.kind == "rollback" and move.to_version != back):
            raise ReleaseError(
                f"{path}, line {number}",
                expected=f"a move of {move.label} from {_standing(current)}",
                got=f"a {move.kind} from {_standing(move.from_version)} to {move.to_version}",
                hint="the journal was edited; restore it from a copy.",
            )
        if move.kind == "rollback":
            stack.pop()
        elif move.to_version != current:
            stack.append(move.to_version)
    return stacks


def _standing(version: Previous) -> str:
    return "nowhere" if version is None else f"version {version}"
