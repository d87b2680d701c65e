"""What was followed of another journal is known again, however alike its moves are."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from upnext.registry.journal import (
    AskedMove,
    LabelMove,
    as_followed,
    moves_not_followed,
    next_move,
    standings_of,
)

VERSIONS = st.lists(st.integers(1, 3), max_size=8)


def made(versions: Sequence[int], *, actor: str = "") -> list[LabelMove]:
    """Moves that were all made in the same millisecond, so that many are the same."""
    moves: list[LabelMove] = []
    for version in versions:
        asked = AskedMove(label="stable", version=version, actor=actor, moved_at="now")
        moves.append(next_move(moves, "elsewhere", asked))
    return moves


@given(versions=VERSIONS, data=st.data())
def test_from_any_place_on_the_rest_is_followed_once(
    versions: list[int], data: st.DataObject
) -> None:
    elsewhere = made(versions)
    num_here = data.draw(st.integers(0, len(elsewhere)))
    here = elsewhere[:num_here]
    assert moves_not_followed(elsewhere, here) == elsewhere[num_here:]
    here += as_followed(here, "here", elsewhere[num_here:])
    assert here == elsewhere


@given(versions=VERSIONS, own=st.lists(st.tuples(st.integers(0, 8), st.integers(1, 3))))
def test_moves_of_ones_own_in_between_stay_and_hide_nothing(
    versions: list[int], own: list[tuple[int, int]]
) -> None:
    elsewhere = made(versions)
    here: list[LabelMove] = []
    for place in range(len(elsewhere) + 1):
        here += as_followed(here, "here", moves_not_followed(elsewhere[:place], here))
        for at, version in own:
            if at == place:
                asked = AskedMove(label="stable", version=version, actor="own", moved_at="now")
                here.append(next_move(here, "here", asked))
    assert moves_not_followed(elsewhere, here) == []
    assert [move.to_version for move in here if not move.actor] == versions
    assert len(here) == len(versions) + sum(at <= len(versions) for at, _ in own)
    standings_of(here, "here")  # each begins where the one before has ended
