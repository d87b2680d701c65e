"""How one ranked list differs from another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from upnext.schema import Id


@dataclass(frozen=True)
class Move:
    """Where an item went: `up` and `down` by so many places, or it is `new`, `gone` or the `same`.

    >>> str(Move("up", 3)), str(Move("new")), str(Move("same"))
    ('▲ 3', 'new', '=')
    """

    kind: Literal["up", "down", "same", "new", "gone"]
    num_places: int = 0

    def __str__(self) -> str:
        match self.kind:
            case "up":
                return f"▲ {self.num_places}"
            case "down":
                return f"▼ {self.num_places}"
            case "same":
                return "="
            case _:
                return self.kind

    @property
    def in_words(self) -> str:
        """The same for who does not see it.

        >>> Move("up", 1).in_words, Move("down", 2).in_words, Move("gone").in_words
        ('1 place higher', '2 places lower', 'gone')
        """
        places = f"{self.num_places} place{'' if self.num_places == 1 else 's'}"
        match self.kind:
            case "up":
                return f"{places} higher"
            case "down":
                return f"{places} lower"
            case "same":
                return "in the same place"
            case _:
                return self.kind


def moves(before: Sequence[Id], after: Sequence[Id]) -> list[Move]:
    """What became of each item of `after`; an item stands in a list once.

    >>> [str(move) for move in moves(["a", "b", "c"], ["c", "a", "d"])]
    ['▲ 2', '▼ 1', 'new']
    """
    places = {item_id: place for place, item_id in enumerate(before)}
    return [_move(places.get(item_id), place) for place, item_id in enumerate(after)]


def gone(before: Sequence[Id], after: Sequence[Id]) -> list[tuple[int, Id]]:
    """Places, from 1, and items of `before` that `after` has not.

    >>> gone(["a", "b", "c"], ["c", "a", "d"])
    [(2, 'b')]
    """
    left = set(after)
    return [(place, item_id) for place, item_id in enumerate(before, 1) if item_id not in left]


def overlap(before: Sequence[Id], after: Sequence[Id]) -> float | None:
    """The share of the longer list that both have; None where both are empty.

    >>> overlap(["a", "b", "c"], ["c", "a", "d"])
    0.6666666666666666
    """
    longer = max(len(before), len(after))
    return len(set(before) & set(after)) / longer if longer else None


def _move(before: int | None, after: int) -> Move:
    if before is None:
        return Move("new")
    if before == after:
        return Move("same")
    return Move("up" if after < before else "down", abs(after - before))
