"""Errors of the offload tier.

OffloadError
├── WireError      a message of the peer is damaged, too large, or of another version
├── LinkError      a declared link or radio profile is impossible
├── ServerError    the edge server cannot start: address in use, not loopback, no package
├── ClientError    the client was closed, or a request cannot be put on the wire
├── SecurityError  a key file or an allow-list is missing, damaged, or open to others
└── CodecError     a codec is missing here, or cannot take this tensor

A wrong argument (not finite, negative size) is a plain ``ValueError``.
"""


class OffloadError(Exception):
    """Base of every error the offload tier raises on its own account."""

    exit_code = 69  # of a command that ends with it


class WireError(OffloadError):
    """A message cannot be used; the text names what was wrong, the value and what would be right.

    Args:
        reason: The text.
        request_id: Id of the request the damaged message speaks of, 0 where it cannot be read.
    """

    def __init__(self, reason: str, request_id: int = 0) -> None:
        super().__init__(reason)
        self.request_id = request_id


class LinkError(OffloadError):
    """A link or radio is declared with values no link or radio can have."""

    exit_code = 78


class ServerError(OffloadError):
    """The edge server cannot start or go on."""


class ClientError(OffloadError):
    """The client cannot do what was asked of it: it is closed, or the request does not fit the wire."""


class AddressError(ClientError):
    """The address of an edge server is none."""

    exit_code = 78


class SecurityError(OffloadError):
    """Keys or an allow-list cannot be used."""

    exit_code = 78


class CodecError(OffloadError):
    """A codec cannot be had here, or cannot take this tensor."""
