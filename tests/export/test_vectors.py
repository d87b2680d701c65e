"""Exported vectors are those that serve, at the time that was asked for, and other tools agree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import faiss
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.examples.history import EventLog, History
from upnext.examples.vocabulary import Vocabulary
from upnext.export.vectors import export_vectors, moments_ms
from upnext.index import ExactIndex
from upnext.schema import NUM_RESERVED_ROWS, Floats, Impressions, Logs, Searches, Watches

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

    from upnext.recommender import Recommender

K = 10


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


@pytest.fixture(scope="module")
def exported(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("export") / "out"
    export_vectors(recommender, directory)
    return directory


def loaded(directory: Path, name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(directory / f"{name}.npy", allow_pickle=False)
    return array


def last_event_ms(logs: Logs) -> dict[Any, int]:
    """By user, from the tables themselves."""
    assert logs.impressions is not None
    assert logs.searches is not None
    events = [
        logs.watches.frame.select("user_id", at_ms="started_at_ms"),
        logs.impressions.frame.select("user_id", at_ms="shown_at_ms"),
        logs.searches.frame.select("user_id", at_ms="searched_at_ms"),
    ]
    return dict(pl.concat(events).group_by("user_id").agg(pl.col("at_ms").max()).iter_rows())


def test_the_files_say_the_same(recommender: Recommender, exported: Path) -> None:
    for kind, vocabulary in (
        ("user", recommender.users),
        ("item", recommender.encoder.catalogue.items),
    ):
        ids, vectors = loaded(exported, f"{kind}_ids"), loaded(exported, f"{kind}_vectors")
        assert ids.tolist() == vocabulary.series().to_list()
        assert len(vectors) == len(ids)
        assert vectors.dtype == np.float32
        frame = pl.read_parquet(exported / f"{kind}_vectors.parquet")
        assert frame[f"{kind}_id"].to_list() == ids.tolist()
        np.testing.assert_array_equal(frame["vector"].to_numpy(), vectors)
    np.testing.assert_array_equal(vectors, recommender.retriever.item_vectors[NUM_RESERVED_ROWS:])
    about = json.loads((exported / "export.json").read_text())
    assert about == {
        "release": 1,
        "at_ms": None,
        "num_users": recommender.users.num_rows - NUM_RESERVED_ROWS,
        "num_items": len(vectors),
        "vector_size": 16,
    }


def test_user_vectors_are_those_of_serving_just_after_the_last_event(
    recommender: Recommender, exported: Path, tiny_logs: Logs
) -> None:
    last_ms = last_event_ms(tiny_logs)
    everyone_ms = max(last_ms.values())
    for user_id, vector in zip(
        loaded(exported, "user_ids").tolist(), loaded(exported, "user_vectors"), strict=True
    ):
        row = np.array([recommender.users.row(user_id)])
        times = np.array([last_ms.get(user_id, everyone_ms) + 1])
        served = recommender.retriever.user_vectors(recommender.history, row, times)[0]
        np.testing.assert_allclose(vector, served, rtol=1e-4, atol=1e-5)


def test_a_time_sees_only_what_came_before_it(
    recommender: Recommender, tiny_logs: Logs, exported: Path, tmp_path: Path
) -> None:
    at_ms = int(tiny_logs.watches.frame["started_at_ms"].quantile(0.5) or 0)
    until = before(tiny_logs, at_ms)
    earlier = replace(recommender, history=recommender.encoder.history(until, recommender.users))
    export_vectors(recommender, tmp_path / "all", at_ms=at_ms)
    export_vectors(earlier, tmp_path / "earlier", at_ms=at_ms)
    there = loaded(tmp_path / "all", "user_vectors")
    np.testing.assert_array_equal(there, loaded(tmp_path / "earlier", "user_vectors"))
    assert not np.allclose(there, loaded(exported, "user_vectors"))
    assert json.loads((tmp_path / "all" / "export.json").read_text())["at_ms"] == at_ms


def before(logs: Logs, at_ms: int) -> Logs:
    assert logs.impressions is not None
    assert logs.searches is not None
    return replace(
        logs,
        watches=Watches(logs.watches.frame.filter(pl.col("started_at_ms") < at_ms)),
        impressions=Impressions(logs.impressions.frame.filter(pl.col("shown_at_ms") < at_ms)),
        searches=Searches(logs.searches.frame.filter(pl.col("searched_at_ms") < at_ms)),
    )


def test_the_moment_is_after_the_last_event_of_any_kind() -> None:
    def log(*events: tuple[int, int]) -> EventLog:
        users, times = np.array(events, np.int64).reshape(-1, 2).T
        return EventLog.from_events(
            user_rows=users, rows=np.ones(len(users), np.int32), at_ms=times, num_users=5
        )

    history = History(
        watches=log((0, 10), (0, 20), (1, 5), (2, -7)),
        searches=log((1, 9)),
        shown=log((0, 15), (3, 0)),
        feature_rows=np.zeros((5, 0), np.int32),
    )
    assert moments_ms(history, None).tolist() == [21, 10, -6, 1, 21], "4 stands at everyone's last"
    assert moments_ms(history, 12).tolist() == [12] * 5


def upnext_neighbours(recommender: Recommender, user_vectors: Floats) -> list[list[Any]]:
    rows, _ = ExactIndex.build(recommender.retriever.item_vectors).search(user_vectors, K)
    return [[recommender.encoder.catalogue.items.id(row) for row in line] for line in rows]


def test_faiss_finds_the_neighbours_that_upnext_finds(
    recommender: Recommender, exported: Path
) -> None:
    items, user_vectors = loaded(exported, "item_vectors"), loaded(exported, "user_vectors")
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    found = loaded(exported, "item_ids")[index.search(user_vectors, K)[1]].tolist()
    assert found == upnext_neighbours(recommender, user_vectors)

    user_rows = np.arange(NUM_RESERVED_ROWS, recommender.users.num_rows)
    times = moments_ms(recommender.history, None)[user_rows]
    asked = recommender.candidates_of(recommender.history, user_rows, times, None)[:, :K]
    ids = recommender.encoder.catalogue.items.series()
    assert found == [ids.gather(line - NUM_RESERVED_ROWS).to_list() for line in asked]


def test_gensim_finds_the_neighbours_that_upnext_finds(
    recommender: Recommender, exported: Path
) -> None:
    """By inner product as retrieval does, and by angle as gensim does."""
    gensim = pytest.importorskip("gensim.models", reason="gensim reads what is written here")
    read = gensim.KeyedVectors.load_word2vec_format
    items, users = read(str(exported / "items.w2v.txt")), read(str(exported / "users.w2v.txt"))
    user_vectors = loaded(exported, "user_vectors")
    np.testing.assert_array_equal(users.vectors, user_vectors)
    np.testing.assert_array_equal(items.vectors, loaded(exported, "item_vectors"))

    by_product = np.argsort(-(users.vectors @ items.vectors.T), axis=1, kind="stable")[:, :K]
    words = np.array(items.index_to_key)[by_product]
    assert words.tolist() == upnext_neighbours(recommender, user_vectors)

    lengths = np.linalg.norm(recommender.retriever.item_vectors, axis=1, keepdims=True)
    directions = replace(
        recommender,
        retriever=replace(
            recommender.retriever,
            item_vectors=recommender.retriever.item_vectors / np.maximum(lengths, 1e-9),
        ),
    )
    by_angle = [
        [word for word, _ in items.similar_by_vector(users[user], topn=K)]
        for user in users.index_to_key
    ]
    assert by_angle == upnext_neighbours(directions, user_vectors)


def test_ids_of_any_kind_are_found_in_every_file(
    plain_release: TrainedRelease, tmp_path: Path
) -> None:
    recommender = plain_release.recommender
    export_vectors(recommender, tmp_path / "out")
    lines = (tmp_path / "out" / "items.w2v.txt").read_text(encoding="utf-8").splitlines()
    ids = recommender.encoder.catalogue.items.series().to_list()
    assert [unquote(line.split(" ")[0]) for line in lines[1:]] == ids
    assert any(" " in one_id for one_id in ids)
    assert loaded(tmp_path / "out", "item_ids").tolist() == ids


def test_whole_numbers_stay_whole_numbers(recommender: Recommender, tmp_path: Path) -> None:
    num_users = recommender.users.num_rows - NUM_RESERVED_ROWS
    numbers = np.arange(num_users) * 2**40
    export_vectors(
        replace(recommender, users=Vocabulary(numbers, np.arange(num_users))), tmp_path / "out"
    )
    frame = pl.read_parquet(tmp_path / "out" / "user_vectors.parquet")
    assert frame.schema["user_id"] == pl.Int64
    assert frame["user_id"].to_list() == numbers.tolist()
    assert loaded(tmp_path / "out", "user_ids").dtype == np.int64


def test_an_id_that_cannot_be_written_leaves_nothing(
    recommender: Recommender, tmp_path: Path
) -> None:
    num_users = recommender.users.num_rows - NUM_RESERVED_ROWS
    ids = pl.Series([f"{number}\0" for number in range(num_users)])
    with pytest.raises(DataError, match="U\\+0000"):
        export_vectors(replace(recommender, users=Vocabulary.by_frequency(ids)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_many_users_go_in_parts_and_progress_counts_them(
    recommender: Recommender,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("upnext.export.vectors.USERS_AT_ONCE", 17)
    told: list[tuple[int, int]] = []
    export_vectors(
        recommender, tmp_path / "out", progress=lambda done, total: told.append((done, total))
    )
    num_users = recommender.users.num_rows - NUM_RESERVED_ROWS
    assert told[-1] == (num_users, num_users)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(told) > 1
    np.testing.assert_allclose(
        loaded(tmp_path / "out", "user_vectors"),
        loaded(exported, "user_vectors"),
        rtol=1e-4,
        atol=1e-5,
    )
