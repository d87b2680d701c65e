"""Sequences without times in the format of S3-Rec: Amazon Beauty, Toys, Sports and others."""

import json
from pathlib import Path

import polars as pl

from upnext.errors import DataError
from upnext.logs.public.files import find_file, read_text, require_files
from upnext.logs.public.tables import to_items, to_watches
from upnext.schema import Logs

HOME = "GitHub, RUCAIBox/CIKM2020-S3Rec, folder data"


def load_amazon_sequences(path: Path) -> Logs:
    """Loads a file of S3-Rec, one user a line: user item item …, oldest first.

    There are no times: started_at_ms is an item's place in its line, 0, 1, 2, …, which orders a
    user's watches and says nothing across users. watch_time_s is 1.0, one unit a watch. If
    `<name>_item2attributes.json` lies beside the file, attribute ids become tags.

    Args:
        path: the file, such as `Beauty.txt` or `Beauty.txt.gz`, or a folder with one such file.

    Raises: DataError: the file is missing or not of this format, or a folder holds several.
    """
    file = path if path.is_file() else _only_sequences(path)
    numbers = pl.Series("numbers", read_text(file).splitlines()).str.split(" ")
    lines = numbers.list.eval(pl.element().cast(pl.Int64, strict=False)).to_frame()
    if len(broken := lines.select(_is_broken("numbers").arg_true()).to_series()):
        where = f"{file}, row {broken[0] + 1:,}"
        raise DataError(where, expected="a user and their items, whole numbers", got="another line")
    items = pl.col("numbers").list.slice(1)
    watches = lines.select(
        user_id=pl.col("numbers").list.first(),
        item_id=items,
        started_at_ms=pl.int_ranges(items.list.len()),
        watch_time_s=pl.lit(1.0),
    ).explode("item_id", "started_at_ms")
    return Logs(
        watches=to_watches(watches),
        items=to_items(_attributes(file), watches["item_id"]),
    )


def _is_broken(numbers: str) -> pl.Expr:
    too_short = pl.col(numbers).list.len() < 2
    return too_short | pl.col(numbers).list.eval(pl.element().is_null()).list.any()


def _only_sequences(folder: Path) -> Path:
    files = require_files(folder, "*.txt", home=HOME)
    if len(files) == 1:
        return files[0]
    raise DataError(
        str(folder),
        expected="one file of sequences",
        got=", ".join(file.name for file in files),
        hint="name the file instead of its folder.",
    )


def _attributes(file: Path) -> pl.DataFrame:
    name = file.name.partition(".")[0]
    attributes = find_file(file, f"{name}_item2attributes.json")
    tags: dict[str, list[int]] = json.loads(read_text(attributes)) if attributes else {}
    return pl.DataFrame(
        {"item_id": list(map(int, tags)), "tags": list(tags.values())},
        schema={"item_id": pl.Int64, "tags": pl.List(pl.Int64)},
    )
