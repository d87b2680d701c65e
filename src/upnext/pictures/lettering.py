"""How much room a text takes, more or less, and texts that are cut to fit it."""

import unicodedata

LETTER = 6.9
"""Width of a usual letter or digit at the size of `pictures.css`, in the units of a picture."""
_WIDE = 1.9
"""Of a Chinese or Japanese sign or an emoji, in letters."""


def width_of(text: str) -> float:
    """The room of a line.

    >>> width_of("recall"), width_of("日本") > width_of("abc")
    (41.400000000000006, True)
    """
    return sum(map(_letters, text)) * LETTER


def cut(text: str, room: float) -> str:
    """As much of the text as has room, with an ellipsis where something is missing.

    >>> cut("watched together", 60), cut("recall", 60)
    ('watched…', 'recall')
    """
    if width_of(text) <= room:
        return text
    left, kept = room - LETTER, []
    for letter in text:
        left -= _letters(letter) * LETTER
        if left < 0:
            break
        kept.append(letter)
    return "".join(kept).rstrip() + "…"


def _letters(letter: str) -> float:
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Cf", "Mn"):
        return 0.0
    return _WIDE if unicodedata.east_asian_width(letter) in ("W", "F") else 1.0
