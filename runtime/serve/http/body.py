"""Reading the body of a request into one buffer, of a size and within a time that is bounded; and unpacking it.

The buffer is laid so that the byte behind the JSON, where the first tensor begins, is aligned: its view then needs no
copy. A body that comes in one piece is used where it lies.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np

from runtime.serve.oip.errors import Cause, OipError

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
MOST_BYTES = 64 * 2**20
MOST_HELD_BYTES = 256 * 2**20
PATIENCE_S = 30.0
ALIGNMENT = 64
_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
_IN_THREAD_BYTES = 65_536  # smaller ones are packed and unpacked sooner than another thread begins


class DisconnectedError(Exception):
    """The client is gone: there is nobody to answer."""


class Room:
    """The memory that bodies of all connections may take together.

    Args:
        most_bytes: That much [byte].
    """

    def __init__(self, most_bytes: int = MOST_HELD_BYTES) -> None:
        self._left = self._most = most_bytes

    def holds(self, size: int) -> bool:
        """Whether a body of `size` [byte] fits in now."""
        return size <= self._left

    def take(self, size: int) -> None:
        """Set room for a body aside.

        Raises:
            OipError: There is not enough left.
        """
        if size > self._left:
            held = self._most - self._left
            raise OipError(
                Cause.EXHAUSTED, f"bodies of {held} bytes are being served, another {size} are too many: ask again"
            )
        self._left -= size

    def give(self, size: int) -> None:
        """Give room back that was taken."""
        self._left += size


def declared_length(headers: Mapping[bytes, bytes], name: bytes) -> int | None:
    """Return the number in a header; None without the header.

    Raises:
        OipError: It is no number.
    """
    text = headers.get(name)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 12:
        raise OipError(Cause.INVALID, f"header {name.decode()} is {text[:32]!r}: must be a number of bytes")
    return int(text)


async def read_body(receive: Receive, length: int | None, json_length: int | None) -> memoryview:
    """Return the whole body.

    Args:
        receive: Brings the next piece.
        length: Content-Length [byte]; None: not declared.
        json_length: Where the first binary tensor begins [byte]; None: there is none.
    Raises:
        OipError: Too large, or not there in time.
        DisconnectedError: The client is gone.
    """
    if length is not None and length > MOST_BYTES:
        raise _too_large(length)
    try:
        async with asyncio.timeout(PATIENCE_S):
            piece, more = await _piece(receive)
            if not more:
                return memoryview(piece)
            if length is None:
                return await _gather(receive, piece)
            return await _fill(receive, piece, length, json_length or 0)
    except TimeoutError as error:
        raise OipError(Cause.SLOW, f"the body did not come within {PATIENCE_S:g} s") from error


async def _piece(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise DisconnectedError
    return message.get("body", b""), message.get("more_body", False)


async def _fill(receive: Receive, piece: bytes, length: int, json_length: int) -> memoryview:
    room: Any = np.empty(length + ALIGNMENT, np.uint8)
    begin = -(room.__array_interface__["data"][0] + json_length) % ALIGNMENT
    body = memoryview(room)[begin : begin + length]
    filled, more = 0, True
    while True:
        end = filled + len(piece)
        if end > length:
            raise _too_large(end)
        body[filled:end] = piece
        filled = end
        if not more:
            return body[:filled].toreadonly()
        piece, more = await _piece(receive)


async def _gather(receive: Receive, piece: bytes) -> memoryview:
    pieces, size, more = [piece], len(piece), True
    while more:
        piece, more = await _piece(receive)
        size += len(piece)
        if size > MOST_BYTES:
            raise _too_large(size)
        pieces.append(piece)
    return memoryview(b"".join(pieces))


async def unpacked(body: memoryview, encoding: bytes) -> memoryview:
    """Return a body as it was before it was packed.

    Raises:
        OipError: Unknown encoding, damaged, or larger than a body may be.
    """
    if encoding in (b"", b"identity"):
        return body
    bits = _WINDOW_BITS.get(encoding)
    if bits is None:
        raise OipError(Cause.INVALID, f"content-encoding {encoding[:32].decode(errors='replace')!r}: gzip or deflate")
    if len(body) < _IN_THREAD_BYTES:
        return _unpack(body, bits)
    return await asyncio.to_thread(_unpack, body, bits)


def _unpack(body: memoryview, bits: int) -> memoryview:
    unpacker = zlib.decompressobj(bits)
    try:
        data = unpacker.decompress(body, MOST_BYTES + 1)
    except zlib.error as error:
        raise OipError(Cause.INVALID, f"the body is not packed as content-encoding says: {error}") from error
    if len(data) > MOST_BYTES:
        raise _too_large(len(data))
    if not unpacker.eof or unpacker.unused_data:
        raise OipError(Cause.INVALID, "the packed body is cut off, or something stands behind it")
    return memoryview(data)


def packing(accepted: bytes) -> bytes | None:
    """Return the encoding to pack an answer with, None for none.

    Libraries offer lists of encodings unasked; packing would cost more than it saves on loopback. Who wants it names
    exactly one.
    """
    return accepted if accepted in _WINDOW_BITS else None


async def packed(data: bytes, encoding: bytes) -> bytes:
    """Return `data` packed with an encoding that `packing` returned."""
    if len(data) < _IN_THREAD_BYTES:
        return _pack(data, encoding)
    return await asyncio.to_thread(_pack, data, encoding)


def _pack(data: bytes, encoding: bytes) -> bytes:
    packer = zlib.compressobj(level=1, wbits=_WINDOW_BITS[encoding])
    return packer.compress(data) + packer.flush()


def _too_large(size: int) -> OipError:
    return OipError(Cause.TOO_LARGE, f"the body has {size} bytes: at most {MOST_BYTES}")
