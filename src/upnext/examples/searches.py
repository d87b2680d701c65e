"""Queries become unordered bags of unigrams and bigrams."""

import itertools
import re

import polars as pl

_WORD = re.compile(r"\w+")


def query_tokens(query: str) -> list[str]:
    """The unigrams and bigrams of a query; a bigram's two words stand in alphabetical order.

    Neither the order of the words nor that of the tokens says anything, so that a search does not
    give away the watch that it led to. Source: Covington, Adams, Sargin 2016, sections 3.3, 3.4.

    >>> query_tokens("Slow Ramen, slow")
    ['ramen', 'ramen slow', 'slow']
    """
    words = _WORD.findall(query.casefold())
    pairs = {" ".join(sorted(pair)) for pair in itertools.pairwise(words)}
    return sorted(set(words) | pairs)


def explode_tokens(searches: pl.DataFrame) -> pl.DataFrame:
    """One line a token: user_id, searched_at_ms, token. Each distinct query is split once."""
    distinct = searches["query"].unique()
    tokens = pl.DataFrame(
        {"query": distinct, "token": [query_tokens(query) for query in distinct]},
        schema={"query": pl.String, "token": pl.List(pl.String)},
    )
    return (
        searches.join(tokens, on="query", how="left", maintain_order="left")
        .explode("token")
        .drop_nulls("token")
        .select("user_id", "searched_at_ms", "token")
    )
