"""Values as JSON that comes back bit for bit: numbers that JSON lacks stand as the words "nan", "inf" and "-inf"."""

import json
import re
from typing import Any

import msgspec

_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")  # how such a number begins in msgpack; may be found elsewhere
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|NaN|-?Infinity')
_WORDS = {"NaN": '"nan"', "Infinity": '"inf"', "-Infinity": '"-inf"'}
_PACKER = msgspec.msgpack.Encoder()
_JSON = msgspec.json.Encoder()
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def encode_plain(value: Any) -> bytes:
    """Return a value, of what msgspec knows, as JSON; a float comes back with every bit."""
    if (
        _NOT_FINITE.search(_PACKER.encode(value)) is None
    ):  # a sixth of the time: msgspec's JSON knows but finite numbers
        return _JSON.encode(value)
    text = _encode(msgspec.to_builtins(value, str_keys=True))
    if "NaN" in text or "Infinity" in text:
        text = _TOKENS.sub(_word, text)
    return text.encode()


def _word(found: re.Match[str]) -> str:
    return _WORDS.get(found[0], found[0])
