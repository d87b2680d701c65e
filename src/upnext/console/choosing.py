"""Which release a page is about: the one that is asked for, or what most want to see."""

import re

from starlette.requests import Request

from upnext.console.client import Json


def chosen_version(request: Request, told: Json) -> int | str | None:
    """The `version` of the URL as it stands there, else the stable release, else the newest.

    `told`: the list of releases. None if there are none at all. That a version is none is for the
    server to say.
    """
    asked = request.query_params.get("version", "").strip()
    if asked:
        return int(asked) if re.fullmatch("[1-9][0-9]{0,9}", asked) else asked
    newest = max((one["version"] for one in told["releases"]), default=None)
    stable: int | None = told["labels"].get("stable")
    return newest if stable is None else stable
