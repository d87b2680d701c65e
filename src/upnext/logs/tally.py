"""What became of watches that were read in pieces, wherever each was read: counts and refusals.

A row is told by its place among all rows of all pieces.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.logs.check import Verdicts, as_days, rows_by_day
from upnext.logs.pieces import Piece
from upnext.logs.report import RefusedRow, TableReport, UnreadableFile
from upnext.schema import TimesMs

Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PieceRows:
    """Where the rows of a piece stand among all: in [first, first + num_rows).

    `num_broken`: lines that could not be taken apart, which are no rows.
    """

    piece: Piece
    first: int
    num_rows: int
    num_broken: int


@dataclass(frozen=True, kw_only=True)
class RefusedRows:
    """Which rows of a piece are refused, from 0, and why, as `Verdicts` has it."""

    piece: Piece
    rows: Places
    verdicts: Verdicts


@dataclass(kw_only=True)
class Tally:
    """Counts of what was read so far; tallies of pieces that follow one another add up."""

    num_read: int = 0
    num_accepted: int = 0
    pieces: list[PieceRows] = field(default_factory=list)
    unreadable: list[UnreadableFile] = field(default_factory=list)
    unused_columns: set[str] = field(default_factory=set)
    blanked: Counter[str] = field(default_factory=Counter)
    """Cells that had to be told otherwise, as `TableReport` has it."""
    reasons: list[str] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    """First and last times of good rows; the least and the greatest matter."""
    num_by_day: Counter[int] = field(default_factory=Counter)
    refused: list[tuple[Places, NDArray[np.uint8]]] = field(default_factory=list)
    """Places, and why, as `Verdicts` has it."""

    def take(self, verdicts: Verdicts, good_at_ms: TimesMs) -> Places:
        """Counts rows that follow those before; gives the places of the good ones.

        Args:
            verdicts: on each row, with the reasons of this tally.
            good_at_ms: times of the good ones.
        """
        refused = np.flatnonzero(verdicts.codes)
        if refused.size:
            self.refused.append((self.num_read + refused, verdicts.codes[refused]))
        if good_at_ms.size:
            self._note_times(int(good_at_ms.min()), int(good_at_ms.max()))
            self.num_by_day += rows_by_day(good_at_ms)
        places = self.num_read + np.flatnonzero(verdicts.codes == 0)
        self.num_accepted += places.size
        self.num_read += len(verdicts.codes)
        return places

    def end_piece(self, piece: Piece, *, first: int, num_broken: int) -> None:
        """Notes that a piece was read to its end; its rows began at `first`."""
        self.pieces.append(
            PieceRows(
                piece=piece, first=first, num_rows=self.num_read - first, num_broken=num_broken
            )
        )

    def add(self, later: "Tally") -> None:
        """Takes on the tally of pieces that follow."""
        ours = Verdicts(np.zeros(0, np.uint8), self.reasons)
        recoded = np.array([0, *map(ours.code, later.reasons)], np.uint8)
        self.refused += [(self.num_read + at, recoded[codes]) for at, codes in later.refused]
        self.pieces += [replace(one, first=self.num_read + one.first) for one in later.pieces]
        self.unreadable += later.unreadable
        self.unused_columns |= later.unused_columns
        self.blanked += later.blanked
        if later.times_ms:
            self._note_times(*later.times_ms)
        self.num_by_day += later.num_by_day
        self.num_read += later.num_read
        self.num_accepted += later.num_accepted

    def refuse_repeats(self, places: Places, at_ms: TimesMs) -> None:
        """Refuses rows, of these times, that were good but for being there already."""
        if places.size:
            verdicts = Verdicts(np.zeros(places.size, np.uint8), self.reasons)
            verdicts.refuse("duplicate", pl.Series(np.ones(places.size, bool)))
            self.refused.append((places, verdicts.codes))
            self.num_accepted -= places.size
            self.num_by_day -= rows_by_day(at_ms)

    def refused_rows(self) -> Iterator[RefusedRows]:
        """Refused rows of each piece that has any, or a broken line."""
        places, codes = self._all_refused()
        for one in self.pieces:
            here = slice(*np.searchsorted(places, [one.first, one.first + one.num_rows]))
            if one.num_broken or here.start < here.stop:
                yield RefusedRows(
                    piece=one.piece,
                    rows=places[here] - one.first,
                    verdicts=Verdicts(codes[here], self.reasons),
                )

    def report(self, examples: tuple[RefusedRow, ...] = ()) -> TableReport:
        """All that is counted, and a few refused rows of each reason."""
        num_broken = sum(one.num_broken for one in self.pieces)
        verdicts = Verdicts(self._all_refused()[1], self.reasons)
        return TableReport(
            num_read=self.num_read + num_broken,
            num_accepted=self.num_accepted,
            quarantined=verdicts.counts(num_broken=num_broken),
            blanked=dict(self.blanked),
            unused_columns=tuple(sorted(self.unused_columns)),
            first_ms=min(self.times_ms, default=None),
            last_ms=max(self.times_ms, default=None),
            per_day=as_days(self.num_by_day),
            examples=examples,
        )

    def _note_times(self, first_ms: int, last_ms: int) -> None:
        known = [*self.times_ms, first_ms, last_ms]
        self.times_ms = [min(known), max(known)]

    def _all_refused(self) -> tuple[Places, NDArray[np.uint8]]:
        """Places in their order, and the reason of each."""
        nothing = (np.zeros(0, np.int64), np.zeros(0, np.uint8))
        places, codes = map(np.concatenate, zip(nothing, *self.refused, strict=True))
        order = np.argsort(places)
        return places[order], codes[order]
