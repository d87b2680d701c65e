"""How lists differ, against a look at every pair of places."""

from hypothesis import given
from hypothesis import strategies as st

from upnext.console.moves import gone, moves, overlap

lists = st.lists(st.integers(0, 14) | st.sampled_from("abc"), unique=True, max_size=10)


@given(lists, lists)
def test_each_item_is_marked_by_where_it_stood(
    before: list[int | str], after: list[int | str]
) -> None:
    marks = moves(before, after)
    assert len(marks) == len(after)
    for item_id, mark in zip(after, marks, strict=True):
        stood = [place for place, one in enumerate(before) if one == item_id]
        if not stood:
            assert (mark.kind, str(mark)) == ("new", "new")
            continue
        rose = stood[0] - after.index(item_id)
        told = "=" if rose == 0 else f"▲ {rose}" if rose > 0 else f"▼ {-rose}"
        assert str(mark) == told


@given(lists, lists)
def test_what_is_gone_and_what_stays_make_up_the_list_before(
    before: list[int | str], after: list[int | str]
) -> None:
    left = gone(before, after)
    assert [before[place - 1] for place, _ in left] == [item_id for _, item_id in left]
    assert {item_id for _, item_id in left} == set(before) - set(after)
    both = len(before) - len(left)
    share = overlap(before, after)
    if share is None:
        assert before == after == []
    else:
        assert share * max(len(before), len(after)) == both or abs(share * 10 - both) < 10
        assert 0 <= share <= 1
    assert sum(mark.kind != "new" for mark in moves(before, after)) == both


@given(lists)
def test_a_list_beside_itself_has_not_moved(one: list[int | str]) -> None:
    assert {mark.kind for mark in moves(one, one)} <= {"same"}
    assert gone(one, one) == []
    assert overlap(one, one) in (1.0, None)
