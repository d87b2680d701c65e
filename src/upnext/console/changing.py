"""What must be so before the console has a server change something, and how it is set in motion.

A token is read from the form that was posted and passed on with one request. It stands in no page,
no address, no log and no operation.
"""

import re
from typing import Literal

from starlette.requests import Request

from upnext.console.client import Json
from upnext.console.forms import Fields
from upnext.console.operations import Operation
from upnext.console.rendering import operations_of, server_of
from upnext.errors import RequestError


def token_in(fields: Fields) -> str | None:
    """The token that was typed; None where the field was left empty.

    Raises: RequestError: no token is written so. The error does not repeat it.
    """
    token = fields.get("token", "").strip()
    # What no header can hold would be told in the error of whoever tries.
    if not re.fullmatch("[!-~]*", token):
        got = f"{len(token)} characters, not all of them such"
        raise RequestError("token", expected="printable ASCII without spaces", got=got)
    return token or None


def check_words(fields: Fields, words: str) -> None:
    """Raises RequestError: what was typed to confirm is something else."""
    typed = fields.get("confirmation", "")
    if typed != words:
        raise RequestError(
            "confirmation",
            expected=f"the words {words!r}",
            got=repr(typed[:100]) if typed else "nothing",
            hint="nothing was sent to the server.",
        )


def start(
    request: Request,
    title: str,
    method: Literal["POST", "PUT"],
    path: str,
    body: Json,
    *,
    token: str | None,
) -> Operation:
    """Has the server change something, and does not wait for it."""
    work = server_of(request).manage(method, path, body, token=token)
    return operations_of(request).start(title, work)


def change_facts(request: Request, refusal: RequestError | None) -> Json:
    """What a page tells of a change: the operation that its address names, or why none was begun.

    `operation` is None where the address names none that is remembered.
    """
    number = request.query_params.get("operation", "")
    is_number = re.fullmatch("[0-9]{1,12}", number)
    operation = operations_of(request).get(int(number)) if is_number else None
    is_busy = operation is not None and operation.state == "running"
    return {"operation": operation, "is_busy": is_busy, "refusal": refusal}
