"""The journal of labels as such: its lines, what follows from replaying them, what may come next.

Here is no file. Where the lines lie is told by `labels.py` (a registry) and `storage/labels.py`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import dropwhile
from typing import Literal

import msgspec

from upnext.errors import ReleaseError

Kind = Literal["move", "rollback"]
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
    kind: Kind
    from_version: int | None
    to_version: int
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedMove:
    """A move that somebody asks for.

    `expected_previous`: it happens only if the label stands there (None: only if it does not exist
    yet), so that two operators cannot undo each other unawares. `moved_at`: ISO 8601 in UTC; empty
    where it is made now.
    """

    label: str
    version: int
    kind: Kind = "move"
    expected_previous: Previous = "any"
    actor: str = ""
    reason: str = ""
    moved_at: str = ""


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


def check_label(label: str) -> None:
    """Raises ReleaseError: this cannot be the name of a label."""
    if not re.fullmatch("[a-z][a-z0-9-]{0,31}", label):
        raise ReleaseError(
            "label",
            expected="a small letter, then up to 31 small letters, digits or hyphens",
            got=repr(label),
        )


def check_expected(label: str, expected: Previous, version: int | None) -> None:
    """Raises LabelConflictError: the label stands elsewhere than where it was expected."""
    if expected not in ("any", version):
        raise LabelConflictError(
            f"label {label}",
            expected=_standing(expected),
            got=_standing(version),
            hint="it moved in the meantime; look at the journal, then decide anew.",
        )


def encode_move(move: LabelMove) -> bytes:
    """The line of a move, its end included."""
    return msgspec.json.encode(move) + b"\n"


def decode_move(line: bytes, where: str) -> LabelMove:
    """A move from its line; `where` tells of which. Raises ReleaseError: it is none."""
    try:
        return msgspec.json.decode(line, type=LabelMove)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReleaseError(where, expected="a label's move", got=str(error)) from None


def standings_of(moves: Sequence[LabelMove], where: str) -> dict[str, Standing]:
    """Where moves have taken every label, by name; `where` their journal lies.

    Raises: ReleaseError: a move does not begin where the one before it has ended.
    """
    stacks = _replay(moves, where)
    last_lines = {move.label: number for number, move in enumerate(moves, start=1)}
    return {
        label: Standing(versions=tuple(stacks[label]), num_lines=last_lines[label])
        for label in sorted(stacks)
    }


def rollback_of(standings: Mapping[str, Standing], label: str) -> tuple[int, int]:
    """Where a label stands, and where a rollback would take it.

    Raises: LabelConflictError: it has no earlier version, or there is no such label.
    """
    standing = standings.get(label)
    if standing is None or standing.rollback_version is None:
        raise LabelConflictError(
            f"label {label}",
            expected="an earlier version to go back to",
            got=f"only version {standing.version}" if standing else "no such label",
            hint="move the label to a version instead.",
        )
    return standing.version, standing.rollback_version


def next_move(moves: Sequence[LabelMove], where: str, asked: AskedMove) -> LabelMove:
    """The move that was asked for, if it goes with where moves have taken the label.

    Raises:
        LabelConflictError: the label stands elsewhere than expected, or would not roll back there.
        ReleaseError: the name is no label, or the journal is damaged.
    """
    check_label(asked.label)
    versions = _replay(moves, where).get(asked.label, [None])
    check_expected(asked.label, asked.expected_previous, versions[-1])
    if asked.kind == "rollback" and versions[-2:-1] != [asked.version]:
        raise LabelConflictError(
            f"label {asked.label}",
            expected=f"version {asked.version} as the one before",
            got=f"the versions {versions}",
            hint="it moved in the meantime; look at the journal, then decide anew.",
        )
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return LabelMove(
        moved_at=asked.moved_at or now,
        label=asked.label,
        kind=asked.kind,
        from_version=versions[-1],
        to_version=asked.version,
        actor=asked.actor,
        reason=asked.reason,
    )


def moves_not_followed(
    elsewhere: Sequence[LabelMove], here: Sequence[LabelMove]
) -> list[LabelMove]:
    """Of all moves that a label has made elsewhere, those that are not written down here yet.

    What was followed before is here in its order, maybe with moves of this registry in between.
    """
    left = map(_identity, here)
    # `in` consumes `left` up to what it finds, so order counts, and so does each of two alike.
    return list(dropwhile(lambda move: _identity(move) in left, elsewhere))


def as_followed(
    moves: Sequence[LabelMove], where: str, followed: Sequence[LabelMove]
) -> list[LabelMove]:
    """Moves that were made elsewhere, as lines of this journal; when, by whom and why stays told.

    Where a label has gone its own way here, its move comes from where it stands, and what was a
    rollback is a move.

    Raises: ReleaseError: a name is no label, or the journal is damaged.
    """
    stacks = _replay(moves, where)
    added = []
    for move in followed:
        check_label(move.label)
        stack = stacks.setdefault(move.label, [])
        goes_back = move.kind == "rollback" and stack[-2:-1] == [move.to_version]
        here = replace(
            move,
            kind="rollback" if goes_back else "move",
            from_version=stack[-1] if stack else None,
        )
        _take(stack, here)
        added.append(here)
    return added


def _identity(move: LabelMove) -> tuple[str, str, int, str, str]:
    """What is the same of a move in every journal that holds it."""
    return (move.moved_at, move.label, move.to_version, move.actor, move.reason)


def _replay(moves: Sequence[LabelMove], where: str) -> dict[str, list[int]]:
    """By label, the versions that it would roll back along, the current one last."""
    stacks: dict[str, list[int]] = {}
    for number, move in enumerate(moves, start=1):
        stack = stacks.setdefault(move.label, [])
        current = stack[-1] if stack else None
        back = stack[-2] if len(stack) > 1 else None
        if move.from_version != current or (move.kind == "rollback" and move.to_version != back):
            raise ReleaseError(
                f"{where}, line {number}",
                expected=f"a move of {move.label} from {_standing(current)}",
                got=f"a {move.kind} from {_standing(move.from_version)} to {move.to_version}",
                hint="the journal was edited; restore it from a copy.",
            )
        _take(stack, move)
    return stacks


def _take(stack: list[int], move: LabelMove) -> None:
    if move.kind == "rollback":
        stack.pop()
    elif stack[-1:] != [move.to_version]:
        stack.append(move.to_version)


def _standing(version: Previous) -> str:
    return "nowhere" if version is None else f"version {version}"
