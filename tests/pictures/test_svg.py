"""Whatever text comes in is text when it comes out."""

import xml.etree.ElementTree as ET

from hypothesis import example, given
from hypothesis import strategies as st

from upnext.pictures.lettering import cut, in_lines, width_of
from upnext.pictures.svg import element

TEXTS = st.text(st.characters(exclude_categories=()))


@given(text=TEXTS)
@example(text="<script>alert('1')</script> & \"quotes\"")
@example(text="видео ユーザー 👩‍🚀 \ud800 \x00 \x0b \ufffe")
def test_text_is_escaped_in_content_and_in_attributes(text: str) -> None:
    parsed = ET.fromstring(element("text", text, aria_label=text, class_="name"))
    assert list(parsed) == []
    assert parsed.attrib.keys() == {"aria-label", "class"}
    readable = [letter for letter in text if letter.isprintable()]
    assert [letter for letter in parsed.text or "" if letter.isprintable()] >= readable or (
        "\ufffd" in (parsed.text or "")
    )


def test_markup_is_kept_and_none_is_left_out() -> None:
    inner = element("b", "<")
    assert element("g", inner, "&", x=None, y=2.50) == '<g y="2.5"><b>&lt;</b>&amp;</g>'


@given(text=TEXTS, room=st.floats(10, 300))
def test_what_is_cut_fits_and_is_what_the_text_begins_with(text: str, room: float) -> None:
    shown = cut(text, room)
    assert width_of(shown) <= room + 0.02
    assert text.startswith(shown.removesuffix("…").rstrip())


@given(
    words=st.lists(st.text("abcdefg", min_size=1, max_size=12), min_size=1), room=st.floats(30, 300)
)
def test_lines_fit_and_hold_the_words_in_order(words: list[str], room: float) -> None:
    lines = in_lines(" ".join(words), room)
    assert len(lines) <= 2
    assert all(width_of(line) <= room + 0.02 for line in lines)
    assert " ".join(words).startswith(lines[0].removesuffix("…").rstrip())
    if not any(line.endswith("…") for line in lines):
        assert " ".join(lines) == " ".join(words)
