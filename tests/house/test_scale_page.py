"""docs/scale.md asks for verbs and flags that there are, and shows names that can be imported."""

import re
from pathlib import Path

import pytest
import typer

from upnext.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^upnext (\w+) (.*)$", PAGE, re.MULTILINE)


def flags_of(verb: str) -> set[str]:
    found = typer.main.get_command(app)
    command = getattr(found, "commands", {})[verb]
    return {flag for parameter in command.params for flag in parameter.opts}


@pytest.mark.parametrize(("verb", "rest"), COMMANDS)
def test_each_command_is_one(verb: str, rest: str) -> None:
    asked = set(re.findall(r"--[a-z-]+", rest))
    assert "--ray" in asked
    assert asked <= flags_of(verb)


def test_every_flag_in_the_text_belongs_to_a_verb_that_works_on_ray() -> None:
    verbs = {verb for verb, _ in COMMANDS}
    assert verbs == {"prepare", "train", "evaluate", "serve"}
    there = set().union(*map(flags_of, verbs))
    others = {"--head"}  # of `ray start`
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE)) - others <= there


def test_the_calls_of_the_page_can_be_imported() -> None:
    pytest.importorskip("ray", reason="the page is of the extra `ray`")
    from upnext.cluster import indexing, start

    [block] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    called = set(re.findall(r"\b(connected|build_index_apart|ShardsApart)\b", block))
    assert called == {"connected", "build_index_apart", "ShardsApart"}
    assert all(hasattr(start, name) or hasattr(indexing, name) for name in called)
