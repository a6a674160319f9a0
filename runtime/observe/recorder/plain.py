"""Values as JSON that comes back bit for bit: numbers that JSON lacks stand as the words "nan", "inf" and "-inf"."""

import json
import re
from typing import Any

import msgspec

_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|NaN|-?Infinity')
_WORDS = {"NaN": '"nan"', "Infinity": '"inf"', "-Infinity": '"-inf"'}
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def encode_plain(value: Any) -> bytes:
    """Return a value, of what msgspec knows, as JSON; a float comes back with every bit."""
    text = _encode(msgspec.to_builtins(value, str_keys=True))
    if "NaN" in text or "Infinity" in text:
        text = _TOKENS.sub(_word, text)
    return text.encode()


def _word(found: re.Match[str]) -> str:
    return _WORDS.get(found[0], found[0])
