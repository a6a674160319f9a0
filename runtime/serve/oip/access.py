"""Who may talk to the front ends: anybody on this machine, or who has the token or a certificate.

A front end binds to loopback; on any other address it wants a bearer token or certificates of its clients, and refuses
to start otherwise. Requests that a web browser made for a page of somebody else (header Origin, or a Host that is not
this machine) are refused where there is neither.
"""

import hmac
import ipaddress
import logging
import os
import ssl
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from runtime.config import FrontSection
from runtime.errors import ConfigurationError
from runtime.serve.oip.errors import Cause, OipError

_log = logging.getLogger("headway.front")
_SHORTEST_TOKEN = 16
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a server's certificate.

    Args:
        certificate, key: The server's own, in PEM.
        client_ca: Certificates that may sign those of clients; None: clients need none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def read(self) -> tuple[bytes, bytes, bytes | None]:
        """Return the contents of key, certificate and client authorities.

        Raises:
            ConfigurationError: A file cannot be read.
        """
        ca = None if self.client_ca is None else _read(self.client_ca, "front.tls_client_ca")
        return _read(self.key, "front.tls_key"), _read(self.certificate, "front.tls_certificate"), ca


@dataclass(frozen=True, slots=True)
class Access:
    """What a client must bring.

    Args:
        token: The bearer token; None: none is wanted.
        tls: The server's certificate; None: connections are not encrypted.
    """

    token: bytes | None = None
    tls: Tls | None = None

    @property
    def known_clients(self) -> bool:
        """Whether clients prove who they are."""
        return self.token is not None or (self.tls is not None and self.tls.client_ca is not None)

    def check(self, authorization: str | None) -> None:
        """Refuse a request without the token, where there is one.

        Raises:
            OipError: There is no token, or another.
        """
        if self.token is None:
            return
        given = authorization or ""
        if not given[: len(_BEARER)].lower() == _BEARER:
            raise OipError(Cause.UNAUTHENTICATED, "a token is wanted: authorization: Bearer TOKEN")
        if not hmac.compare_digest(given[len(_BEARER) :].strip().encode(errors="replace"), self.token):
            raise OipError(Cause.UNAUTHENTICATED, "the token is another one than this server's")

    def check_origin(self, origin: str | None, host: str | None) -> None:
        """Refuse what a browser sends for a foreign page, where nothing else tells clients apart.

        Raises:
            OipError: The request has an Origin, or a Host that does not mean this machine.
        """
        if self.known_clients:
            return
        if origin is not None:
            raise OipError(Cause.FORBIDDEN, "requests of web pages (header Origin) are refused: set front.token_file")
        if host is not None and not _is_here(host):
            raise OipError(Cause.FORBIDDEN, f"host {host[:64]!r} is not this machine: ask for 127.0.0.1 or localhost")


def open_access(section: FrontSection) -> Access:
    """Return what a configuration asks of clients.

    Raises:
        ConfigurationError: A file is missing, unfit or half given, or an address is not loopback and nothing protects
            it.
    """
    token = None if section.token_file is None else _token(Path(section.token_file))
    access = Access(token, _tls(section))
    for key, address in (("http", section.http), ("grpc", section.grpc)):
        if address is None:
            continue
        host, _ = parse_address(f"front.{key}", address)
        if is_loopback(host):
            continue
        if not access.known_clients:
            raise ConfigurationError(
                f"front.{key} = {address!r} is open to other machines: set front.token_file or front.tls_client_ca, "
                "or bind to 127.0.0.1"
            )
        if access.tls is None:
            _log.warning(
                "front.%s = %s: the token travels unencrypted; set front.tls_certificate",
                key,
                address,
                extra={"code": "token_unencrypted"},
            )
    return access


def parse_address(key: str, address: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT" or "[IPV6]:PORT".

    Raises:
        ConfigurationError: It is none.
    """
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host.startswith("[") == (":" in bare)
    if not (colon and bare and bracketed and port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ConfigurationError(f"{key} = {address!r}: must be HOST:PORT, as 127.0.0.1:8000 or [::1]:8000")
    return bare, int(port)


def join_address(host: str, port: int) -> str:
    """Return "HOST:PORT", or "[IPV6]:PORT"."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether a host name or address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_loopback(key: str, address: str) -> tuple[str, int]:
    """Return host and port of an address that only this machine can reach.

    Raises:
        ConfigurationError: It is none, or others could.
    """
    host, port = parse_address(key, address)
    if not is_loopback(host):
        raise ConfigurationError(f"{key} = {address!r} is open to other machines: bind to 127.0.0.1")
    return host, port


@lru_cache(64)
def _is_here(header: str) -> bool:
    return is_loopback(split_host(header))


def split_host(header: str) -> str:
    """Return the host of a Host header, its port taken off."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


def _tls(section: FrontSection) -> Tls | None:
    certificate, key, ca = section.tls_certificate, section.tls_key, section.tls_client_ca
    if certificate is None and key is None and ca is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError(
            "front.tls_certificate and front.tls_key go together, and front.tls_client_ca needs both"
        )
    tls = Tls(Path(certificate), Path(key), None if ca is None else Path(ca))
    tls.read()
    try:
        server_context(tls)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(
            f"{certificate}, {key}: no certificate with its key, or authorities, in PEM: {error}"
        ) from error
    return tls


def server_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of a TLS server.

    Raises:
        ssl.SSLError: The files do not fit each other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    if tls.client_ca is not None:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _token(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"front.token_file {path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode) or mode & 0o077 or path.stat().st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(f"front.token_file {path} must be a file that only its owner may read: chmod 600 it")
    token = _read(path, "front.token_file").strip()
    if len(token) < _SHORTEST_TOKEN or b"\n" in token:
        raise ConfigurationError(
            f"front.token_file {path} holds {len(token)} bytes: must be one line of at least {_SHORTEST_TOKEN}, "
            "as made by: openssl rand -hex 32"
        )
    return token


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{key} {path} cannot be read: {error.strerror}") from error
