"""The page of data: what was taken, what was not and why, with its examples."""

import html

import httpx
from tests.console.fake_server import FakeServer
from tests.console.measured import data

from upnext.pictures.numbers import day, percent, short, when


def test_every_number_of_the_check_stands_in_the_page(visitor: httpx.Client) -> None:
    answer = visitor.get("/data")
    assert answer.status_code == 200
    text = html.unescape(answer.text)
    for name, table in data()["tables"].items():
        wanted = [name, short(table["num_read"]), short(table["num_accepted"])]
        wanted += [when(table["first_ms"]), when(table["last_ms"]), *table["unused_columns"]]
        for reason, num in table["quarantined"].items():
            wanted += [reason, f"{short(num)} rows ({percent(num / table['num_read'])})"]
        for reason, num in table["blanked"].items():
            wanted += [reason, f"{short(num)} cells"]
        for one in table.get("per_day", ()):
            wanted += [day(one["day_ms"]), short(one["num_rows"])]
        for one in table.get("examples", ()):
            wanted += [one["file"], short(one["row"]), *one["cells"], *one["cells"].values()]
        for told in wanted:
            assert told in text, told
    for one in data()["unreadable_files"]:
        assert one["file"] in text
        assert one["cause"] in text
    assert data()["derived"][0] in text


def test_read_is_accepted_and_duplicates_and_refused(visitor: httpx.Client) -> None:
    cells = visitor.get("/data").text.partition('<th scope="row">watches</th>')[2]
    numbers = [
        int(cell.partition("</td>")[0].replace(",", "")) for cell in cells.split("<td>")[1:5]
    ]
    assert numbers == [224_643, 224_113, 118, 412]
    assert numbers[0] == sum(numbers[1:])


def test_what_came_in_logs_is_never_markup(fake: FakeServer, visitor: httpx.Client) -> None:
    bad = "<img src=x onerror=alert(1)>"
    told = data(unreadable_files=[{"file": bad, "cause": bad}], derived=[bad])
    watches = told["tables"]["watches"]
    watches |= {"quarantined": {bad: 3}, "blanked": {bad: 2}, "unused_columns": [bad]}
    watches["examples"] = [{"reason": bad, "file": bad, "row": 1, "cells": {bad: bad}}]
    told["tables"][bad] = watches
    fake.answers["GET /insight/v1/data/2"] = told
    answer = visitor.get("/data")
    assert answer.status_code == 200
    assert "<img" not in answer.text
    assert answer.text.count("&lt;img src=x onerror=alert(1)&gt;") > 12


def test_older_releases_tell_no_days_and_no_examples(
    fake: FakeServer, visitor: httpx.Client
) -> None:
    told = data()
    del told["tables"]["watches"]["per_day"], told["tables"]["watches"]["examples"]
    fake.answers["GET /insight/v1/data/2"] = told
    answer = visitor.get("/data")
    assert answer.status_code == 200
    assert "does not tell how many rows each day brought" in answer.text
    assert "No example was kept" in answer.text


def test_clean_data_is_said_to_be(fake: FakeServer, visitor: httpx.Client) -> None:
    told = data(unreadable_files=[], derived=[])
    told["tables"] = {"items": told["tables"]["items"]}
    fake.answers["GET /insight/v1/data/2"] = told
    text = visitor.get("/data").text
    assert "No row was refused" in text
    assert "None. A bad cell" in text
    assert "could not be read" not in text


def test_a_release_that_tells_nothing_is_a_sentence(visitor: httpx.Client) -> None:
    text = visitor.get("/data?version=1").text
    assert "Release 1 does not tell what the check of its logs found" in text


def test_a_table_without_rows_has_no_shares(fake: FakeServer, visitor: httpx.Client) -> None:
    told = data()
    told["tables"]["watches"] |= {"num_read": 0, "num_accepted": 0, "per_day": []}
    fake.answers["GET /insight/v1/data/2"] = told
    assert visitor.get("/data").status_code == 200
