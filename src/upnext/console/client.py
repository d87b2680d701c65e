"""What the console asks of a server: its public address, and the one that it is managed on."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from upnext.errors import RequestError, UpnextError

Json = dict[str, Any]

LOOK_TIMEOUT_S = 10.0
MANAGE_TIMEOUT_S = 1_800.0
"""Loading a release may take its time."""


class ServerDownError(UpnextError):
    """The server does not answer."""


class ServerRefusedError(UpnextError):
    """The server answered, and said no; `status` is that of its answer."""

    def __init__(self, status: int, detail: Mapping[str, str]) -> None:
        super().__init__(
            detail.get("where", "the server"),
            expected=detail.get("expected", "an answer"),
            got=detail.get("got", f"status {status}"),
            hint=detail.get("hint", ""),
        )
        self.status = status


class Server:
    """A server as its clients see it; used in a `with` block.

    `read_token`: what it wants of those who look, if anything. `is_shared`: whether others than
    this machine reach the console; then whatever changes something needs a token.
    """

    def __init__(
        self,
        public_url: str,
        managed_url: str,
        *,
        read_token: str | None = None,
        is_shared: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.public_url, self.managed_url = public_url.rstrip("/"), managed_url.rstrip("/")
        self._read_token, self._is_shared = read_token, is_shared
        # The environment's proxies are for the world outside, and a server is not there.
        self._http = httpx.AsyncClient(
            transport=transport, trust_env=False, timeout=LOOK_TIMEOUT_S, follow_redirects=False
        )

    @property
    def has_token(self) -> bool:
        """Whether those who look tell the server a token."""
        return self._read_token is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def look(self, path: str, **query: str | int | float | None) -> Json:
        """What `/insight/v1/PATH` tells.

        Raises: ServerDownError: nobody answers. ServerRefusedError: the answer is an error.
        """
        asked = {name: str(value) for name, value in query.items() if value is not None}
        url = f"{self.managed_url}/insight/v1/{path}"
        return _json(await self._send("GET", url, token=self._read_token, params=asked))

    async def ask(self, path: str, body: Json, *, token: str | None = None) -> Json:
        """What the public address answers to a POST; without a token, that of those who look."""
        url = f"{self.public_url}{path}"
        return _json(await self._send("POST", url, token=token or self._read_token, json=body))

    async def tell_event(self, event: Json, *, token: str | None) -> Json:
        """Tells one event; without a token, as those who look. Raises as `manage` does."""
        self._check_token(token)
        return await self.ask("/v1/events", {"events": [event]}, token=token)

    async def manage(self, method: str, path: str, body: Json, *, token: str | None) -> Json:
        """Changes something on the managed address; it returns when that is done.

        Raises: RequestError: others reach this console, and no token was given.
        """
        self._check_token(token)
        url = f"{self.managed_url}/admin/v1/{path}"
        answer = await self._send(method, url, token=token, json=body, timeout=MANAGE_TIMEOUT_S)
        return _json(answer)

    async def ready(self) -> Json:
        """Which releases answer, and what is amiss; a server that is not ready tells that too."""
        answer = await self._send("GET", f"{self.public_url}/readyz", token=None, may_fail=(503,))
        return _json(answer)

    async def metrics(self) -> str:
        """All that is counted, as Prometheus reads it."""
        answer = await self._send("GET", f"{self.managed_url}/metrics", token=self._read_token)
        return answer.text

    def _check_token(self, token: str | None) -> None:
        # A server that only this machine reaches may want none; who asks us may be elsewhere.
        if self._is_shared and token is None:
            raise RequestError(
                "token",
                expected="the token of the server, as others reach this console",
                got="none",
                hint="[security] of serve.toml gives a server its tokens.",
            )

    async def _send(
        self,
        method: str,
        url: str,
        *,
        token: str | None,
        may_fail: tuple[int, ...] = (),
        **what: Any,
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = await self._http.request(method, url, headers=headers, **what)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            # What a header cannot hold stands in the error, and a token goes into a header.
            told = "" if isinstance(error, httpx.LocalProtocolError) else str(error)
            raise ServerDownError(
                url,
                expected="a server that answers",
                got=f"{type(error).__name__}: {told}".rstrip(": "),
                hint="upnext serve REGISTRY --admin-port PORT starts one.",
            ) from None
        if answer.status_code >= 400 and answer.status_code not in may_fail:
            raise ServerRefusedError(answer.status_code, _detail(answer))
        return answer


def escaped(part: str | int) -> str:
    """A part of a path, whatever it holds; dots too, as a path of ".." leads elsewhere.

    >>> escaped("a/b"), escaped("..")
    ('a%2Fb', '%2E%2E')
    """
    return quote(str(part), safe="").replace(".", "%2E")


def _json(answer: httpx.Response) -> Json:
    try:
        told: Json = answer.json()
    except ValueError:
        detail = {"where": str(answer.url), "expected": "JSON", "got": answer.text[:100]}
        raise ServerRefusedError(answer.status_code, detail) from None
    return told


def _detail(answer: httpx.Response) -> dict[str, str]:
    try:
        error = answer.json()["error"]
    except (ValueError, LookupError, TypeError):
        error = None
    if isinstance(error, dict):
        return {key: str(value) for key, value in error.items()}
    return {"where": str(answer.url), "got": f"status {answer.status_code}"}
