"""The decoder of the local socket on damaged messages: each is read or refused, and nothing else happens."""

import random
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from offload.errors import WireError
from runtime.serve.api.codec import decode

SEGMENT = bytearray(b"\x01" * 8192)
STATE = {"x_m": 0.0, "y_m": 1.0, "heading_rad": 0.1, "beta_rad": 0.0, "speed_mps": 5.0}
TENSORS = [
    {"name": "a", "dtype": "float32", "shape": [1, 16]},
    {"name": "b", "dtype": "bool", "shape": [3]},
    {"name": "c", "dtype": "int64", "shape": [4], "at": {"segment": 7, "offset": 64}},
    {"name": "d", "dtype": "float16", "shape": [8, 2], "at": {"segment": 7, "offset": 128}},
]
FRAMES = [bytes(64), b"\x00\x01\x00"]
INFER = {"kind": "infer/1", "id": 5, "model": "m", "deadline_us": 9000, "sent_ns": 1, "priority": 2, "tensors": TENSORS}
SEEDS: list[tuple[dict[str, Any], list[bytes]]] = [
    ({**INFER, "answer_at": {"segment": 7, "offset": 4096, "bytes": 1024}, "least_exit": "e"}, FRAMES),
    (
        {"kind": "step/1", "stamp_ns": 5, "obstacles": [[1.0, 2.0, 0.5, 0.0]], **STATE, "tensors": TENSORS[:1]},
        FRAMES[:1],
    ),
    ({"kind": "deadline/1", "id": 1, **STATE, "obstacles": [[9.0, 0.0, 1.0, 0.0]], "method": "backup"}, []),
    ({"kind": "filter/1", "id": 1, **STATE, "hold_s": 0.1}, []),
    ({"kind": "load/1", "id": 1, "model": "m", "version": "2"}, []),
    ({"kind": "subscribe/1", "id": 1, "topics": ["guard", "plan"]}, []),
    ({"kind": "cancel/1", "id": 1}, []),
]


class OneSegment:
    def memory(self, segment: int) -> Any:
        return SEGMENT if segment == 7 else None


def flip(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return rng.randbytes(rng.randrange(9))
    at = rng.randrange(len(data))
    return data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :]


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def grow(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]


def swap(rng: random.Random, value: Any) -> Any:
    """Return a structure with one of its values exchanged."""
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        return {**value, key: swap(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], swap(rng, value[at]), *value[at + 1 :]]
    odd: list[Any] = [None, -1, 0, 63, 2**31, 2**62, 2**63, 1e308, float("nan"), "", "x" * 200, [], {}, b"\xff", True]
    return rng.choice(odd)


def misplace(rng: random.Random) -> dict[str, Any]:
    """Return a tensor that lies somewhere about the shared memory, or beyond it."""
    offset = rng.choice((0, 63, 64, 4096, 8128, 8192, 8256, 2**20, 2**31, 2**40))
    shape = [rng.choice((0, 1, 2, 3, 64, 2**20, 2**31 - 1)) for _ in range(rng.randrange(4))]
    place = {"segment": rng.choice((7, 7, 7, 8)), "offset": offset}
    return {"name": rng.choice("cd"), "dtype": rng.choice(("int64", "uint8", "float64")), "shape": shape, "at": place}


def fuzz(inputs: int) -> tuple[int, int]:
    """Return how many damaged messages were read and refused."""
    rng, read = random.Random(1), 0
    damage: tuple[Callable[[random.Random, bytes], bytes], ...] = (flip, cut, grow)
    for _ in range(inputs):
        message, frames = rng.choice(SEEDS)
        header = msgpack.packb(swap(rng, message) if rng.random() < 0.5 else message)
        if rng.random() < 0.2:
            header = msgpack.packb({**INFER, "tensors": [*TENSORS[:2], misplace(rng), misplace(rng)]})
            frames = FRAMES
        parts = [header, *frames]
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(parts))
            parts[at] = rng.choice(damage)(rng, parts[at])
        if rng.random() < 0.1:
            parts = rng.sample(parts, rng.randrange(len(parts) + 1))
        try:
            _, tensors = decode(parts, OneSegment())
        except WireError:
            continue
        read += 1
        for array in tensors.values():
            assert not array.flags.writeable
            array.sum()
    return read, inputs - read


def test_ten_thousand_inputs_are_read_or_refused() -> None:
    read, refused = fuzz(10_000)
    assert read > 1000
    assert refused > 3000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_inputs_are_read_or_refused() -> None:
    read, refused = fuzz(1_000_000)
    assert read + refused == 1_000_000


def test_undamaged_messages_are_read() -> None:
    for message, frames in SEEDS:
        decoded, tensors = decode([msgpack.packb(message), *frames], OneSegment())
        assert decoded.__struct_config__.tag == message["kind"]
        assert len(tensors) == len(message.get("tensors", ()))


def test_an_empty_tensor_of_an_impossible_shape_is_refused() -> None:
    tensor = {"name": "a", "dtype": "float32", "shape": [0, 2**31 - 1, 2**31 - 1, 2**20]}
    with pytest.raises(WireError, match="too big"):
        decode([msgpack.packb({**INFER, "tensors": [tensor]}), b""], OneSegment())
