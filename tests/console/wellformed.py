"""Whether a page is what a browser, a keyboard and a screen reader can rely on."""

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "hr", "img", "line", "circle", "path", "rect"}


class _Reader(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.inputs: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.problems += [f"{tag} is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag not in VOID:
            self._open.append(tag)
        if attributes.get("id"):
            self.ids.append(str(attributes["id"]))
        if tag == "label" and attributes.get("for"):
            self.labelled.add(str(attributes["for"]))
        if tag in ("input", "select", "textarea") and attributes.get("type") != "hidden":
            self.inputs.append({**attributes, "within": "label" if "label" in self._open else None})
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"{tag} is closed at line {self.getpos()[0]} and not open")


def problems_of(html: str) -> list[str]:
    """What is wrong: elements, ids, labels of inputs, and the order of headings."""
    reader = _Reader(html)
    problems = list(reader.problems)
    problems += [f"id {one} is there twice" for one in set(reader.ids) if reader.ids.count(one) > 1]
    problems += [
        f"nothing is {one}, which a label names" for one in reader.labelled - {*reader.ids}
    ]
    problems += [
        f"{one} has no label"
        for one in reader.inputs
        if not (one.get("aria-label") or one["within"] or one.get("id") in reader.labelled)
    ]
    if reader.headings.count(1) != 1:
        problems.append("not one h1")
    jumps = [
        (a, b) for a, b in zip(reader.headings, reader.headings[1:], strict=False) if b > a + 1
    ]
    return problems + [f"h{b} follows h{a}" for a, b in jumps]
