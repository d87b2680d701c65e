"""Items as a table: the owner's ids, and null for what is not known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from upnext.examples.catalogue import build_catalogue
from upnext.export.items import item_table
from upnext.schema import Logs


def test_lines_stand_in_the_order_asked_for(make_logs: Callable[..., Logs]) -> None:
    logs = make_logs(
        watches=[("u", 8, 1, 2.0), ("u", 8, 2, 2.0), ("u", 9, 3, 2.0)],
        items=[(8, 0, 10.0, 77, ["a"], "Eight"), (9, None, None, None, None, None)],
    )
    catalogue = build_catalogue(logs, max_items=None, min_watches=1, max_tags=2)
    rows = catalogue.items.rows([9, 8])
    assert item_table(catalogue, rows).rows() == [(9, None, None, 1), (8, "Eight", 77, 2)]
    assert item_table(catalogue, rows[:0]).schema == {
        "item_id": pl.Int64(),
        "title": pl.String(),
        "channel_id": pl.Int64(),
        "num_watches": pl.Int64(),
    }
    assert item_table(catalogue, np.array([rows[1]])).height == 1
