"""Addresses, tokens and files of the front ends as they are configured."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.config import FrontSection
from runtime.errors import ConfigurationError
from runtime.serve.oip.access import Access, is_loopback, join_address, open_access, parse_address, split_host
from runtime.serve.oip.errors import Cause, OipError

TOKEN = "0123456789abcdef"


@given(st.sampled_from(["127.0.0.1", "localhost", "::1", "0.0.0.0", "board.example"]), st.integers(0, 65_535))
def test_addresses_are_read_as_they_are_written(host: str, port: int) -> None:
    assert parse_address("front.http", join_address(host, port)) == (host, port)


@pytest.mark.parametrize("address", ["", "8000", ":8000", "h:", "h:-1", "h:65536", "h:x", "::1:80", "[h]:80", "h:１"])
def test_other_addresses_are_told(address: str) -> None:
    with pytest.raises(ConfigurationError, match="must be HOST:PORT"):
        parse_address("front.http", address)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
    ],
)
def test_loopback_is_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_host_of_a_header_has_no_port() -> None:
    assert [split_host(text) for text in ("LocalHost:80", "[::1]:80", "[::1]", "h")] == ["localhost", "::1", "::1", "h"]


def token_file(folder: Path, text: str = TOKEN, mode: int = 0o600) -> str:
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_an_open_address_wants_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"front\.grpc = '0\.0\.0\.0:1' is open to other machines"):
        open_access(FrontSection(grpc="0.0.0.0:1"))
    access = open_access(FrontSection(grpc="0.0.0.0:1", token_file=token_file(tmp_path)))
    assert access.token == TOKEN.encode()
    assert open_access(FrontSection(http="[::1]:1")) == Access()


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        (TOKEN, 0o640, "only its owner may read"),
        (TOKEN, 0o604, "only its owner may read"),
        ("short", 0o600, "at least 16"),
        (f"{TOKEN}\n{TOKEN}", 0o600, "one line"),
    ],
)
def test_an_unfit_token_is_told(tmp_path: Path, text: str, mode: int, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        open_access(FrontSection(token_file=token_file(tmp_path, text, mode)))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"token_file": "/nowhere"}, "cannot be read"),
        ({"tls_certificate": "/nowhere"}, "go together"),
        ({"tls_client_ca": "/nowhere"}, "go together"),
        ({"tls_certificate": "/nowhere", "tls_key": "/nowhere"}, "cannot be read"),
        ({"tls_certificate": "/etc/hostname", "tls_key": "/etc/hostname"}, "in PEM"),
    ],
)
def test_unfit_files_are_told(settings: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        open_access(FrontSection(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given_", [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, "Bearer \u20ac"]
)
def test_a_wrong_token_is_refused(given_: str | None) -> None:
    with pytest.raises(OipError) as caught:
        Access(TOKEN.encode()).check(given_)
    assert caught.value.cause is Cause.UNAUTHENTICATED


@pytest.mark.parametrize("given_", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
def test_the_token_is_taken(given_: str) -> None:
    Access(TOKEN.encode()).check(given_)
    Access(TOKEN.encode()).check_origin("https://example.org", "example.org")  # the token tells who asks
