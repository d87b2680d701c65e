"""The page about a release needs nothing but itself, says what is missing, and fits any screen."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from upnext.pictures.page import release_page

Told = dict[str, Any]


class Reader(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def release(report: Told) -> Told:
    """All that a registry tells of one, with texts that would like to be markup."""
    watches = {
        "num_read": 10,
        "num_accepted": 9,
        "quarantined": {"</style><script>alert(1)</script>": 1},
        "blanked": {"negative duration_s": 2},
        "unused_columns": ["<i>"],
        "first_ms": 0,
        "last_ms": 90_000_000,
        "per_day": [{"day_ms": 0, "num_rows": 4}, {"day_ms": 86_400_000, "num_rows": 5}],
        "examples": [{"reason": "<b>", "file": "a.csv", "row": 3, "cells": {"item_id": "<img>"}}],
    }
    return {
        "version": 7,
        "labels": ["stable", "<u>"],
        "created_at": "2026-02-04T00:02:29+00:00",
        "problem": "",
        "size_bytes": 61_000_000,
        "manifest_sha256": "ab" * 32,
        "files": [{"name": "index/items.npy", "size_bytes": 10, "sha256": "cd" * 32}],
        "metadata": {"num_items": 4726, "data": {"tables": {"watches": watches}}},
        "config": {"retrieval": {"num_epochs": 8, "network": {"tied": True}}, "seed": 0},
        "evaluation": report,
        "lineage": {"extends": 6, "training": "r1", "train_until": None, "history_until": None},
    }


def test_a_page_forbids_itself_everything_but_its_own_style(release: Told, training: Told) -> None:
    page = release_page(release, training)
    tags = Reader(page).found
    policy = next(a["content"] for tag, a in tags if "http-equiv" in a)
    (style,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert {tag for tag, _ in tags}.isdisjoint({"script", "img", "link", "iframe", "form", "b"})
    for _, attributes in tags:
        assert attributes.keys().isdisjoint({"style", "src", "onload", "onclick"})
        assert (attributes.get("href") or "#").startswith("#")
    targets = {a["href"] for tag, a in tags if tag == "a"}
    assert targets == {f"#{a['id']}" for tag, a in tags if tag == "section"}
    assert "url(" not in style
    assert "@import" not in style


def test_a_page_tells_all_that_is_known(release: Told, training: Told) -> None:
    page = release_page(release, training)
    for expected in (
        "Release 7",
        "stable",
        "2026-02-04 00:02:29 UTC",
        "4,726",
        "ab" * 32,
        "cd" * 32,
        "index/items.npy",
        "retrieval.network.tied",
        "release 6",
        "Retrieval: recall@50",
        "Calibration by decile",
        "chosen/retrieval: loss",
        "watches by day",
        "watches in quarantine",
        "item_id = &lt;img&gt;",
        "no impressions in the logs.",
        "58.2 MiB, 1 files",
    ):
        assert expected in page


def test_what_is_missing_is_said_or_left_out(release: Told) -> None:
    bare = {"version": 1, "labels": [], "problem": "release 1: damaged", "evaluation": None}
    page = release_page(bare)
    assert "release 1: damaged" in page
    assert "was not evaluated" in page
    assert "<section" not in page
    assert "was not evaluated" not in release_page(release)
