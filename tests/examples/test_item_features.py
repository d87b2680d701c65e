from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import ConfigError, DataError
from upnext.examples.encoder import ExamplesConfig, build_encoder
from upnext.examples.item_features import ItemFeatures, build_item_features, side_vectors
from upnext.examples.quantiles import quantile_bounds, to_quantile
from upnext.schema import Floats, Logs

MakeLogs = Callable[..., Logs]

NAMES = ("studio", "tags", "year", "length")
LINES = pl.DataFrame(
    {
        "studio": ["a", "b", "a", None],
        "tags": [["x", "y"], ["x", None, "z", "y"], [], None],
        "year": [1999, 2001, 1999, 2001],
        "length": [1.0, float("nan"), 3.0, None],
    }
)
cells = st.fixed_dictionaries(
    {
        "studio": st.sampled_from(["a", "b", "c", None]),
        "tags": st.one_of(
            st.none(), st.lists(st.one_of(st.none(), st.sampled_from("xyzw")), max_size=4)
        ),
        "year": st.one_of(st.none(), st.integers(0, 3)),
        "length": st.one_of(st.none(), st.floats(0, 9, width=32), st.just(float("nan"))),
    }
)
SCHEMA: dict[str, Any] = {
    "studio": pl.String,
    "tags": pl.List(pl.String),
    "year": pl.Int64,
    "length": pl.Float32,
}
tables = st.lists(cells, min_size=1, max_size=8).map(lambda lines: pl.DataFrame(lines, SCHEMA))


@pytest.fixture(scope="module")
def features() -> ItemFeatures:
    return build_item_features(LINES, NAMES, max_values=2)


def numbered_tables(features: ItemFeatures) -> dict[str, Floats]:
    """Vectors of which no two sums agree by chance; the reserved rows are zero."""
    draw = np.random.default_rng(3)
    values = draw.standard_normal((features.num_values, 5)).astype(np.float32)
    values[:2] = 0
    levels = draw.standard_normal((features.levels.shape[1], 5)).astype(np.float32)
    return {"values": values, "levels": levels}


def told_one_by_one(
    features: ItemFeatures, tables: dict[str, Floats], line: dict[str, Any]
) -> Floats:
    """The formula of `side_vectors` for one line, value by value."""
    total = np.zeros(5)
    first = 2
    for kind in (features.categories, features.lists):
        for name, known in kind.items():
            given = line[name] if name in features.lists else [line[name]]
            rows = [known.row(value) for value in given or [] if value is not None]
            used = rows[: features.max_values if name in features.lists else 1]
            vectors = [tables["values"][first + row - 2] for row in used if row > 1]
            total += np.sum(vectors, axis=0) / max(1, len(vectors)) if vectors else 0
            first += len(known.ids)
    for place, (name, bounds) in enumerate(features.bounds.items()):
        x = line[name]
        is_known = x is not None and np.isfinite(x)
        level = float(to_quantile(np.array([x]), bounds)[0]) if is_known else 0.0
        told = [level, level**2, level**0.5, 0.0] if is_known else [0.0, 0.0, 0.0, 1.0]
        total += told @ tables["levels"][4 * place : 4 * place + 4]
    return total.astype(np.float32)


def test_values_of_all_features_have_rows_of_their_own(features: ItemFeatures) -> None:
    assert features.names == ("studio", "year", "tags", "length")
    assert features.value_rows.shape == (6, 4)
    studios, years, tags = np.split(features.value_rows, [1, 2], axis=1)
    assert features.num_values == 2 + 2 + 2 + 3
    assert studios[2] == studios[4] != studios[3]
    assert years[2] == years[4] != years[3] == years[5]
    of_feature = [set(rows[rows > 1].tolist()) for rows in (studios, years, tags)]
    assert [len(rows) for rows in of_feature] == [2, 2, 3]
    assert set.union(*of_feature) == set(range(2, 9))
    assert features.value_rows[5].tolist() == [0, years[3, 0], 0, 0]
    assert features.value_rows[:2].tolist() == [[0] * 4] * 2


def test_a_category_counts_once_and_a_list_as_its_mean(features: ItemFeatures) -> None:
    assert features.value_weights().tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [1, 1, 0.5, 0.5],
        [1, 1, 0.5, 0.5],
        [1, 1, 0, 0],
        [0, 1, 0, 0],
    ]
    one_known = features.with_items(LINES[:1].with_columns(tags=pl.Series([["new", "x"]])))
    assert one_known.value_rows[-1, 2] == 1
    assert one_known.value_weights(np.array([-1])).tolist() == [[1, 1, 0, 1]]


def test_a_number_is_its_quantile_with_powers_and_an_unknown_one_says_so(
    features: ItemFeatures,
) -> None:
    level = to_quantile(np.array([1.0, 3.0]), quantile_bounds(np.array([1.0, 3.0])))
    known = np.stack([level, level**2, level**0.5, np.zeros(2)], axis=1)
    np.testing.assert_allclose(features.levels[[2, 4]], known, atol=1e-6)
    assert features.levels[[3, 5]].tolist() == [[0, 0, 0, 1]] * 2
    assert features.levels[:2].tolist() == [[0] * 4] * 2


@given(training=tables, later=tables, max_values=st.integers(1, 3))
def test_a_vector_is_the_sum_of_what_its_features_say(
    training: pl.DataFrame, later: pl.DataFrame, max_values: int
) -> None:
    features = build_item_features(training, NAMES, max_values=max_values).with_items(later)
    tables = numbered_tables(features)
    lines = [*training.iter_rows(named=True), *later.iter_rows(named=True)]
    vectors = side_vectors(features, tables, np.arange(2 + len(lines)))
    expected = [told_one_by_one(features, tables, line) for line in lines]
    assert vectors.dtype == np.float32
    assert (vectors[:2] == 0).all()
    np.testing.assert_allclose(vectors[2:], expected, atol=1e-5)


@given(training=tables)
def test_a_new_item_is_encoded_as_training_encodes_a_known_one(training: pl.DataFrame) -> None:
    features = build_item_features(training, NAMES, max_values=2)
    grown = features.with_items(training)
    again = len(training)
    assert (grown.value_rows[: 2 + again] == features.value_rows).all()
    assert (grown.value_rows[2 + again :] == features.value_rows[2:]).all()
    assert (grown.levels[2 + again :] == features.levels[2:]).all()


def test_many_items_are_added_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    features = build_item_features(pl.concat([LINES] * 5), NAMES, max_values=2)
    tables, rows = numbered_tables(features), np.arange(22)[::-1]
    whole = side_vectors(features, tables, rows)
    monkeypatch.setattr("upnext.examples.item_features.ITEMS_AT_ONCE", 3)
    np.testing.assert_allclose(side_vectors(features, tables, rows), whole, atol=1e-6)
    assert side_vectors(features, tables, np.zeros(0, np.int64)).shape == (0, 5)


def test_they_survive_as_arrays(features: ItemFeatures) -> None:
    again = ItemFeatures.from_arrays(features.to_arrays(), NAMES)
    assert again.names == features.names
    tables, rows = numbered_tables(features), np.arange(6)
    assert (side_vectors(again, tables, rows) == side_vectors(features, tables, rows)).all()
    grown = [one.with_items(LINES) for one in (features, again)]
    assert (grown[0].value_rows == grown[1].value_rows).all()
    assert (grown[0].levels == grown[1].levels).all()


def test_none_declared_is_nothing_known(make_logs: MakeLogs) -> None:
    encoder = build_encoder(make_logs(watches=[("a", 1, 0, 1.0)]), ExamplesConfig())
    features = encoder.item_features
    assert features.names == ()
    assert (features.value_rows.shape, features.levels.shape) == ((3, 0), (3, 0))
    assert ItemFeatures.from_arrays(features.to_arrays(), ()).names == ()


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([True, False, None, True]),
        pl.Series(["a", "b", None, "a"], dtype=pl.Categorical),
        pl.Series([7, 8, None, 7], dtype=pl.UInt64),
        pl.Series([7, 8, None, 7], dtype=pl.Int16),
        pl.Series([[7], [8], None, [7]]),
        pl.Series([["a", "z"], ["b"], [], ["a"]], dtype=pl.List(pl.Categorical)),
        pl.Series([["a", "z"], [None, "b"], None, ["a", "z"]], dtype=pl.Array(pl.String, 2)),
    ],
)
def test_equal_values_share_a_vector_and_others_do_not(values: pl.Series) -> None:
    features = build_item_features(pl.DataFrame({"kind": values}), ["kind"], max_values=1)
    first, second, missing, again = features.value_rows[2:, 0].tolist()
    assert first == again != second
    assert min(first, second) > 1
    assert missing == 0


@pytest.mark.parametrize("later", [[2001.0, None, float("nan")], ["2001", None, "MMI"]])
def test_whole_numbers_are_known_again_however_they_are_written(
    features: ItemFeatures, later: list[Any]
) -> None:
    grown = features.with_items(LINES[:3].with_columns(pl.Series("year", later)))
    in_2001 = features.value_rows[3, 1]
    assert grown.value_rows[-3:, 1].tolist() == [in_2001, 0, 0 if later[2] != "MMI" else 1]


def test_a_column_of_which_nothing_is_known_fits_every_feature(features: ItemFeatures) -> None:
    nothing = pl.DataFrame({name: [None, None] for name in NAMES})
    grown = features.with_items(nothing)
    assert grown.value_rows[-2:].tolist() == [[0] * 4] * 2
    assert grown.levels[-2:].tolist() == [[0, 0, 0, 1]] * 2


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pl.Series("studio", [["a"]]), "items.studio: expected a category"),
        (pl.Series("year", [1999.5]), "items.year: expected a category"),
        (pl.Series("tags", ["x"]), "items.tags: expected a list"),
        (pl.Series("length", ["long"]), "items.length: expected a number"),
        (pl.Series("length", [pl.Series([1.0])]), "items.length: expected text, whole numbers"),
    ],
)
def test_a_type_that_training_did_not_have_is_refused(
    features: ItemFeatures, column: pl.Series, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        features.with_items(LINES[:1].with_columns(column))


def test_a_feature_that_is_no_column_is_an_error_that_names_the_columns(
    make_logs: MakeLogs, features: ItemFeatures
) -> None:
    logs = make_logs(watches=[("a", 1, 0, 1.0)])
    with pytest.raises(DataError, match=r"items: expected a column mood, got item_id, .*title"):
        build_encoder(logs, ExamplesConfig(item_features=("tags", "mood")))
    with pytest.raises(DataError, match="items: expected a column year, got studio, tags, length"):
        features.with_items(LINES.drop("year"))


@pytest.mark.parametrize("name", ["item_id", "title", "published_at_ms"])
def test_what_tells_one_item_from_all_others_is_no_feature(name: str) -> None:
    with pytest.raises(ConfigError, match=f"item_features: expected .* got '{name}'"):
        ExamplesConfig(item_features=("tags", name))


def test_features_follow_the_items_table_and_no_watch(tiny_logs: Logs, make_logs: MakeLogs) -> None:
    """The order of rows is that of watches; what stands in the row of an item is not."""
    ids = tiny_logs.watches.frame["item_id"].unique().sort()
    config = ExamplesConfig(item_features=("channel_id", "tags", "duration_s"))
    told = []
    for order in (ids, ids.reverse()):
        watches = [
            ("u", item, place, 1.0) for place, item in enumerate(order) for _ in range(place % 7)
        ]
        watches += [("v", item, place, 2.0) for place, item in enumerate(ids)]
        logs = make_logs(watches=watches)
        encoder = build_encoder(Logs(watches=logs.watches, items=tiny_logs.items), config)
        features, rows = encoder.item_features, encoder.catalogue.items.rows(ids)
        told.append((features.value_rows[rows], features.levels[rows]))
    assert not (encoder.catalogue.items.rows(ids) == np.arange(2, 2 + len(ids))).all()
    assert (told[0][0] == told[1][0]).all()
    assert (told[0][1] == told[1][1]).all()
