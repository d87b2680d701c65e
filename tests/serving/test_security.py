"""Tokens from files, names of the server, pages of other sites; nothing secret is ever said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.errors import ConfigError
from upnext.serving.security import (
    Access,
    RefusedError,
    Security,
    SecurityConfig,
    is_loopback,
    open_security,
)

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "correct-horse-battery-staple"
LOCAL = (b"host", b"localhost:8080")
JSON = (b"content-type", b"application/json; charset=utf-8")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


def _status(security: Security, *headers: tuple[bytes, bytes], **asked: str) -> int:
    needs: Access = asked.get("needs", "read")  # type: ignore[assignment]
    try:
        security.check(headers, needs, asked.get("method", "POST"))
    except RefusedError as refused:
        return refused.status
    return 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200),
        (b"LOCALHOST:1", 200),
        (b"127.0.0.1:99", 200),
        (b"[::1]:8080", 200),
        (b"[::1]", 200),
        (b"localhost.attacker.example", 400),
        (b"attacker.example", 400),
        (b"localhost:80:80", 400),
        (b"", 400),
    ],
)
def test_on_loopback_only_its_own_names_are_answered(host: bytes, status: int) -> None:
    assert _status(open_security(SecurityConfig()), (b"host", host)) == status


def test_a_request_without_a_host_is_refused_where_names_count() -> None:
    assert _status(open_security(SecurityConfig())) == 400
    assert _status(open_security(SecurityConfig(), host="0.0.0.0")) == 200


def test_allowed_hosts_take_the_place_of_loopback_names() -> None:
    security = open_security(SecurityConfig(allowed_hosts=("Up.Next",)))
    assert _status(security, (b"host", b"up.next:80")) == 200
    assert _status(security, LOCAL) == 400


@pytest.mark.parametrize("needs", ["public", "read", "events", "admin"])
def test_pages_of_other_sites_may_get_but_not_post(needs: str) -> None:
    security = open_security(SecurityConfig(allowed_origins=("https://console.example",)))
    for origin, status in ((b"https://console.example", 200), (b"https://a.example", 403)):
        headers = (LOCAL, JSON, (b"origin", origin))
        assert _status(security, *headers, needs=needs, method="POST") == status
        assert _status(security, *headers, needs=needs, method="GET") == 200
    assert _status(security, LOCAL, JSON, (b"origin", b"null"), needs=needs) == 403


@pytest.mark.parametrize("content_type", [b"text/plain", b"application/x-www-form-urlencoded", b""])
def test_changes_are_told_in_json(content_type: bytes) -> None:
    security = open_security(SecurityConfig())
    headers = (LOCAL, (b"content-type", content_type))
    assert _status(security, *headers, needs="events") == 415
    assert _status(security, *headers, needs="admin") == 415
    assert _status(security, *headers, needs="read") == 200


def test_a_token_opens_what_it_is_for_and_nothing_else(token_file: Path) -> None:
    security = open_security(SecurityConfig(events_token_file=str(token_file)))
    bearer = (b"authorization", f"bearer {TOKEN}".encode())
    assert _status(security, LOCAL, JSON, bearer, needs="events") == 200
    assert _status(security, LOCAL, JSON, needs="events") == 401
    assert _status(security, LOCAL, needs="read") == 200


@given(given_token=st.binary(max_size=64))
def test_no_other_bytes_are_the_token(given_token: bytes) -> None:
    security = Security(hosts=None, tokens={"read": TOKEN.encode()})
    is_right = given_token.strip() == TOKEN.encode()
    assert (_status(security, (b"authorization", b"Bearer " + given_token)) == 200) == is_right


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ((), "Bearer"),
        (((b"authorization", b"Basic dTpw"),), "Bearer"),
        (((b"authorization", b"Bearer wrong"),), 'Bearer error="invalid_token"'),
    ],
)
def test_a_refusal_tells_how_to_authenticate(
    headers: tuple[tuple[bytes, bytes], ...], challenge: str
) -> None:
    security = Security(hosts=None, tokens={"read": TOKEN.encode()})
    with pytest.raises(RefusedError) as caught:
        security.check(headers, "read", "GET")
    assert caught.value.headers == {"WWW-Authenticate": challenge}
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_changes_beyond_loopback_need_a_token(host: str, token_file: Path) -> None:
    assert not is_loopback(host)
    open_security(SecurityConfig(), host=host)
    for access in ("events", "admin"):
        with pytest.raises(ConfigError, match=f"{access}_token_file"):
            open_security(SecurityConfig(), host=host, changing=[access])
        config = SecurityConfig(**{f"{access}_token_file": str(token_file)})  # type: ignore[arg-type]
        open_security(config, host=host, changing=[access])
        open_security(SecurityConfig(), host="127.0.0.1", changing=[access])


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        ("short", 0o600, "visible ASCII"),
        ("x" * 5_000, 0o600, "visible ASCII"),
        ("two words that are long enough", 0o600, "visible ASCII"),
        ("schlüssel-der-lang-genug-ist", 0o600, "visible ASCII"),
        (TOKEN, 0o644, "others cannot read"),
        (TOKEN, 0o660, "others cannot read"),
        (TOKEN, 0o602, "others cannot read"),
    ],
)
def test_a_token_that_is_none_or_lies_open_is_refused_and_not_shown(
    token_file: Path, content: str, mode: int, expected: str
) -> None:
    token_file.write_text(content)
    token_file.chmod(mode)
    with pytest.raises(ConfigError, match=expected) as caught:
        open_security(SecurityConfig(read_token_file=str(token_file)))
    assert content not in str(caught.value)


def test_a_missing_token_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        open_security(SecurityConfig(read_token_file=str(tmp_path / "none")))


def test_tokens_do_not_show_when_printed(token_file: Path) -> None:
    assert TOKEN not in repr(open_security(SecurityConfig(read_token_file=str(token_file))))


@pytest.mark.parametrize("origin", ["*", "console.example", "https://a.example/page", "null"])
def test_an_origin_is_a_scheme_and_a_host(origin: str) -> None:
    with pytest.raises(ConfigError, match="allowed_origins"):
        SecurityConfig(allowed_origins=(origin,))


@pytest.mark.parametrize("host", ["*", "a.example:80", "https://a.example", ""])
def test_a_host_is_a_name_without_a_port(host: str) -> None:
    with pytest.raises(ConfigError, match="allowed_hosts"):
        SecurityConfig(allowed_hosts=(host,))
