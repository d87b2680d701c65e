"""Labels on storage: the journal, one object a line, so that two movers cannot both write one.

`URL/labels/000000000012.json` is line 12. It is created only if there is none; who comes second
reads what has happened meanwhile, and decides anew.
"""

import re
from collections.abc import Sequence

from upnext.errors import ReleaseError
from upnext.registry.journal import (
    AskedMove,
    LabelMove,
    Previous,
    Standing,
    check_expected,
    decode_move,
    encode_move,
    next_move,
    rollback_of,
    standings_of,
)
from upnext.registry.labels import resolve_among
from upnext.registry.storage.copying import in_threads
from upnext.registry.storage.objects import Storage, StorageError
from upnext.registry.storage.stored import list_stored, read_stored

LABELS = "labels"

_NUM_TRIES = 1000


def read_stored_moves(storage: Storage, known: Sequence[LabelMove] = ()) -> list[LabelMove]:
    """All moves, oldest first; lines never change, so those that are `known` are not read again.

    Raises: ReleaseError: a line is missing or none.
    """
    found = (re.fullmatch(r"([0-9]{12})\.json", name) for name in storage.sizes_below(LABELS))
    numbers = sorted(int(one[1]) for one in found if one)
    for expected, number in enumerate(numbers, start=1):
        if number != expected:
            raise ReleaseError(
                storage.where(_line(expected)),
                expected="a label's move",
                got="none, and there are later ones",
                hint="the journal was edited; restore it from a copy.",
            )
    known = known if len(known) <= len(numbers) else ()
    new = [_line(number) for number in numbers[len(known) :]]
    lines = zip(new, in_threads(storage.read, new), strict=True)
    return [*known, *(decode_move(line, storage.where(name)) for name, line in lines)]


def read_stored_standings(storage: Storage) -> dict[str, Standing]:
    """Where every label stands on storage and where it would roll back to, by name.

    Raises: ReleaseError: the journal is damaged.
    """
    return standings_of(read_stored_moves(storage), storage.where(LABELS))


def read_stored_labels(storage: Storage) -> dict[str, int]:
    """Where every label stands on storage, by name.

    Raises: ReleaseError: the journal is damaged.
    """
    return {label: one.version for label, one in read_stored_standings(storage).items()}


def resolve_stored(storage: Storage, version_or_label: str) -> int:
    """The version on storage that a user means by `"8"` or `"stable"`.

    Raises: ReleaseError: there is no such release or label; the hint lists what there is.
    """
    return resolve_among(
        version_or_label,
        versions=lambda: list_stored(storage),
        labels=lambda: read_stored_labels(storage),
        where=storage.url,
    )


def move_stored_label(
    storage: Storage,
    label: str,
    version: int,
    *,
    expected_previous: Previous = "any",
    actor: str = "",
    reason: str = "",
) -> LabelMove:
    """Points a label on storage at a release there; registries that follow it come after.

    `expected_previous`: the move happens only if the label stands there now (None: only if it
    does not exist yet).

    Raises:
        LabelConflictError: the label stands elsewhere than expected.
        ReleaseError: the name is no label, or the release is not there.
    """
    read_stored(storage, version)
    asked = AskedMove(
        label=label,
        version=version,
        expected_previous=expected_previous,
        actor=actor,
        reason=reason,
    )
    return append_stored(storage, asked)


def roll_back_stored_label(
    storage: Storage,
    label: str,
    *,
    expected_previous: Previous = "any",
    actor: str = "",
    reason: str = "",
) -> LabelMove:
    """Points a label on storage at the version it had there before.

    Raises: LabelConflictError: it has none, or stands elsewhere than expected.
    """
    current, version = rollback_of(read_stored_standings(storage), label)
    check_expected(label, expected_previous, current)
    asked = AskedMove(
        label=label,
        version=version,
        kind="rollback",
        expected_previous=current,
        actor=actor,
        reason=reason,
    )
    return append_stored(storage, asked)


def append_stored(storage: Storage, asked: AskedMove) -> LabelMove:
    """Writes down a move; whether its release is on storage is not asked.

    Raises:
        LabelConflictError: it does not go with where the label stands by now.
        StorageError: the storage cannot be reached, or creates an object over another.
    """
    storage.refuse_overwriting()
    moves: Sequence[LabelMove] = ()
    for _ in range(_NUM_TRIES):
        moves = read_stored_moves(storage, moves)
        move = next_move(moves, storage.where(LABELS), asked)
        if storage.create(_line(len(moves) + 1), encode_move(move)):
            return move
    raise StorageError(
        storage.where(LABELS),
        expected=f"a line that nobody else writes first, in {_NUM_TRIES} tries",
        got="none",
    )


def _line(number: int) -> str:
    return f"{LABELS}/{number:012d}.json"
