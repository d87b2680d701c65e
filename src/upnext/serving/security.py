"""Who may ask what: tokens, the names that the server answers to, and pages of other sites."""

import hmac
import ipaddress
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from upnext.errors import ConfigError, UpnextError

Access = Literal["public", "read", "events", "admin"]
"""What a route needs: nothing, or the token of that name where one is configured."""

CHANGING: tuple[Access, ...] = ("events", "admin")
"""Who gets this far changes what others are recommended; never open beyond loopback."""
MIN_TOKEN_CHARACTERS = 16
MAX_TOKEN_BYTES = 4096
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, kw_only=True)
class SecurityConfig:
    """Who may ask what of a server, and under which names it answers."""

    read_token_file: str | None = None
    """File of the token that asks for recommendations; unset, whoever reaches the server may."""
    events_token_file: str | None = None
    """File of the token that tells events; unset, they are taken on a loopback address alone."""
    admin_token_file: str | None = None
    """File of the token that moves labels; unset, it works on a loopback address alone."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that requests may call the server by; none: loopback's own, beyond it any."""
    allowed_origins: tuple[str, ...] = ()
    """Sites whose pages may call the server from a browser, such as "https://console.example"."""

    def __post_init__(self) -> None:
        for name in self.allowed_hosts:
            if not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", name):
                expected = "a name or an address without a port"
                raise ConfigError("[security] allowed_hosts", expected=expected, got=repr(name))
        for origin in self.allowed_origins:
            if not re.fullmatch(r"https?://[^/\s*@?#]+", origin):
                expected = "a scheme and a host, such as 'https://console.example'"
                raise ConfigError("[security] allowed_origins", expected=expected, got=repr(origin))


class RefusedError(UpnextError):
    """A request that is turned away with a status of its own, and headers that explain it."""

    def __init__(
        self,
        status: int,
        where: str,
        *,
        expected: str,
        got: str,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(where, expected=expected, got=got, hint=hint)
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True, kw_only=True)
class Security:
    """What is checked of every request; made once, when a server starts.

    `hosts`: names that it answers to; None answers to all. `origins`: sites whose pages may
    call it. `tokens`: by what they open; what has none is open.
    """

    hosts: frozenset[bytes] | None
    origins: frozenset[bytes] = frozenset()
    tokens: Mapping[Access, bytes] = field(default_factory=dict, repr=False)

    def check(self, headers: Headers, needs: Access, method: str) -> None:
        """Lets a request pass, or tells why it may not.

        A browser sends `Origin` with whatever a page of another site makes it send, a form too.
        Asking for recommendations counts as shown what is answered, so that every method but GET
        must come from an allowed site, or from no browser at all.

        Raises:
            RefusedError: 400 for a foreign Host, 403 for a foreign Origin, 415 for a change that is
                not told in JSON, 401 without the right token.
        """
        host = origin = authorization = content_type = None
        for name, value in headers:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"authorization":
                authorization = value
            elif name == b"content-type":
                content_type = value
        self.check_host(host)
        if method not in ("GET", "HEAD"):
            if origin is not None and origin.lower() not in self.origins:
                raise _wrong_origin()
            if needs in CHANGING and not _is_json(content_type):
                raise _not_json()
        token = self.tokens.get(needs)
        if token is not None:
            _check_token(authorization, token)

    def check_host(self, host: bytes | None) -> None:
        """Raises RefusedError: 400 for a name that the server does not answer to."""
        if self.hosts is not None and _name_of(host) not in self.hosts:
            raise _wrong_host()


def open_security(
    config: SecurityConfig, *, host: str = "127.0.0.1", changing: Collection[Access] = ()
) -> Security:
    """Reads the tokens, and refuses a server that would let anybody change something.

    Args:
        host: what the server listens on.
        changing: what it serves of `CHANGING`.

    Raises:
        ConfigError: a token's file is missing, short, or readable by others; or `host` is not a
            loopback address, and something that is served there has no token.
    """
    files: Mapping[Access, str | None] = {
        "read": config.read_token_file,
        "events": config.events_token_file,
        "admin": config.admin_token_file,
    }
    tokens = {access: _read_token(access, Path(file)) for access, file in files.items() if file}
    for access in changing:
        if access not in tokens and not is_loopback(host):
            raise ConfigError(
                f"[security] {access}_token_file",
                expected=f"a file with a token, as the server listens on {host}",
                got="none",
                hint="whoever reaches the server could change what everybody is recommended.",
            )
    names = config.allowed_hosts
    if not names and is_loopback(host):
        # A web page may give its own name our address; the Host header shows it.
        names = (*LOOPBACK_NAMES, host)
    return Security(
        hosts=frozenset(name.lower().encode() for name in names) or None,
        origins=frozenset(origin.lower().encode() for origin in config.allowed_origins),
        tokens=tokens,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on this host.

    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "10.0.0.7")]
    [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_token(access: Access, path: Path) -> bytes:
    where = f"[security] {access}_token_file"
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            token = file.read(MAX_TOKEN_BYTES + 1).strip()
    except OSError as error:
        got = f"{path}: {error.strerror}"
        raise ConfigError(where, expected="a file with a token", got=got) from None
    if mode & 0o027:
        raise ConfigError(
            where,
            expected="a file that others cannot read and the group cannot write",
            got=f"{path} with mode {mode:o}",
            hint=f"chmod 600 {path}",
        )
    if not MIN_TOKEN_CHARACTERS <= len(token) <= MAX_TOKEN_BYTES or not re.fullmatch(
        rb"[!-~]+", token
    ):
        raise ConfigError(
            where,
            expected=f"{MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_BYTES} visible ASCII characters",
            got=f"{path} with something else",
            hint="openssl rand -hex 32 makes one.",
        )
    return token


def _check_token(authorization: bytes | None, token: bytes) -> None:
    scheme, _, given = (authorization or b"").partition(b" ")
    if scheme.lower() != b"bearer":
        raise _unauthorised("no token", "Bearer")
    # The same time for every wrong token, so that none can be guessed a letter at a time.
    if not hmac.compare_digest(given.strip(), token):
        raise _unauthorised("another one", 'Bearer error="invalid_token"')


@lru_cache(64)
def _name_of(host: bytes | None) -> bytes:
    return re.sub(rb":\d*\Z", b"", host or b"").lower()


def _is_json(content_type: bytes | None) -> bool:
    return (content_type or b"").partition(b";")[0].strip().lower() == b"application/json"


def _wrong_host() -> RefusedError:
    return RefusedError(
        400,
        "Host",
        expected="a name of this server",
        got="another one",
        hint="[security] allowed_hosts of its configuration says which it answers to.",
    )


def _wrong_origin() -> RefusedError:
    return RefusedError(
        403,
        "Origin",
        expected="no web page, or one of an allowed site",
        got="another site",
        hint="[security] allowed_origins of the server's configuration says which are.",
    )


def _not_json() -> RefusedError:
    return RefusedError(415, "Content-Type", expected="application/json", got="something else")


def _unauthorised(got: str, challenge: str) -> RefusedError:
    return RefusedError(
        401,
        "Authorization",
        expected="Bearer and the token of this route",
        got=got,
        headers={"WWW-Authenticate": challenge},
    )
