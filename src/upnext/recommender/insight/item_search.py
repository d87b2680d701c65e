"""Items by what a person types: an id, its beginning, or words of a title; most watched first."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.examples.catalogue import Catalogue
from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Rows

TITLES_AT_ONCE = 1 << 16
"""Most watched first, so that a search for many ends long before the last title."""

_NEWLINE, _SPACE = b"\n "


class ItemSearch:
    """All titles of a release, without regard to case; made once, as it takes a while."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._items = catalogue.items
        self._titles = _folded_titles(catalogue)

    def rows(self, text: str, k: int) -> Rows:
        """The first k of: the item of this id, ids that begin with it, titles that hold its words.

        Each word must begin a word of the title. Among the latter two the most watched come first:
        the rows of a vocabulary fall in frequency. An empty text is the beginning of all.
        """
        text = text.strip()
        exact = self._items.rows([text])
        found = exact[exact != UNKNOWN_ROW]
        beginning = self._items.rows_beginning(text)[: k + 1]
        found = np.concatenate([found, beginning[~np.isin(beginning, found)]])[:k]
        if len(found) < k and text:
            found = np.concatenate([found, self._titled(text.casefold().split(), k, found)])[:k]
        return found

    def _titled(self, words: list[str], k: int, besides: Rows) -> Rows:
        """Up to k rows beside those that are found already."""
        found = np.zeros(0, np.int32)
        for start in range(0, len(self._titles), TITLES_AT_ONCE):
            holds = _hold_words(self._titles[start : start + TITLES_AT_ONCE], words)
            rows = (np.flatnonzero(holds) + start + NUM_RESERVED_ROWS).astype(np.int32)
            found = np.concatenate([found, rows[~np.isin(rows, besides)]])
            if len(found) >= k:
                break
        return found[:k]


def _hold_words(titles: pl.Series, words: list[str]) -> NDArray[np.bool_]:
    holds = pl.repeat(True, len(titles), eager=True)
    for word in words:
        holds &= titles.str.contains(rf"(?:^|\W){pl.escape_regex(word)}")
    return holds.to_numpy()


def _folded_titles(catalogue: Catalogue) -> pl.Series:
    """The title of each item, beginning with row 2; all are folded, then split, in one go."""
    starts = catalogue.title_starts[NUM_RESERVED_ROWS:]
    letters = catalogue.title_bytes[starts[0] : starts[-1]]
    letters = np.where(letters == _NEWLINE, np.uint8(_SPACE), letters)
    lines = np.insert(letters, starts[1:-1] - starts[0], _NEWLINE)
    return pl.Series(lines.tobytes().decode().casefold().split("\n"), dtype=pl.String)
