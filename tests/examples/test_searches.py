import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.examples.searches import explode_tokens, query_tokens

words = st.lists(st.sampled_from(["ramen", "slow", "tokyo", "été", "7"]), max_size=6)


@pytest.mark.parametrize(
    ("query", "tokens"),
    [
        ("Ramen", ["ramen"]),
        ("ramen, RAMEN!", ["ramen", "ramen ramen"]),
        ("how to cook", ["cook", "cook to", "how", "how to", "to"]),
        ("Straße 7", ["7", "7 strasse", "strasse"]),
        ("  ...  ", []),
        ("", []),
    ],
)
def test_a_query_is_its_words_and_its_pairs_of_neighbours(query: str, tokens: list[str]) -> None:
    assert query_tokens(query) == tokens


@given(words)
def test_reading_a_query_backwards_changes_nothing(words: list[str]) -> None:
    assert query_tokens(" ".join(words)) == query_tokens(" ".join(reversed(words)))


@given(words)
def test_tokens_are_distinct_and_all_words_are_there(words: list[str]) -> None:
    tokens = query_tokens(" ".join(words))
    assert len(set(tokens)) == len(tokens)
    assert {token for token in tokens if " " not in token} == set(words)
    assert sum(" " in token for token in tokens) <= max(len(words) - 1, 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), words.map(" ".join)), max_size=8))
def test_a_table_of_searches_has_a_line_for_each_token(
    searches: list[tuple[int, int, str]],
) -> None:
    schema = {"user_id": pl.Int64, "searched_at_ms": pl.Int64, "query": pl.String}
    exploded = explode_tokens(pl.DataFrame(searches, schema=schema, orient="row"))
    assert exploded.columns == ["user_id", "searched_at_ms", "token"]
    assert exploded.rows() == [
        (user, at_ms, token) for user, at_ms, query in searches for token in query_tokens(query)
    ]
