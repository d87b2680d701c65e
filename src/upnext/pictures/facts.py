"""What a release says of itself in words and tables: what it is, how good, of what, with what."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upnext.metric_names import goodness, metric_label
from upnext.pictures.evaluation import measured, window
from upnext.pictures.numbers import DASH, is_number, short, size, when
from upnext.pictures.picture import Table

Told = Mapping[str, Any]
HEADLINE = (
    ("retrieval", "recall_at_50"),
    ("retrieval", "ndcg_at_10"),
    ("ranking", "weighted_per_user_loss"),
    ("ranking", "per_user_auc"),
    ("ranking", "calibration_ratio"),
)
"""The metrics that say most, by stage."""


@dataclass(frozen=True)
class Fact:
    """A name and what is to be said of it; `note`: in small letters below."""

    name: str
    text: str
    note: str = ""


def release_facts(release: Told) -> list[Fact]:
    """Where it comes from and how large it is."""
    metadata, lineage = release.get("metadata") or {}, release.get("lineage") or {}
    extends = lineage.get("extends")
    facts = [
        Fact("published", moment(release.get("created_at"))),
        Fact("learned until", moment(lineage.get("train_until"))),
        Fact("knows pasts until", moment(lineage.get("history_until"))),
        Fact("items", short(metadata.get("num_items"))),
        Fact("size", f"{size(release.get('size_bytes'))}, {len(release.get('files') or ())} files"),
        Fact("training run", lineage.get("training") or DASH),
        Fact("recall of the index at 100", short(metadata.get("index_recall_at_100"))),
        Fact("SHA-256 of the manifest", release.get("manifest_sha256") or DASH),
    ]
    return facts if extends is None else [*facts, Fact("extends", f"release {extends}")]


def measured_facts(report: Told) -> list[Fact]:
    """When the test was, and what was in it."""
    counts = report.get("counts") or {}
    return [Fact("window", window(report)), *(Fact(name, short(n)) for name, n in counts.items())]


def headline(report: Told) -> list[Fact]:
    """A few numbers that say most, each beside the best baseline."""
    facts = []
    for stage, metric in HEADLINE:
        own, best = own_and_best(report.get(stage) or (), metric)
        if own is None:
            continue
        value, low, high = measured(own)
        note = f"95%: {short(low)} to {short(high)}" if is_number(low) else ""
        if best:
            note = f"{note}; {best}" if note else best
        facts.append(Fact(metric_label(metric), short(value), note))
    return facts


def config_table(config: Told) -> Table:
    """Every setting with its full name, as JSON has it."""
    rows = [[name, json.dumps(value, ensure_ascii=False)] for name, value in _settings(config)]
    return Table(header=["setting", "value"], rows=rows)


def file_table(release: Told) -> Table:
    """Each file with its size and its checksum."""
    return Table(
        header=["file", "size", "SHA-256"],
        rows=[
            [one["name"], size(one.get("size_bytes")), one.get("sha256") or DASH]
            for one in release.get("files") or ()
        ],
    )


def data_tables(data: Told) -> list[tuple[str, Table]]:
    """What became of the rows, of cells and of files; only tables that say something."""
    tables = data.get("tables") or {}
    found = [
        ("Rows", _rows(tables)),
        ("Blanked cells", _counts(tables, "blanked")),
        ("Refused rows, some of each reason", _refused(tables)),
        ("Columns that were not used", _unused(tables)),
        ("Files that could not be read", _unreadable(data.get("unreadable_files") or ())),
        ("Tables made from others", _lines("how", data.get("derived") or ())),
    ]
    return [(name, table) for name, table in found if table.rows]


def moment(iso: str | None) -> str:
    """A moment of ISO 8601 to the second.

    >>> moment("2026-02-02T00:02:29.339000+00:00"), moment(None)
    ('2026-02-02 00:02:29 UTC', '–')
    """
    return f"{iso[:19].replace('T', ' ')} UTC" if iso else DASH


def own_and_best(systems: Sequence[Told], metric: str) -> tuple[Told | None, str]:
    """The release's own value, and words about the best of the baselines."""
    own = next((one["metrics"].get(metric) for one in systems if not one.get("is_baseline")), None)
    others = [
        (one["metrics"][metric]["value"], one["name"])
        for one in systems
        if one.get("is_baseline") and is_number((one["metrics"].get(metric) or {}).get("value"))
    ]
    if not others:
        return own, ""
    value, name = max(others, key=lambda other: goodness(metric, other[0]))
    return own, f"{name}: {short(value)}"


def _settings(config: Told, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _rows(tables: Told) -> Table:
    return Table(
        header=["table", "read", "accepted", "refused", "first event, UTC", "last event, UTC"],
        rows=[
            [
                name,
                short(one.get("num_read")),
                short(one.get("num_accepted")),
                short(sum((one.get("quarantined") or {}).values())),
                when(one.get("first_ms")),
                when(one.get("last_ms")),
            ]
            for name, one in tables.items()
        ],
    )


def _counts(tables: Told, field: str) -> Table:
    rows = [
        [name, reason, short(num)]
        for name, one in tables.items()
        for reason, num in (one.get(field) or {}).items()
    ]
    return Table(header=["table", "reason", "number"], rows=rows)


def _refused(tables: Told) -> Table:
    rows = [
        [
            name,
            str(row.get("reason", DASH)),
            f"{row.get('file', DASH)}, row {short(row.get('row'))}",
            ", ".join(f"{column} = {cell}" for column, cell in (row.get("cells") or {}).items()),
        ]
        for name, one in tables.items()
        for row in one.get("examples") or ()
    ]
    return Table(header=["table", "reason", "where", "cells"], rows=rows)


def _unused(tables: Told) -> Table:
    unused = {name: one.get("unused_columns") or () for name, one in tables.items()}
    rows = [[name, ", ".join(columns)] for name, columns in unused.items() if columns]
    return Table(header=["table", "columns"], rows=rows)


def _lines(name: str, lines: Sequence[str]) -> Table:
    return Table(header=[name], rows=[[line] for line in lines])


def _unreadable(files: Sequence[Told]) -> Table:
    return Table(header=["file", "cause"], rows=[[one["file"], one["cause"]] for one in files])
