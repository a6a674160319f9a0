"""Values as JSON that comes back bit for bit: numbers that JSON lacks stand as the words "nan", "inf" and "-inf"."""

import math
from typing import Any

import msgspec


def plain(value: Any) -> Any:
    """Return a value made of what JSON has."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    return plain(msgspec.to_builtins(value, str_keys=True))


def encode_plain(value: Any) -> bytes:
    """Return a value as JSON."""
    return msgspec.json.encode(plain(value))
