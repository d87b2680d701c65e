"""Ids become numbers while they stream by, a column at a time."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

Codes = NDArray[np.int32]
Hashes = NDArray[np.uint64]

NO_CODE = -1
MAX_CHUNKS = 8
"""Pieces of the list of ids; more would slow down every look into it."""

_HALF = np.uint64(32)
_LOWER_HALF = np.uint64(2**32 - 1)
_ONE = np.uint64(1)


class IdCodes:
    """Numbers ids in the order in which they first come: 0, 1, 2, …

    A hash table with open addressing, every step of which works on a whole column. Ids of one hash
    are compared, so none are mistaken for each other. An integer and the text that writes it are
    one id.

    >>> users = IdCodes()
    >>> users.codes(pl.Series(["ann", "ben", "ann"])), users.codes(pl.Series(["cleo", "ben"]))
    (array([0, 1, 0], dtype=int32), array([2, 1], dtype=int32))
    >>> users.ids.to_list()
    ['ann', 'ben', 'cleo']
    """

    def __init__(self) -> None:
        self.ids = pl.Series("id", [], dtype=pl.String)
        # A slot is 0 where it is free, else the hash's upper half and below it 1 + the code.
        self._slots = np.zeros(1 << 12, np.uint64)

    def __len__(self) -> int:
        return len(self.ids)

    def codes(self, ids: pl.Series) -> Codes:
        """The number of each id, [len(ids)]; new ones are added. Nulls are not allowed."""
        text = ids.cast(pl.String)
        codes = self._find(text)
        is_new = codes == NO_CODE
        if is_new.any():
            unknown = text.filter(pl.Series(is_new))
            self._add(unknown.unique(maintain_order=True))
            codes[is_new] = self._find(unknown)
        return codes

    def _find(self, text: pl.Series) -> Codes:
        codes = np.full(len(text), NO_CODE, np.int32)
        waiting, hashes = np.arange(len(text)), _hashed(text)
        places = self._first_places(hashes)
        while waiting.size:
            there = self._slots[places]
            alike = np.flatnonzero((there ^ hashes) >> _HALF == 0)
            alike = alike[there[alike] != 0]
            held = (there[alike] & _LOWER_HALF).astype(np.int32) - np.int32(1)
            is_same = (self.ids.gather(held) == text.gather(waiting[alike])).to_numpy()
            codes[waiting[alike[is_same]]] = held[is_same]
            goes_on = there != 0
            goes_on[alike[is_same]] = False
            waiting, hashes = waiting[goes_on], hashes[goes_on]
            places = self._next_places(places[goes_on])
        return codes

    def _add(self, new: pl.Series) -> None:
        """Takes on distinct ids that are not known yet."""
        first = len(self.ids)
        self.ids.append(new)
        if self.ids.n_chunks() > MAX_CHUNKS:
            self.ids = self.ids.rechunk()
        if 2 * len(self.ids) > len(self._slots):
            self._slots = np.zeros(1 << (4 * len(self.ids)).bit_length(), np.uint64)
            first, new = 0, self.ids
        hashes = _hashed(new)
        codes = np.arange(first, len(self.ids), dtype=np.uint64)
        wanted = (hashes & ~_LOWER_HALF) | (codes + _ONE)
        places = self._first_places(hashes)
        while wanted.size:
            is_free = self._slots[places] == 0
            self._slots[places[is_free]] = wanted[is_free]
            goes_on = self._slots[places] != wanted  # of several that want one slot, one gets it
            wanted, places = wanted[goes_on], self._next_places(places[goes_on])

    def _first_places(self, hashes: Hashes) -> NDArray[np.int64]:
        return (hashes & np.uint64(len(self._slots) - 1)).astype(np.int64)

    def _next_places(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return (places + 1) & (len(self._slots) - 1)


def _hashed(text: pl.Series) -> Hashes:
    hashes: Hashes = text.hash().to_numpy()
    return hashes
