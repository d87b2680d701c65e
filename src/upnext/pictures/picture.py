"""A picture: what is seen, what it means in a sentence, and the same numbers as a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from upnext.pictures.svg import element, together

WIDTH = 400.0
"""Of every picture, in units of its own; pages scale it."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as text; the first column names the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One drawing. `about`: window, counts, and how to read it."""

    title: str
    about: str
    svg: Markup
    table: Table
    legend: Sequence[tuple[str, str]] = field(default=())
    """Class and name of each series, where there are several."""


def drawing(title: str, height: float, *parts: str) -> Markup:
    """The svg element; who cannot see it is told its title, and finds the numbers in the table."""
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        class_="drawing",
        role="img",
        aria_label=title,
    )


def as_html(picture: Picture) -> Markup:
    """The whole of it: title, drawing, legend, what it is about, and its table to open."""
    legend = [
        element("li", element("span", class_=f"swatch {kind}"), name)
        for kind, name in picture.legend
    ]
    return element(
        "figure",
        element("figcaption", element("h3", picture.title), element("p", picture.about)),
        picture.svg,
        element(
            "div",
            element("ul", *legend, class_="legend") if legend else Markup(""),
            element(
                "details",
                element("summary", "Table", class_="quiet"),
                scrolled(picture.table, picture.title),
            ),
        ),
        class_="picture",
    )


def scrolled(table: Table, caption: str) -> Markup:
    """A table in a frame that it may be longer and wider than, and that the keyboard reaches."""
    return element(
        "div",
        table_as_html(table, caption),
        class_="scroll",
        role="region",
        aria_label=f"Table: {caption}",
        tabindex=0,
    )


def table_as_html(table: Table, caption: str) -> Markup:
    """A table with its headers marked as such; the caption is for who cannot see."""
    head = element("tr", *(element("th", cell, scope="col") for cell in table.header))
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell) for cell in row[1:]),
        )
        for row in table.rows
        if row
    ]
    return element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", head),
        element("tbody", together(*body)),
    )
