"""How much room a text takes, more or less, and texts that are cut to fit it."""

import unicodedata

LETTER = 6.9
"""Width of a usual letter or digit at the size of `pictures.css`, in the units of a picture."""
SLACK = 0.01
"""More room than there is, so that sums of widths fit what they are the sum of."""
_WIDE = 1.9
"""Of a Chinese or Japanese sign or an emoji, in letters."""


def width_of(text: str) -> float:
    """The room of a line.

    >>> width_of("recall"), width_of("日本") > width_of("abc")
    (41.400000000000006, True)
    """
    return sum(map(_letters, text)) * LETTER


def in_lines(text: str, room: float, *, num_lines: int = 2) -> list[str]:
    """The text broken between words, the last line cut where that is not enough.

    >>> in_lines("most watched in 7 days", 100), in_lines("incomprehensibilities", 60)
    (['most watched', 'in 7 days'], ['incompr…'])
    """
    if width_of(text) <= room + SLACK or num_lines == 1 or " " not in text.strip():
        return [cut(text, room)]
    words = text.split(" ")
    fits = [k for k in range(1, len(words)) if width_of(" ".join(words[:k])) <= room + SLACK]
    first = max(fits, default=1)
    rest = " ".join(words[first:])
    return [cut(" ".join(words[:first]), room), *in_lines(rest, room, num_lines=num_lines - 1)]


def cut(text: str, room: float) -> str:
    """As much of the text as has room, with an ellipsis where something is missing.

    >>> cut("watched together", 60), cut("recall", 60)
    ('watched…', 'recall')
    """
    if width_of(text) <= room + SLACK:
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
