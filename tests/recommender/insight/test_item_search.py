"""Items are found by id, by its beginning and by words of their titles, most watched first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import upnext.recommender.insight.item_search
from upnext.examples.catalogue import Catalogue, build_catalogue
from upnext.recommender.insight.item_search import ItemSearch
from upnext.schema import Id, Logs

TITLES: dict[Id, str | None] = {
    "v1": "Slow Ramen, the long way",
    "v2": "Ramen in ten minutes\nand a half",
    "v10": "STRASSE oder Straße?",
    "v": None,
    "ramen": "Nothing to eat",
    "x9": "C++ (part 2)",
    "x10": "видео про рамен",
}
"""By falling number of watches."""
WORDS = ["slow", "ramen", "Ramen,", "in", "ten", "c++", "рамен", "(part", "way"]


def catalogue_of(make_logs: Callable[..., Logs], titles: dict[Id, str | None]) -> Catalogue:
    watches = [
        ("ann", item_id, step, 1.0)
        for place, item_id in enumerate(titles)
        for step in range(len(titles) - place)
    ]
    items = [(item_id, None, None, None, None, title) for item_id, title in titles.items()]
    logs = make_logs(watches=watches, items=items)
    return build_catalogue(logs, max_items=None, min_watches=1, max_tags=2)


@pytest.fixture(scope="module")
def catalogue(make_logs: Callable[..., Logs]) -> Catalogue:
    return catalogue_of(make_logs, TITLES)


def found(catalogue: Catalogue, text: str, k: int = 20) -> list[Id]:
    rows = ItemSearch(catalogue).rows(text, k)
    assert rows.dtype == np.int32
    return [catalogue.items.id(row) for row in rows.tolist()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", list(TITLES)),
        ("  ", list(TITLES)),
        ("v1", ["v1", "v10"]),
        ("v", ["v", "v1", "v2", "v10"]),
        ("ramen", ["ramen", "v1", "v2"]),
        ("RAMEN slow", ["v1"]),
        ("ram lo", ["v1"]),
        ("amen", []),
        ("half", ["v2"]),
        ("strasse", ["v10"]),
        ("ß", []),
        ("c++", ["x9"]),
        ("(part 2)", ["x9"]),
        ("РАМЕН", ["x10"]),
        ("x", ["x9", "x10"]),
        ("a title that is longer than any id", []),
    ],
)
def test_what_a_text_finds(catalogue: Catalogue, text: str, expected: list[Id]) -> None:
    assert found(catalogue, text) == expected
    for k in range(1, len(expected)):
        assert found(catalogue, text, k) == expected[:k]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), st.integers(1, 4))
def test_all_words_must_begin_words_of_the_title_however_many_titles_are_read_at_once(
    catalogue: Catalogue, words: list[str], titles_at_once: int
) -> None:
    def holds(title: str | None) -> bool:
        letters = f" {title or ''}".casefold().replace("\n", " ")
        return all(
            any(
                letters.startswith(word.casefold(), place + 1) and not before.isalnum()
                for place, before in enumerate(letters)
            )
            for word in words
        )

    text = " ".join(words)
    by_title = [item for item, title in TITLES.items() if holds(title)]
    by_id = [item for item in TITLES if str(item).startswith(text)]
    expected = [*by_id, *(item for item in by_title if item not in by_id)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upnext.recommender.insight.item_search, "TITLES_AT_ONCE", titles_at_once)
        assert found(catalogue, text) == expected


def test_integer_ids_are_found_as_they_are_written(make_logs: Callable[..., Logs]) -> None:
    catalogue = catalogue_of(make_logs, {12: "one", 120: "2", 3: "twelve 12", 1: None, -1: "minus"})
    assert found(catalogue, "12") == [12, 120, 3]
    assert found(catalogue, "1") == [1, 12, 120, 3]
    assert found(catalogue, "-") == [-1]
    assert found(catalogue, "2") == [120]
    assert found(catalogue, "012") == []
