import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from upnext.errors import DataError
from upnext.logs.public.sequences import load_amazon_sequences


def test_a_line_is_a_user_and_their_items_in_order(tmp_path: Path) -> None:
    (tmp_path / "Beauty.txt").write_text("1 5 6 5\n2 7\n")
    logs = load_amazon_sequences(tmp_path / "Beauty.txt")
    assert logs.watches.frame.rows() == [
        (1, 5, 0, 1.0),
        (1, 6, 1, 1.0),
        (1, 5, 2, 1.0),
        (2, 7, 0, 1.0),
    ]
    assert logs.items.frame["item_id"].to_list() == [5, 6, 7]
    assert logs.users is None


def test_attributes_are_tags(tmp_path: Path) -> None:
    (tmp_path / "Beauty.txt.gz").write_bytes(gzip.compress(b"1 5 6\n"))
    attributes = json.dumps({"5": [173, 1], "9": []}).encode()
    (tmp_path / "Beauty_item2attributes.json.gz").write_bytes(gzip.compress(attributes))
    items = load_amazon_sequences(tmp_path).items.frame
    assert items.select("item_id", "tags").rows() == [(5, ["173", "1"]), (6, None), (9, [])]


@pytest.mark.parametrize("line", ["3", "3 five", "", "3 5 "])
def test_a_line_that_is_no_sequence_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "Beauty.txt").write_text(f"1 5 6\n{line}\n2 7\n")
    with pytest.raises(DataError, match=r"Beauty\.txt, row 2"):
        load_amazon_sequences(tmp_path)


def test_a_folder_of_several_sequences_needs_a_name(tmp_path: Path) -> None:
    for name in ("Beauty.txt", "Toys.txt"):
        (tmp_path / name).write_text("1 5 6\n")
    with pytest.raises(DataError, match=r"Beauty\.txt, Toys\.txt"):
        load_amazon_sequences(tmp_path)


@pytest.mark.parametrize(
    ("name", "num_watches", "num_users", "num_items"),
    [("Beauty", 198_502, 22_363, 12_101), ("Toys_and_Games", 167_597, 19_412, 11_924)],
)
def test_real_sequences(
    real_data: Callable[[str], Path], name: str, num_watches: int, num_users: int, num_items: int
) -> None:
    logs = load_amazon_sequences(real_data("amazon-s3rec") / f"{name}.txt.gz")
    watches = logs.watches.frame
    assert (watches.height, watches["user_id"].n_unique()) == (num_watches, num_users)
    assert watches["item_id"].n_unique() == num_items
    assert logs.items.frame["tags"].null_count() == 0
