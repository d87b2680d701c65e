"""Indexes of other libraries, at the settings that their makers advise for a million items."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from time import process_time
from typing import Any

import faiss
import numpy as np

from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows

K = 100
Search = Callable[[Floats], Rows]
"""One user vector [1, D] → rows [1, K]."""


@dataclass(frozen=True)
class Built:
    """An index and the settings that its search may have, each with its search."""

    name: str
    build_s: float
    size_bytes: int
    searches: dict[str, Search]


def faiss_cells(items: Floats) -> Built:
    """IVF4096 with 8 bits a number, as `index_factory` makes it; scored exactly at the end."""
    began = process_time()
    vectors = _items(items)
    index: Any = faiss.index_factory(vectors.shape[1], "IVF4096,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = 64
    index.train(vectors)
    index.add(vectors)

    def search(num_probes: int) -> Search:
        parameters: Any = faiss.SearchParametersIVF
        opened = parameters(nprobe=num_probes)

        def best(user: Floats) -> Rows:
            ids = index.search(user, K + K // 4, params=opened)[1][0]
            return _rows(ids[np.argsort(-(vectors[ids] @ user[0]))[:K]])

        return best

    searches = {f"{n} of 4096 cells": search(n) for n in (32, 64, 96, 128, 192, 256, 384)}
    size_bytes = len(faiss.serialize_index(index))
    return Built("faiss IVF4096-SQ8", process_time() - began, size_bytes, searches)


def faiss_graph(items: Floats) -> Built:
    """HNSW of 16 neighbours."""
    began = process_time()
    vectors = _items(items)
    index: Any = faiss.IndexHNSWFlat(vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    index.add(vectors)
    parameters: Any = vars(faiss)["SearchParametersHNSW"]  # the stubs do not know it

    def search(breadth: int) -> Search:
        chosen = parameters(efSearch=breadth)
        return lambda user: _rows(index.search(user, K, params=chosen)[1][0])

    searches = {f"efSearch {n}": search(n) for n in (100, 200, 300, 500, 800, 1_200)}
    size_bytes = len(faiss.serialize_index(index)) - vectors.nbytes
    return Built("faiss HNSW16", process_time() - began, size_bytes, searches)


def scann_tree(items: Floats) -> Built:
    """ScaNN: a tree, anisotropic hashing of two numbers at a time, exact scores at the end."""
    scann = import_module("scann")

    began = process_time()
    vectors = _items(items)
    index = (
        scann.scann_ops_pybind.builder(vectors, K, "dot_product")
        .tree(num_leaves=2_000, num_leaves_to_search=50, training_sample_size=250_000)
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(300)
        .set_n_training_threads(1)
        .build()
    )

    def search(leaves: int, scored: int) -> Search:
        def best(user: Floats) -> Rows:
            ids, _ = index.search(
                user[0], leaves_to_search=leaves, pre_reorder_num_neighbors=scored
            )
            return _rows(ids)

        return best

    searches = {
        f"{leaves} of 2000 leaves, {scored} scored": search(leaves, scored)
        for scored in (200, 300, 500, 700)
        for leaves in (10, 20, 30, 50, 80, 120, 150, 180, 200, 250)
    }
    num_bytes = len(vectors) * (vectors.shape[1] // 4 + 4)
    return Built("ScaNN", process_time() - began, num_bytes, searches)


def hnswlib_graph(items: Floats) -> Built:
    """hnswlib of 16 neighbours."""
    hnswlib = import_module("hnswlib")

    began = process_time()
    vectors = _items(items)
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=100, M=16, random_seed=7)
    index.set_num_threads(1)
    index.add_items(vectors, num_threads=1)

    def search(breadth: int) -> Search:
        def best(user: Floats) -> Rows:
            index.set_ef(breadth)
            return _rows(index.knn_query(user, k=K, num_threads=1)[0][0])

        return best

    searches = {f"ef {n}": search(n) for n in (100, 200, 300, 500, 800, 1_200)}
    size_bytes = index.index_file_size() - vectors.nbytes
    return Built("hnswlib M16", process_time() - began, size_bytes, searches)


def usearch_graph(items: Floats) -> Built:
    """usearch of 16 neighbours, vectors in bfloat16."""
    usearch = import_module("usearch.index")

    began = process_time()
    vectors = _items(items)
    index = usearch.Index(
        ndim=vectors.shape[1], metric="ip", dtype="bf16", connectivity=16, expansion_add=100
    )
    index.add(np.arange(len(vectors)), vectors, threads=1)

    def search(breadth: int) -> Search:
        def best(user: Floats) -> Rows:
            index.expansion_search = breadth
            return _rows(index.search(user[0], K, threads=1).keys)

        return best

    searches = {f"expansion {n}": search(n) for n in (100, 200, 300, 500, 800, 1_200)}
    return Built("usearch bf16", process_time() - began, index.memory_usage, searches)


RIVALS: dict[str, Callable[[Floats], Built]] = {
    "faiss-cells": faiss_cells,
    "faiss-graph": faiss_graph,
    "scann": scann_tree,
    "hnswlib": hnswlib_graph,
    "usearch": usearch_graph,
}


def _items(items: Floats) -> Floats:
    return np.ascontiguousarray(items[NUM_RESERVED_ROWS:], np.float32)


def _rows(ids: np.ndarray[Any, Any]) -> Rows:
    """[1, K] from the numbers of the items, which may be too few."""
    rows = np.full((1, K), -1, np.int32)
    rows[0, : len(ids)] = ids.astype(np.int64) + NUM_RESERVED_ROWS
    return rows
