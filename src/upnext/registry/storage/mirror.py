"""A registry that follows labels on storage: what they point at is pulled, then they move here.

Which moves have been followed is read from the journal here, which holds them: no second file says
so, and whoever is killed on the way goes on where the journal ends.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from upnext.errors import UpnextError
from upnext.registry.journal import LabelMove, Standing, moves_not_followed, standings_of
from upnext.registry.labels import read_moves
from upnext.registry.moves import Moved, follow_moves
from upnext.registry.storage.copying import Tell
from upnext.registry.storage.labels import LABELS, read_stored_moves
from upnext.registry.storage.objects import Storage, open_storage
from upnext.registry.storage.pull import pull_release


def mirror(
    url: str,
    registry: Path,
    *,
    say: Tell = lambda _: None,
    on_progress: Tell = lambda _: None,
) -> list[Moved]:
    """Moves labels of a registry as they have moved on storage; servers here follow.

    Each label moves once, to where it stands there: pulled, ready in every server, then written.
    Moves before that are lines of the journal here too. What moves a label here meanwhile holds
    until it moves there again.

    Raises:
        ReleaseError: a release is missing or damaged, or a server cannot load it. Other labels have
            moved nevertheless.
        StorageError: the storage cannot be reached.
    """
    storage = open_storage(url)
    return _follow(storage, registry, read_stored_moves(storage), say, on_progress)


def keep_mirroring(
    url: str,
    registry: Path,
    every_s: float,
    *,
    rest: Callable[[float], None] = time.sleep,
    say: Tell = lambda _: None,
    on_progress: Tell = lambda _: None,
) -> None:
    """Does what `mirror` does again and again, until this process ends.

    What goes wrong is said, once as long as it stays the same, and tried again.

    Raises: UpnextError: the storage cannot be read when this begins.
    """
    storage = open_storage(url)
    moves: Sequence[LabelMove] = read_stored_moves(storage)
    problem = ""
    while True:
        try:
            moves = read_stored_moves(storage, moves)
            _follow(storage, registry, moves, say, on_progress)
            problem = ""
        except (UpnextError, OSError) as error:  # a disk that is full may be emptied
            if str(error) != problem:
                problem = str(error)
                say(problem)
        rest(every_s)


def _follow(
    storage: Storage, registry: Path, moves: Sequence[LabelMove], say: Tell, on_progress: Tell
) -> list[Moved]:
    moved, problems = [], []
    for label, standing in standings_of(moves, storage.where(LABELS)).items():
        of_label = [move for move in moves if move.label == label]
        if not moves_not_followed(of_label, read_moves(registry)):
            continue
        try:
            _pull_both(storage, registry, standing, say, on_progress)
            moved.append(follow_moves(registry, of_label))
            before = moved[-1].move.from_version or "nothing"
            say(f"{label}: {before} → {standing.version}")
        except UpnextError as error:
            problems.append(error)
    for problem in problems[1:]:
        say(str(problem))
    if problems:
        raise problems[0]
    return moved


def _pull_both(
    storage: Storage, registry: Path, standing: Standing, say: Tell, on_progress: Tell
) -> None:
    """What a label stands at, and what it would roll back to if that is still there."""
    say(pull_release(storage, registry, standing.version, on_progress).to_text())
    if standing.rollback_version is not None:
        try:
            pull_release(storage, registry, standing.rollback_version, on_progress)
        except UpnextError as error:
            say(str(error))
