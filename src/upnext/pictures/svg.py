"""Elements of SVG and HTML as text that is safe by construction."""

import re

from markupsafe import Markup, escape

Number = int | float

_NO_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML cannot hold, not even escaped."""


def element(name: str, *children: str, **attributes: str | Number | None) -> Markup:
    """One element; attributes that are None are left out, `class_` is class and `_` is `-`.

    Children that are not Markup are escaped, and so is every attribute. Characters that no document
    may hold, such as a null byte, become a replacement sign.

    >>> print(element("text", "R & D", x=1.23456, class_="tick", text_anchor="end"))
    <text x="1.23" class="tick" text-anchor="end">R &amp; D</text>
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(escape(_text(child)) for child in children)
    return Markup(f"<{name}{told}>{inner}</{name}>")


def together(*parts: str) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def _text(value: str | Number) -> str:
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", value)
    return f"{value:.2f}".rstrip("0").rstrip(".")
