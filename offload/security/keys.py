"""CURVE key pairs and allow-lists as files.

A key is 32 bytes, written as 40 characters of Z85. A key file is TOML with `public` and `secret`, mode 0600: one that
others may read is refused. An allow-list has one client a line, its public key and then a name for people; a line that
starts with "# " is a comment (a key may hold a #, but no blank).

Reference: ZeroMQ RFC 26 (CurveZMQ), RFC 32 (Z85).
"""

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from offload.errors import SecurityError

_MODE = 0o600
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair in Z85; the secret half stays out of every text that is made of it."""

    public: str
    secret: str = field(repr=False)


def new_keys() -> KeyPair:
    """Return a fresh pair.

    Raises:
        SecurityError: this ZeroMQ was built without CURVE.
    """
    if not zmq.has("curve"):
        raise SecurityError("this ZeroMQ was built without CURVE: install pyzmq from its wheel")
    public, secret = zmq.curve_keypair()
    while public.startswith(b"-"):  # it would look like a flag on a command line
        public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def check_key(key: str, what: str = "the key") -> str:
    """Return `key` if it is a public or secret key.

    Raises:
        SecurityError: it is not 40 characters of Z85.
    """
    try:
        if len(key) == 40 and len(z85.decode(key.encode("ascii"))) == 32:
            return key
    except (ValueError, KeyError, UnicodeEncodeError):
        pass
    shown = f"{len(key)} characters" if len(key) != 40 else "a character that Z85 lacks"
    raise SecurityError(f"{what} has {shown}: a CURVE key is 40 characters of Z85, see headway keys new")


def write_keys(path: Path, keys: KeyPair) -> None:
    """Write a pair to a new file, mode 0600.

    Raises:
        SecurityError: the file exists, or cannot be made.
    """
    text = f'# Keep secret: whoever has this file can be you.\npublic = "{keys.public}"\nsecret = "{keys.secret}"\n'
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _MODE), "w") as file:
            file.write(text)
    except FileExistsError as error:
        raise SecurityError(f"{path} exists: name another file, or remove it if nobody knows its key") from error
    except OSError as error:
        raise SecurityError(f"cannot write {path}: {error.strerror}") from error


def read_keys(path: Path) -> KeyPair:
    """Return the pair of a key file.

    Raises:
        SecurityError: no such file, one that others may read, or no key in it; or the halves are no pair.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SecurityError(
            f"cannot read the key file {path}: {_why(error)}; make one with headway keys new"
        ) from error
    if mode & 0o077:
        raise SecurityError(f"{path} has mode {mode:04o}: others may read the secret in it; chmod 600 {path}")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SecurityError(f"{path} is no key file: {error}") from error
    public, secret = (check_key(str(table.get(name, "")), f"{path}: {name}") for name in ("public", "secret"))
    if zmq.curve_public(secret.encode()).decode() != public:
        raise SecurityError(f"{path}: public and secret are no pair; make a new one with headway keys new")
    return KeyPair(public, secret)


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def read_allowed(path: Path) -> dict[str, str]:
    """Return names by public key.

    Raises:
        SecurityError: no such file, others may write to it, or a line is damaged.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SecurityError(
            f"cannot read the allow-list {path}: {_why(error)}; begin one with headway keys allow"
        ) from error
    if mode & 0o022:
        raise SecurityError(f"{path} has mode {mode:04o}: others may add clients to it; chmod 600 {path}")
    allowed = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("# "):
            key, _, name = line.strip().partition(" ")
            allowed[check_key(key, f"{path}, line {number}: the key")] = name.strip() or key[:8]
    return allowed


def allow(path: Path, key: str, name: str) -> bool:
    """Put a client on an allow-list, which is made where there is none; False if it was on it by that name.

    Raises:
        SecurityError: the key or the name is none, or the list cannot be read or written.
    """
    check_key(key)
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise SecurityError(f"name {name!r}: must be 1 to {_LONGEST_NAME} printable characters")
    allowed = read_allowed(path) if path.exists() else {}
    if allowed.get(key) == name:
        return False
    _replace(path, {**allowed, key: name})
    return True


def disallow(path: Path, who: str) -> list[str]:
    """Take clients off an allow-list by key or by name, and return the names taken off.

    Raises:
        SecurityError: nobody of that key or name is on it, or the list cannot be read or written.
    """
    allowed = read_allowed(path)
    gone = [key for key, name in allowed.items() if who in (key, name)]
    if not gone:
        raise SecurityError(f"{path} has no client {who!r}: there are {', '.join(allowed.values()) or 'none'}")
    names = [allowed.pop(key) for key in gone]
    _replace(path, allowed)
    return names


def _replace(path: Path, allowed: Mapping[str, str]) -> None:
    """Write the list beside its place and move it there: a reader sees the old one or the new one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    lines = ["# Clients that this edge server lets in: public key, name.\n"]
    lines += [f"{key} {name}\n" for key, name in allowed.items()]
    try:
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, _MODE), "w") as file:
            file.writelines(lines)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise SecurityError(f"cannot write the allow-list {path}: {error.strerror}") from error
