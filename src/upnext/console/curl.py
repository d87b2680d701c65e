"""A request as a command that can be pasted into a shell."""

import json
import shlex

from upnext.console.client import Json

TOKEN = '-H "Authorization: Bearer $UPNEXT_TOKEN"'
"""The shell fills it in; a token itself is never shown."""


def curl_command(url: str, body: Json, *, has_token: bool) -> str:
    """POSTs a body as JSON; `has_token`: the server wants one of who asks.

    >>> print(curl_command("http://127.0.0.1:8080/v1/recommendations", {"user_id": "o'k"},
    ...                    has_token=False))
    curl -sS http://127.0.0.1:8080/v1/recommendations \\
      -H 'Content-Type: application/json' \\
      --data-raw '{"user_id": "o'"'"'k"}'
    """
    lines = [
        f"curl -sS {shlex.quote(url)}",
        "-H 'Content-Type: application/json'",
        *([TOKEN] if has_token else []),
        f"--data-raw {shlex.quote(json.dumps(body))}",
    ]
    return " \\\n  ".join(lines)
