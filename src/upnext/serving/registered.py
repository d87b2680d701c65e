"""What routes over a registry share: which registry it is, and which of its releases is asked."""

import re
from pathlib import Path

from starlette.requests import Request

from upnext.errors import RequestError
from upnext.registry.release import list_releases
from upnext.serving.security import RefusedError


def registry_of(request: Request) -> Path:
    """The registry of this application."""
    registry: Path = request.app.state.registry
    return registry


def version_of(request: Request) -> int:
    """The version in the path.

    Raises: RequestError: it is no number. RefusedError: there is no such release (404).
    """
    text = request.path_params["version"]
    if not re.fullmatch("[1-9][0-9]{0,9}", text):
        raise RequestError("version", expected="a number from 1", got=repr(text[:40]))
    if int(text) not in list_releases(registry_of(request)):
        raise missing("release", text)
    return int(text)


def missing(kind: str, name: str) -> RefusedError:
    """A release or a label is asked for that is not there (404)."""
    hint = "GET /insight/v1/releases lists what there is."
    return RefusedError(404, kind, expected=f"a {kind} that is there", got=repr(name), hint=hint)
