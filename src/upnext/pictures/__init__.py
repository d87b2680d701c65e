"""Numbers become pictures: SVG without script or styles of its own, each with its table.

The console and the report on one page draw with the same functions, from the plain tables that a
server or a registry tells. Colours and fonts are classes, which `pictures.css` fills in, light and
dark; so a page may forbid every script and style that is not in a file of its own.
"""

from importlib.resources import files

from upnext.pictures.bars import Bar, bar_picture
from upnext.pictures.picture import Picture, Table
from upnext.pictures.series import Axis, Mark, Series
from upnext.pictures.xy import xy_picture

__all__ = [
    "Axis",
    "Bar",
    "Mark",
    "Picture",
    "Series",
    "Table",
    "bar_picture",
    "stylesheet",
    "xy_picture",
]


def stylesheet() -> str:
    """What `pictures.css` says."""
    return files(__name__).joinpath("pictures.css").read_text(encoding="utf-8")
