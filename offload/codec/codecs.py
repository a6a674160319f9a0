"""What a tensor can be sent as, and the error each declares.

| name | of | error |
|---|---|---|
| jpeg, webp | uint8 images [.., H, W, 3] or [.., H, W, 1] | not bounded: measured on trial frames |
| fp16 | float32, float64 within +-65504 | at most max|x| 2^-11 + 2^-25, rounding to nearest |
| int8 | finite floats | at most (max - min)/510 and rounding: q = round(255 (x - min)/(max - min)) |
| zstd | everything | none; needs pip install 'headway[codecs]' |

Decoding believes nothing: the size that the header declares is checked against the coded data before any memory is
taken for it, so that a small frame cannot become a huge one.

Reference: ISO/IEC 10918-1 (JPEG markers), RFC 9649 (WebP), RFC 8878 (Zstandard).
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from offload.errors import CodecError

Array = NDArray[Any]
_HALF_MAX = 65504.0
_RANGE = struct.Struct("<dd")
_ZSTD_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tensor as it travels, and the most that an element then differs by; None where that is not bounded."""

    data: bytes
    error: float | None


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to send a tensor.

    Args:
        fits: Whether it can take a tensor.
        encode: Makes the bytes.
        decode: Makes a tensor of the dtype and shape out of bytes.
    """

    name: str
    fits: Callable[[Array], bool]
    encode: Callable[[Array], Encoded]
    decode: Callable[[bytes, "np.dtype[Any]", tuple[int, ...]], Array]


def available() -> tuple[str, ...]:
    """Return the names of the codecs that this installation has."""
    return tuple(name for name in CODECS if name != "zstd" or _zstd() is not None)


def decode(name: str, data: Any, dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> Array:
    """Return the tensor that `data` stands for.

    Raises:
        CodecError: no such codec here, or the data is damaged or of another size than declared.
    """
    codec = CODECS.get(name)
    if codec is None or name not in available():
        raise CodecError(f"codec {name!r} cannot be read here: there are {', '.join(available())}")
    try:
        return codec.decode(bytes(data), dtype, shape)
    except (cv2.error, ValueError, struct.error) as error:
        raise CodecError(f"damaged {name} data: {error}") from error


def _is_image(array: Array) -> bool:
    if array.dtype != np.uint8 or array.ndim < 3 or not array.size:
        return False
    *lead, height, width, channels = array.shape
    return math.prod(lead) == 1 and channels in (1, 3) and 0 < height < 16384 and 0 < width < 16384


def _image_codec(name: str, suffix: str, flag: int, quality: int, size_of: Callable[[bytes], tuple[int, int]]) -> Codec:
    def encode(array: Array) -> Encoded:
        done, data = cv2.imencode(suffix, array.reshape(array.shape[-3:]), [flag, quality])
        if not done:
            raise CodecError(f"an image of {array.shape} cannot be made a {name}")
        return Encoded(data.tobytes(), None)

    def restore(data: bytes, dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> Array:
        if dtype != np.uint8 or len(shape) < 3 or shape[-1] not in (1, 3) or math.prod(shape[:-3]) != 1:
            raise ValueError(f"{dtype} {list(shape)} is no image")
        found = size_of(data)
        if found != (shape[-3], shape[-2]):
            raise ValueError(f"it is {found[0]} x {found[1]}, the header says {shape[-3]} x {shape[-2]}")
        colour = cv2.IMREAD_COLOR if shape[-1] == 3 else cv2.IMREAD_GRAYSCALE
        image = cv2.imdecode(np.frombuffer(data, np.uint8), colour | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise ValueError("it cannot be decoded")
        return np.asarray(image).reshape(shape)

    return Codec(name, _is_image, encode, restore)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return height and width by the frame header, which is the only one: a second is refused."""
    at, found = 2, None
    if data[:2] != b"\xff\xd8":
        raise ValueError("no start of image")
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xDA:
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if found is not None:
                raise ValueError("two frame headers")
            height, width = struct.unpack_from(">HH", data, at + 5)
            found = (int(height), int(width))
        at += 2 + length
    if found is None:
        raise ValueError("no frame header")
    return found


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return height and width of a simple file; the extended format, which may hold animations, is refused."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("no WebP file")
    if data[12:16] == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return int(height) & 0x3FFF, int(width) & 0x3FFF
    if data[12:16] == b"VP8L" and data[20:21] == b"\x2f":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ((bits >> 14) & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    raise ValueError("neither lossy nor lossless simple format")


def _fits_half(array: Array) -> bool:
    if array.dtype.kind != "f" or array.dtype.itemsize < 4 or not array.size:
        return False
    least, most = float(array.min()), float(array.max())
    return -_HALF_MAX <= least and most <= _HALF_MAX


def _half(array: Array) -> Encoded:
    most = max(abs(float(array.min())), abs(float(array.max())))
    return Encoded(array.astype("<f2").tobytes(), most * 2.0**-11 + 2.0**-25)


def _from_half(data: bytes, dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> Array:
    if dtype.kind != "f":
        raise ValueError(f"{dtype} is no float")
    _check_size(len(data), 2 * math.prod(shape))
    return np.frombuffer(data, "<f2").astype(dtype).reshape(shape)


def _fits_int8(array: Array) -> bool:
    if array.dtype.kind != "f" or not array.size:
        return False
    return math.isfinite(float(array.max()) - float(array.min()))


def _int8(array: Array) -> Encoded:
    least, most = float(array.min()), float(array.max())
    step = (most - least) / 255.0
    scaled = (array.astype(np.float64, copy=False) - least) * (1.0 / step if step > 0.0 else 0.0)
    rounding = float(np.finfo(array.dtype).eps) * max(abs(least), abs(most))
    return Encoded(_RANGE.pack(least, step) + np.rint(scaled).astype(np.uint8).tobytes(), step / 2.0 + rounding)


def _from_int8(data: bytes, dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> Array:
    if dtype.kind != "f":
        raise ValueError(f"{dtype} is no float")
    _check_size(len(data), _RANGE.size + math.prod(shape))
    least, step = _RANGE.unpack_from(data)
    if not (math.isfinite(least) and math.isfinite(step)):
        raise ValueError(f"its range begins at {least} in steps of {step}")
    levels = least + step * np.arange(256.0)
    with np.errstate(over="ignore"):  # what does not fit the dtype becomes infinite, and models refuse that
        table: Array = levels.astype(dtype)
    return table[np.frombuffer(data, np.uint8, offset=_RANGE.size)].reshape(shape)


@cache
def _zstd() -> Any:
    try:
        import zstandard
    except ImportError:
        return None
    return zstandard


def _zipped(array: Array) -> Encoded:
    library = _zstd()
    if library is None:
        raise CodecError("zstd needs zstandard: pip install 'headway[codecs]'")
    return Encoded(library.ZstdCompressor(level=_ZSTD_LEVEL).compress(np.ascontiguousarray(array).tobytes()), 0.0)


def _unzipped(data: bytes, dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> Array:
    library, wanted = _zstd(), math.prod(shape) * dtype.itemsize
    try:
        _check_size(library.frame_content_size(data), wanted)
        plain = library.ZstdDecompressor().decompress(data, max_output_size=wanted)
    except library.ZstdError as error:
        raise ValueError(str(error)) from error
    _check_size(len(plain), wanted)
    return np.frombuffer(plain, dtype).reshape(shape)


def _check_size(found: int, wanted: int) -> None:
    if found != wanted:
        raise ValueError(f"it has {found} bytes, its shape wants {wanted}")


CODECS = {
    codec.name: codec
    for codec in (
        _image_codec("jpeg", ".jpg", cv2.IMWRITE_JPEG_QUALITY, 90, _jpeg_size),
        _image_codec("webp", ".webp", cv2.IMWRITE_WEBP_QUALITY, 90, _webp_size),
        Codec("fp16", _fits_half, _half, _from_half),
        Codec("int8", _fits_int8, _int8, _from_int8),
        Codec("zstd", lambda array: array.nbytes > 0, _zipped, _unzipped),
    )
}
"""Every codec by name."""
