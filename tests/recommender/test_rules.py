"""An item is allowed if every rule holds for it, judged by what its line in the table says."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import RequestError
from upnext.examples.catalogue import Catalogue, build_catalogue
from upnext.recommender.rules import allowed_by
from upnext.schema import Id, ItemRules, Items, Logs

ITEMS: Sequence[tuple[Any, ...]] = (
    ("a", 100, 30.0, "north", ["tea", "rice"], "A"),
    ("b", 200, 60.0, "north", ["rice"], "B"),
    ("c", 300, None, "south", [], "C"),
    ("d", 400, 600.0, None, None, "D"),
    ("e", 500, 90.0, "west", ["tea"], "E"),
    ("f", 600, 45.0, "west", ["oats", "tea"], "F"),
)
NEW = pl.DataFrame(
    {
        "item_id": ["g", "h"],
        "published_at_ms": [700, 800],
        "duration_s": [50.0, 50.0],
        "channel_id": ["somewhere new", "north"],
        "tags": [["tea"], ["never seen"]],
        "title": ["G", "H"],
    },
    schema_overrides={"duration_s": pl.Float32},
)
"""What came after training: its channel, or its tag, is unknown."""


@pytest.fixture(scope="module")
def catalogue(make_logs: Callable[..., Logs]) -> Catalogue:
    watches = [("u", line[0], 1_000 + place, 9.0) for place, line in enumerate(ITEMS)]
    logs = make_logs(watches=watches, items=ITEMS)
    trained = build_catalogue(logs, max_items=None, min_watches=1, max_tags=4)
    return trained.with_items(trained.new_items(Items(NEW)), first_seen_ms=0)


def ids(catalogue: Catalogue, rules: ItemRules) -> str:
    """The ids that are allowed, in the order of the alphabet."""
    rows = allowed_by(rules, catalogue).rows
    assert rows is not None
    assert (np.diff(rows) > 0).all()
    return "".join(sorted(str(catalogue.items.id(row)) for row in rows))


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        (ItemRules(allowed_items=["b", "d", "nobody"]), "bd"),
        (ItemRules(allowed_items=[]), ""),
        (ItemRules(blocked_items=["b", "nobody"]), "acdefgh"),
        (ItemRules(allowed_channels=["north"]), "abh"),
        (ItemRules(blocked_channels=["north"]), "cdefg"),
        (ItemRules(allowed_tags=["tea"]), "aefg"),
        (ItemRules(allowed_tags=["rice", "oats"]), "abf"),
        (ItemRules(blocked_tags=["tea"]), "bcdh"),
        (ItemRules(min_duration_s=60), "bde"),
        (ItemRules(max_duration_s=60), "abfgh"),
        (ItemRules(min_duration_s=45, max_duration_s=60), "bfgh"),
        (ItemRules(published_since_ms=400), "defgh"),
        (ItemRules(blocked_channels=["north"], allowed_tags=["tea"], max_duration_s=60), "fg"),
    ],
)
def test_what_a_rule_leaves(catalogue: Catalogue, rules: ItemRules, left: str) -> None:
    assert ids(catalogue, rules) == left


@given(
    rules=st.fixed_dictionaries(
        {},
        optional={
            "allowed_items": st.lists(st.sampled_from("abcdefgh")),
            "blocked_items": st.lists(st.sampled_from("abcdefgh")),
            "allowed_channels": st.lists(st.sampled_from(["north", "south", "west"])),
            "blocked_channels": st.lists(st.sampled_from(["north", "south", "west"])),
            "allowed_tags": st.lists(st.sampled_from(["tea", "rice", "oats"])),
            "blocked_tags": st.lists(st.sampled_from(["tea", "rice", "oats"])),
            "min_duration_s": st.sampled_from([0.0, 30.0, 60.0]),
            "max_duration_s": st.sampled_from([60.0, 100.0, 600.0]),
            "published_since_ms": st.integers(0, 900),
        },
    )
)
def test_rules_together_leave_what_each_leaves_alone(
    catalogue: Catalogue, rules: dict[str, Any]
) -> None:
    together = allowed_by(ItemRules(**rules), catalogue).rows
    each = [allowed_by(ItemRules(**{name: value}), catalogue).rows for name, value in rules.items()]
    binding = [set(rows.tolist()) for rows in each if rows is not None]
    if not binding:
        assert together is None
    else:
        assert together is not None
        assert set(together.tolist()) == set.intersection(*binding)


def test_no_rule_looks_at_nothing(catalogue: Catalogue) -> None:
    assert allowed_by(ItemRules(), catalogue).rows is None
    assert allowed_by(ItemRules(blocked_items=[], blocked_tags=[]), catalogue).rows is None


def test_what_is_blocked_and_not_known_takes_all_unknown_ones_along(catalogue: Catalogue) -> None:
    """The new channel may be the very one that is blocked, and the new tag that tag."""
    assert ids(catalogue, ItemRules(blocked_channels=["somewhere new"])) == "abcdefh"
    assert ids(catalogue, ItemRules(blocked_tags=["adult"])) == "abcdefg"
    assert ids(catalogue, ItemRules(allowed_channels=["somewhere new", "south"])) == "c"


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (ItemRules(allowed_items=["a", "x", "y"]), "allowed_items: this release does not know 2 "),
        (ItemRules(blocked_channels=["x"]), "blocked_channels: this release does not know 1 of 1"),
        (ItemRules(allowed_tags=["x", "tea"]), "allowed_tags: this release does not know 1 of 2"),
    ],
)
def test_names_that_are_not_known_are_told(
    catalogue: Catalogue, rules: ItemRules, told: str
) -> None:
    (cause,) = allowed_by(rules, catalogue).causes
    assert cause.startswith(f"rules.{told}")


def test_a_blocked_item_that_is_not_known_is_nothing_to_tell(catalogue: Catalogue) -> None:
    gone: list[Id] = ["taken down", 7]
    assert allowed_by(ItemRules(blocked_items=gone), catalogue).causes == ()


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"min_duration_s": -1.0}, "rules.min_duration_s: expected 0 or more, got -1.0."),
        (
            {"min_duration_s": 60.0, "max_duration_s": 30.0},
            "rules.max_duration_s: expected 60 or more, got 30.0.",
        ),
        ({"max_duration_s": float("nan")}, "rules.max_duration_s: expected 0 or more, got nan."),
    ],
)
def test_rules_that_nothing_can_keep_are_refused(rules: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError) as caught:
        ItemRules(**rules)
    assert str(caught.value) == told
