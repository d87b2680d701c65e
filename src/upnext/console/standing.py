"""Where releases and labels stand, of what GET /insight/v1/releases tells."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request

from upnext.console.asked import VERSION
from upnext.console.client import Json
from upnext.errors import RequestError

STABLE, CANARY = "stable", "canary"
NOT_LOADED = "not loaded"


@dataclass(frozen=True, kw_only=True)
class Held:
    """How a release fares in one server process that lives.

    `load_time_s` and `num_tried` requests: what opening took; None where that is not told.
    """

    pid: int
    state: str
    cause: str = ""
    load_time_s: float | None = None
    num_tried: int | None = None


def held_by(told: Json, version: int) -> list[Held]:
    """How a release fares in each server process that lives, whether it has it or not."""
    servers = sorted(told["servers"], key=lambda server: server["pid"])
    return [_held(server, version) for server in servers]


def is_ready_everywhere(held: Sequence[Held]) -> bool:
    """Whether a label may be pointed there; where no server lives, nothing is ready."""
    return bool(held) and all(one.state == "ready" for one in held)


def release_in(told: Json, version: int) -> Json | None:
    """The line of a release; None where there is no such one."""
    return next((one for one in told["releases"] if one["version"] == version), None)


def chosen_version(request: Request, told: Json) -> int | str | None:
    """The `version` of the URL as it stands there, else the stable release, else the newest.

    `told`: the list of releases. None if there are none at all. That a version is none is for the
    server to say.
    """
    asked = request.query_params.get("version", "").strip()
    if asked:
        return int(asked) if re.fullmatch(VERSION, asked) else asked
    newest = max((one["version"] for one in told["releases"]), default=None)
    stable: int | None = told["labels"].get(STABLE)
    return newest if stable is None else stable


def version_in_path(request: Request) -> int:
    """Raises HTTPException: the address names no version (404)."""
    text = request.path_params["version"]
    if not re.fullmatch(VERSION, text):
        raise HTTPException(404)
    return int(text)


def label_in_query(request: Request) -> str:
    """The label that a page is about; `stable` unless it is said.

    Raises: RequestError: this cannot be the name of a label.
    """
    label = request.query_params.get("label", "").strip() or STABLE
    if not re.fullmatch("[a-z][a-z0-9-]{0,31}", label):
        expected = "a small letter, then up to 31 small letters, digits or hyphens"
        raise RequestError("label", expected=expected, got=repr(label[:100]))
    return label


def _held(server: Json, version: int) -> Held:
    for one in server["releases"]:
        if one["version"] == version:
            return Held(
                pid=server["pid"],
                state=one["state"],
                cause=one.get("cause", ""),
                load_time_s=one.get("load_time_s"),
                num_tried=one.get("num_tried"),
            )
    return Held(pid=server["pid"], state=NOT_LOADED)
