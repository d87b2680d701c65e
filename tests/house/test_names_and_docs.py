"""One word for each thing, units in names, and pages that point at what is there."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "upnext").rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

OUR_WORD = {
    "iid": "item_id",
    "uid": "user_id",
    "item_idx": "item_row",
    "user_idx": "user_row",
    "user_embedding": "user_vector",
    "user_embeddings": "user_vectors",
    "item_embedding": "item_vector",
    "item_embeddings": "item_vectors",
    "pctr": "expected_watch_time_s",
    "recall_set": "candidates",
    "rank_v2": "ranking",
    "accidental_duplicate": "accidental_hits",
    "artifact": "release",
    "artifacts": "releases",
    "bundle": "release",
    "alias": "label",
}
"""What others call a thing → what it is called here."""
UNITS_OF_NO_ONE = ("sec", "secs", "seconds", "msec", "millis", "minutes", "byte")
QUANTITIES = ("time", "duration", "age", "timeout", "interval", "latency", "delay", "ttl")


def names_in(path: Path) -> Iterator[str]:
    """Every name that a file makes up: of classes, functions, arguments and variables."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.arg():
                yield node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.id


def fields_and_arguments(path: Path) -> Iterator[tuple[str, str]]:
    """Annotated names with their annotations."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                yield name, ast.unparse(annotation)
            case ast.arg(arg=name, annotation=ast.expr() as annotation):
                yield name, ast.unparse(annotation)


def snake(name: str) -> str:
    """
    >>> snake("ItemEmbeddingTable")
    'item_embedding_table'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_each_thing_has_one_word(path: Path) -> None:
    names = {f"_{snake(name)}_" for name in names_in(path)}
    strangers = {word for word in OUR_WORD for name in names if f"_{word}_" in name}
    assert strangers == set(), f"say {[OUR_WORD[word] for word in strangers]}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_numbers_name_their_units(path: Path) -> None:
    numbers = [n for n, kind in fields_and_arguments(path) if re.match(r"(int|float)\b", kind)]
    last_words = {name: name.rsplit("_", 1)[-1] for name in numbers}
    assert [n for n, last in last_words.items() if last in QUANTITIES] == [], "in which unit?"
    assert [n for n, last in last_words.items() if last in UNITS_OF_NO_ONE] == [], "_s, _ms, _bytes"
    assert [n for n in numbers if re.match(r"n_|nb_|.*_cnt$", n)] == [], "counts start with num_"


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    inside = [target for target in targets if "://" not in target]
    assert [target for target in inside if not (page.parent / target).exists()] == []


def test_the_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", text))
    assert named
    assert [name for name in named if not (ROOT / "src" / "upnext" / name).exists()] == []


def test_every_room_stands_in_the_readme() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = {path.relative_to(ROOT / "src" / "upnext").parts[0] for path in SOURCES}
    assert [room for room in rooms if not room.startswith("__") and room not in tree] == []


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_no_file_names_the_machine_it_was_written_on() -> None:
    homes = re.compile("|".join(f"(?<![\\w.])/{home}/" for home in ("work", "home", "root", "tmp")))
    texts = [*PAGES, *SOURCES, *(ROOT / "tests").rglob("*.py"), ROOT / "Makefile"]
    texts += [ROOT / "pyproject.toml", *(ROOT / "benchmarks").rglob("*.py")]
    assert [p for p in texts if homes.search(p.read_text(encoding="utf-8"))] == []
