"""docs/cli.md is made from the command line itself; `make docs` writes it anew."""

from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from upnext.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEAD = """\
# Command line

<!-- Made by `make docs` from src/upnext/cli.py; edit that. -->

Every verb is the twin of a function. Results go to stdout (a table, or JSON with `--json`),
everything else to stderr. Exit status: 0 done, 1 the data or release is bad, 2 wrong usage.
Flags say *where*; *how* to learn stands in [run.toml](configuration.md).
"""


def verbs_of(group: Any, prefix: str = "") -> dict[str, Any]:
    """Every verb by its whole name, such as `export vectors`."""
    found: dict[str, Any] = {}
    for name, verb in group.commands.items():
        is_group = hasattr(verb, "commands")
        found |= verbs_of(verb, f"{prefix}{name} ") if is_group else {prefix + name: verb}
    return found


VERBS = verbs_of(get_command(app))
PARAMETERS = [(name, parameter) for name, verb in VERBS.items() for parameter in verb.params]


def reference() -> str:
    """The whole page."""
    return HEAD + "".join(_section(name, verb) for name, verb in VERBS.items())


def _section(name: str, verb: Any) -> str:
    summary, _, more = verb.help.partition("\n\n")
    arguments = [one for one in verb.params if one.param_type_name == "argument"]
    options = [one for one in verb.params if one.param_type_name == "option"]
    places = "".join(f" {one.metavar}" for one in arguments)
    lines = [f"\n## {name}\n", summary + "\n", "```", f"upnext {name}{places}", "```\n"]
    lines += ["| | default | |", "|---|---|---|"]
    lines += [_row(one.metavar, "", one.help) for one in arguments]
    lines += [_row(_flag(one), _default(one), one.help) for one in options]
    return "\n".join([*lines, *([f"\n{more}"] if more else [])]) + "\n"


def _row(name: str, default: str, meaning: str) -> str:
    return f"| `{name}` | {default} | {meaning} |"


def _flag(option: Any) -> str:
    if option.is_flag:
        return str(option.opts[0])
    return f"{option.opts[0]} {option.metavar or option.name.upper()}"


def _default(option: Any) -> str:
    return f"`{option.default}`" if option.default and not option.is_flag else ""


def test_the_page_is_what_the_command_line_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "`make docs` writes it anew"


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_says_what_it_does_in_a_sentence(name: str) -> None:
    summary = VERBS[name].help.partition("\n\n")[0]
    assert summary[0].isupper()
    assert summary.endswith(".")


def test_every_argument_and_option_is_explained() -> None:
    unexplained = [(v, p.name) for v, p in PARAMETERS if not (p.help or "").endswith(".")]
    assert unexplained == []


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
