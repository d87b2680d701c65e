"""Which items may be recommended: business rules become rows that retrieval searches among.

Left out before the search, items leave no holes: as many candidates are found as without rules.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.examples.catalogue import Catalogue
from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, ItemRules, Rows

Mask = NDArray[np.bool_]
"""[N]: whether a rule holds for the item in a row."""


@dataclass(frozen=True)
class Allowed:
    """The rows that rules leave, ascending, or None where no rule is set.

    `causes`: one sentence for each rule that names what the release does not know.
    """

    rows: Rows | None
    causes: tuple[str, ...] = ()


def allowed_by(rules: ItemRules, catalogue: Catalogue) -> Allowed:
    """The items for which every rule holds; `ItemRules` says what each rule asks.

    Each rule that is set looks at every item once, and none at all costs nothing.
    """
    causes: list[str] = []
    masks = [*_named_masks(rules, catalogue, causes), *_measured_masks(rules, catalogue)]
    if not masks:
        return Allowed(None)
    allowed: Mask = np.logical_and.reduce(masks)
    allowed[:NUM_RESERVED_ROWS] = False
    return Allowed(np.flatnonzero(allowed).astype(np.int32), tuple(causes))


def _named_masks(rules: ItemRules, catalogue: Catalogue, causes: list[str]) -> Iterator[Mask]:
    """Rules that list items, channels or tags.

    Row 1 stands for all that the release does not know. It is never allowed, and blocked with
    each unknown channel or tag, since it may be that very one.
    """
    for kind, vocabulary, allowed, blocked in (
        ("items", catalogue.items, rules.allowed_items, rules.blocked_items),
        ("channels", catalogue.channels, rules.allowed_channels, rules.blocked_channels),
        ("tags", catalogue.tags, rules.allowed_tags, rules.blocked_tags),
    ):
        if allowed is not None:
            named = vocabulary.rows(allowed)
            causes += _not_known(f"rules.allowed_{kind}", named)
            yield _items_with(kind, catalogue, named[named != UNKNOWN_ROW])
        if blocked:
            named = vocabulary.rows(blocked)
            if kind != "items":  # an item that is not known cannot be recommended either
                causes += _not_known(f"rules.blocked_{kind}", named)
            yield ~_items_with(kind, catalogue, named)


def _items_with(kind: str, catalogue: Catalogue, named: Rows) -> Mask:
    """The items that are among the named ones, or of these channels, or with one of these tags."""
    match kind:
        case "items":
            return _flags(catalogue.num_rows, named)
        case "channels":
            return _flags(catalogue.channels.num_rows, named).take(catalogue.channel_rows)
        case _:
            are_named = _flags(catalogue.tags.num_rows, named).take(catalogue.tag_rows)
            # Whether any tag of a line is named; a product takes a third of any()'s time.
            has_named: Mask = are_named @ np.ones(are_named.shape[1], bool)
            return has_named


def _flags(num_rows: int, rows: Rows) -> Mask:
    flags = np.zeros(num_rows, bool)
    flags[rows] = True
    return flags


def _not_known(rule: str, named: Rows) -> list[str]:
    num_unknown = np.count_nonzero(named == UNKNOWN_ROW)
    told = f"{rule}: this release does not know {num_unknown:,} of {len(named):,}"
    return [told] if num_unknown else []


def _measured_masks(rules: ItemRules, catalogue: Catalogue) -> Iterator[Mask]:
    """Rules on duration, of which 0 stands for unknown, and on time."""
    if rules.min_duration_s is not None:
        yield (catalogue.duration_s > 0) & (catalogue.duration_s >= rules.min_duration_s)
    if rules.max_duration_s is not None:
        yield (catalogue.duration_s > 0) & (catalogue.duration_s <= rules.max_duration_s)
    if rules.published_since_ms is not None:
        yield catalogue.published_at_ms >= rules.published_since_ms
