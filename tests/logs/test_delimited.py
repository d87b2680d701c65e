import csv
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.logs.delimited import MAX_RECORD_LINES, Fields, read_delimited

cells = st.text(st.sampled_from('ab,"\n é\t;'), max_size=6)


def parse(text: str, separator: str = ",") -> Fields:
    return read_delimited(pl.Series(text.split("\n"), dtype=pl.String), separator)[1]


@given(st.lists(st.tuples(cells, cells, cells), max_size=8), st.sampled_from(",\t;|"))
def test_reads_what_the_csv_module_writes(rows: list[tuple[str, ...]], separator: str) -> None:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("x", "y", "z"), *rows])
    fields = parse(file.getvalue(), separator)
    assert fields.frame.rows() == rows
    assert fields.broken.is_empty()


@given(st.lists(st.text(st.sampled_from('ab,"'), min_size=1, max_size=8), max_size=8))
def test_every_line_is_read_or_broken(lines: list[str]) -> None:
    fields = parse("\n".join(["x,y", *lines]))
    num_in_records = fields.frame.height + fields.broken.height
    num_joined = sum(text.count("\n") for row in fields.frame.rows() for text in row)
    assert num_in_records + num_joined == len(lines)


def test_broken_lines_cost_only_themselves() -> None:
    fields = parse('x,y\n1,2\n3\n4,5,6\n7,"8\n9,10\n11,12" wide\n"13"x,14\n15,""')
    assert fields.frame.rows() == [("1", "2"), ("9", "10"), ("11", '12" wide'), ("15", "")]
    assert fields.row_numbers.to_list() == [2, 6, 7, 9]
    assert fields.broken.rows() == [(3, "3"), (4, "4,5,6"), (5, '7,"8'), (8, '"13"x,14')]


def test_rows_are_numbered_by_the_line_on_which_they_begin() -> None:
    fields = parse('x,y\n1,"two\n\nlines"\n\n3,4')
    assert fields.frame.rows() == [("1", "two\n\nlines"), ("3", "4")]
    assert fields.row_numbers.to_list() == [2, 6]


def test_a_quote_left_open_does_not_swallow_the_file() -> None:
    rows = [f"{i},{i}" for i in range(2 * MAX_RECORD_LINES)]
    fields = parse("\n".join(["x,y", 'open,"quote', *rows, 'a,"b"']))
    assert fields.frame.height == len(rows) + 1
    assert fields.broken.rows() == [(2, 'open,"quote')]


@pytest.mark.parametrize("text", ["", "   ", "x,x", '"x'])
def test_a_file_without_a_usable_header_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="header"):
        parse(text)
