"""Declared features of items: columns of the items table become rows and levels, by item row.

They give an item a vector before anyone has watched it: what its channel, tags or length are worth
was learned from other items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.examples.quantiles import quantile_bounds, to_quantile, with_powers
from upnext.examples.vocabulary import Vocabulary
from upnext.schema import NUM_RESERVED_ROWS, PAD_ROW, UNKNOWN_ROW, Floats, Rows

LEVELS_PER_NUMBER = 4
"""Of a number x: x̃, x̃², √x̃, and 1 where it is unknown."""
ITEMS_AT_ONCE = 16_384

_HINT = "[examples] item_features names columns of the items table."

Kind = Literal["category", "list", "number"]
_DTYPE_OF: Mapping[Kind, pl.DataType] = {
    "category": pl.String(),
    "list": pl.List(pl.String()),
    "number": pl.Float32(),
}


@dataclass(frozen=True)
class ItemFeatures:
    """How declared columns of the items table are encoded, and what they say of each item.

    All values share one table of vectors: rows 0 (missing) and 1 (unknown), which are zero, then
    the values of each category, then those of each list, feature after feature.

    categories, lists: the known values by feature; bounds: quantiles of each number.
    value_rows [N, S]: a slot a category, then `max_values` slots a list.
    levels [N, 4 K]: x̃, x̃², √x̃, 0 of each number x, or 0, 0, 0, 1 where it is unknown.
    """

    categories: Mapping[str, Vocabulary]
    lists: Mapping[str, Vocabulary]
    bounds: Mapping[str, Floats]
    value_rows: Rows
    levels: Floats

    @property
    def names(self) -> tuple[str, ...]:
        """The features, categories first, then lists, then numbers."""
        return (*self.categories, *self.lists, *self.bounds)

    @property
    def num_values(self) -> int:
        """V: rows of the table of vectors that all values share."""
        vocabularies = (*self.categories.values(), *self.lists.values())
        return NUM_RESERVED_ROWS + sum(len(known.ids) for known in vocabularies)

    @property
    def max_values(self) -> int:
        """T: slots of each list; 0 without lists."""
        num_slots: int = self.value_rows.shape[1]
        return (num_slots - len(self.categories)) // max(1, len(self.lists))

    def value_weights(self, item_rows: NDArray[Any] | slice = slice(None)) -> Floats:
        """[R, S]: with which weight the vector of each slot enters its item's vector.

        1 for a known category; for lists 1 / (known values of the list), which makes the mean;
        0 where nothing is known.
        """
        known = (self.value_rows[item_rows] > UNKNOWN_ROW).astype(np.float32)
        in_lists = known[:, len(self.categories) :]
        by_list = in_lists.reshape(len(known), len(self.lists), self.max_values)
        means = by_list / np.maximum(by_list.sum(axis=2, keepdims=True), 1)
        return np.concatenate([known[:, : len(self.categories)], means.reshape(in_lists.shape)], 1)

    def with_items(self, lines: pl.DataFrame) -> "ItemFeatures":
        """The same rows, and after them one for each line of an items table.

        Raises: DataError: a feature is no column, or of a type that it did not have in training.
        """
        value_rows, levels = _encoded(self, lines, self.max_values)
        return replace(
            self,
            value_rows=np.concatenate([self.value_rows, value_rows]),
            levels=np.concatenate([self.levels, levels]),
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a release."""
        arrays: dict[str, NDArray[Any]] = {"value_rows": self.value_rows, "levels": self.levels}
        for kind, vocabularies in (("category", self.categories), ("list", self.lists)):
            for name, known in vocabularies.items():
                arrays |= {f"{kind}.{name}.ids": known.ids, f"{kind}.{name}.order": known.order}
        return arrays | {f"number.{name}.bounds": bounds for name, bounds in self.bounds.items()}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], names: Sequence[str]
    ) -> "ItemFeatures":
        """The inverse of `to_arrays`; `names` are the declared features in their order."""

        def vocabularies(kind: Kind) -> dict[str, Vocabulary]:
            return {
                name: Vocabulary(arrays[f"{kind}.{name}.ids"], arrays[f"{kind}.{name}.order"])
                for name in names
                if f"{kind}.{name}.ids" in arrays
            }

        bounds = {name: arrays.get(f"number.{name}.bounds") for name in names}
        return cls(
            categories=vocabularies("category"),
            lists=vocabularies("list"),
            bounds={name: given for name, given in bounds.items() if given is not None},
            value_rows=arrays["value_rows"],
            levels=arrays["levels"],
        )


def build_item_features(
    lines: pl.DataFrame, names: Sequence[str], *, max_values: int
) -> ItemFeatures:
    """Learns the values that occur and the quantiles of numbers, and encodes every item.

    Text, whole numbers and flags are categories, of which each value has a vector; lists are bags
    of values, whose vectors are averaged; other numbers enter by their quantile. Features are the
    item's own and the same at all times: no watch has a part in them.

    Args:
        lines: of the items table, line i describing item row i + 2.
        names: the declared features.
        max_values: values of a list that are used, the first ones.

    Raises: DataError: a feature is no column of the items table, or of another type.
    """
    columns = {name: _column(lines, name) for name in names}
    kinds = {name: _kind(column) for name, column in columns.items()}
    features = ItemFeatures(
        categories={
            name: Vocabulary.by_frequency(_keys(columns[name]))
            for name, kind in kinds.items()
            if kind == "category"
        },
        lists={
            name: Vocabulary.by_frequency(_keys(columns[name].explode()))
            for name, kind in kinds.items()
            if kind == "list"
        },
        bounds={
            name: quantile_bounds(_numbers(columns[name]))
            for name, kind in kinds.items()
            if kind == "number"
        },
        value_rows=np.zeros((NUM_RESERVED_ROWS, 0), np.int32),
        levels=np.zeros((NUM_RESERVED_ROWS, 0), np.float32),
    )
    value_rows, levels = _encoded(features, lines, max_values)
    reserved = ((NUM_RESERVED_ROWS, 0), (0, 0))
    return replace(
        features, value_rows=np.pad(value_rows, reserved), levels=np.pad(levels, reserved)
    )


def side_vectors(
    features: ItemFeatures, tables: Mapping[str, Floats], item_rows: NDArray[Any]
) -> Floats:
    """What declared features alone say of items: [R] item rows → [R, D] float32.

        v = Σ_categories e(value) + Σ_lists mean e(values) + Σ_numbers W [x̃, x̃², √x̃, unknown]

    Args:
        features: what is known of the items.
        tables: "values" [V, D] and "levels" [4 K, D], as `training.side_features.side_arrays`
            gives them.
        item_rows: [R]; the vector of a reserved row is zero.

    Source: for new items by their content: Volkovs, Yu, Poutanen 2017, "DropoutNet".
    """
    vectors = np.empty((len(item_rows), tables["values"].shape[1]), np.float32)
    for start in range(0, len(item_rows), ITEMS_AT_ONCE):
        part = item_rows[start : start + ITEMS_AT_ONCE]
        values = tables["values"][features.value_rows[part]]
        weights = features.value_weights(part)
        vectors[start : start + len(part)] = np.einsum("rsd,rs->rd", values, weights)
        vectors[start : start + len(part)] += features.levels[part] @ tables["levels"]
    return vectors


def list_rows(lists: pl.Series, known: Vocabulary, max_values: int) -> Rows:
    """[n, T] rows of the first `max_values` values of each list; nulls are no values, 0 pads.

    >>> tags = Vocabulary.by_frequency(pl.Series(["tea", "rice", "tea"]))
    >>> list_rows(pl.Series([["tea", "new"], None, ["rice"]]), tags, 2).tolist()
    [[2, 1], [0, 0], [3, 0]]
    """
    first = lists.list.drop_nulls().list.head(max_values)
    lengths = first.list.len().fill_null(0).to_numpy()
    ends = np.cumsum(lengths, dtype=np.int64)
    places = np.repeat(np.arange(len(lists)), lengths)
    slots = np.arange(len(places)) - np.repeat(ends - lengths, lengths)
    rows = np.zeros((len(lists), max_values), np.int32)
    rows[places, slots] = known.rows(_keys(first.explode().drop_nulls()))
    return rows


def category_rows(values: pl.Series, known: Vocabulary) -> Rows:
    """[n] the row of each value; 0 where it is missing, 1 where training had not seen it."""
    keys = _keys(values)
    return np.where(keys.is_null().to_numpy(), np.int32(PAD_ROW), known.rows(keys))


def _encoded(features: ItemFeatures, lines: pl.DataFrame, max_values: int) -> tuple[Rows, Floats]:
    """Value rows [n, S] and levels [n, 4 K] of the lines of an items table."""
    first_row = NUM_RESERVED_ROWS
    rows: list[Rows] = [np.zeros((lines.height, 0), np.int32)]
    for name, known in features.categories.items():
        found = category_rows(_column(lines, name, wanted="category"), known)
        rows.append(_in_shared_table(found[:, None], first_row))
        first_row += len(known.ids)
    for name, known in features.lists.items():
        found = list_rows(_column(lines, name, wanted="list"), known, max_values)
        rows.append(_in_shared_table(found, first_row))
        first_row += len(known.ids)
    levels = [np.zeros((lines.height, 0), np.float32)]
    for name, bounds in features.bounds.items():
        levels.append(_levels(_numbers(_column(lines, name, wanted="number")), bounds))
    return np.hstack(rows), np.hstack(levels)


def _in_shared_table(rows: Rows, first_row: int) -> Rows:
    """Rows of one vocabulary as rows of the table that all share; the reserved ones stay."""
    return np.where(rows > UNKNOWN_ROW, rows + (first_row - NUM_RESERVED_ROWS), rows)


def _levels(numbers: Floats, bounds: Floats) -> Floats:
    """[n, 4]: x̃, x̃², √x̃, and whether x is unknown."""
    is_unknown = ~np.isfinite(numbers)
    powers = with_powers(to_quantile(np.where(is_unknown, 0, numbers), bounds))
    powers[is_unknown] = 0
    return np.column_stack([powers, is_unknown]).astype(np.float32)


def _column(lines: pl.DataFrame, name: str, *, wanted: Kind | None = None) -> pl.Series:
    """A declared column, of the kind that it had in training."""
    if name not in lines.columns:
        got = ", ".join(lines.columns)
        raise DataError("items", expected=f"a column {name}", got=got, hint=_HINT)
    column = lines[name].arr.to_list() if lines[name].dtype == pl.Array else lines[name]
    if wanted is None:
        return column
    if column.null_count() == len(column):
        return pl.Series(name, [None], _DTYPE_OF[wanted]).new_from_index(0, len(column))
    kind = _kind(column)
    is_whole = wanted == "category" and kind == "number" and _are_whole(column)
    if kind != wanted and not is_whole and not (wanted == "number" and column.dtype.is_integer()):
        got = f"a {kind} ({column.dtype})"
        raise DataError(f"items.{name}", expected=f"a {wanted}, as in training", got=got)
    return column


def _kind(column: pl.Series) -> Kind:
    dtype = column.dtype
    is_list = isinstance(dtype, pl.List)
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    if inner in (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null) or inner.is_integer():
        return "list" if is_list else "category"
    if not is_list and (inner.is_float() or inner.is_decimal()):
        return "number"
    raise DataError(
        f"items.{column.name}",
        expected="text, whole numbers, flags, lists of these, or numbers",
        got=str(column.dtype),
        hint=_HINT,
    )


def _keys(values: pl.Series) -> pl.Series:
    """Values as a vocabulary has them: int64 where they are whole numbers, or else text."""
    is_integer = values.dtype.is_integer() and values.dtype not in (pl.UInt64, pl.Int128)
    if is_integer or values.dtype.is_float():
        return values.fill_nan(None).cast(pl.Int64)
    return values.cast(pl.String)


def _are_whole(column: pl.Series) -> bool:
    """Whether all numbers are whole: integers become floats where a table has gaps."""
    known = column.fill_nan(None).drop_nulls()
    return bool((known == known.floor()).all())


def _numbers(column: pl.Series) -> Floats:
    """float32, nan where unknown."""
    return column.cast(pl.Float32).fill_null(float("nan")).to_numpy()
