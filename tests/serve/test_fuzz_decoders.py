"""Every decoder of bytes from outside, and the guard behind its own, on damaged messages: read or refused, no more."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pytest

from offload import wire
from offload.codec.codecs import CODECS, available
from offload.codec.codecs import decode as decode_tensor
from offload.errors import CodecError, WireError
from runtime.errors import MessageError
from runtime.serve.guard_messages import StatusQuery, decode_reply, decode_request, encode
from tests.serve.api.test_fuzz import cut, flip, grow, swap
from tests.serve.test_guard_memory import VirtualGuard

OBSERVE = {
    "kind": "observe/1",
    "stamp_ns": 5,
    "x_m": 0.0,
    "y_m": 1.0,
    "heading_rad": 0.1,
    "beta_rad": 0.0,
    "speed_mps": 5.0,
    "obstacles": [[9.0, 0.0, 1.0, 0.0]],
    "applied_id": 1,
}
ASKED: list[dict[str, Any]] = [
    OBSERVE,
    {"kind": "propose/1", "stamp_ns": 5, "beta_rad": 0.1, "speed_mps": 3.0},
    {"kind": "watch/1", "fingerprint": "f" * 64, "pid": 3},
    {"kind": "status/1"},
    {"kind": "follow/1"},
]
ANSWERED: list[dict[str, Any]] = [
    {"kind": "welcome/1", "fingerprint": "f" * 64, "pid": 3, "vehicle": "demo", "certificate": None},
    {"kind": "refused/1", "error": "no"},
    {
        "kind": "report/1",
        "id": 3,
        "stamp_ns": 5,
        "mode": "hold",
        "reason": "x",
        "deadline_s": 0.1,
        "barrier_deadline_s": None,
        "limited_by": "backup",
        "beta_rad": 0.0,
        "intervened": False,
    },
]
TENSORS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.ones(3, bool)}


def sent(message: Any, tensors: dict[str, Any]) -> list[bytes]:
    """Return a message as the frames that are received."""
    parts: list[Any] = wire.encode_with(message, tensors) if tensors else wire.encode(message)
    return [bytes(memoryview(part).cast("B")) for part in parts]


TO_EDGE = [
    sent(wire.Request(id=7, model="driver", time_left_us=60_000), TENSORS),
    sent(wire.Cancel(id=7), {}),
    sent(wire.Hello(client="car"), {}),
    sent(wire.Ping(number=9), {}),
]
FROM_EDGE = [sent(wire.Reply(id=7, code=wire.Code.OK), TENSORS), sent(wire.Pong(number=9, load_us=5, ready=True), {})]
PICTURE = (np.indices((16, 24, 3)).sum(axis=0) * 5 % 256).astype(np.uint8)
NUMBERS = np.linspace(0.0, 1.0, 64, dtype=np.float32)


@dataclass(frozen=True)
class Decoder:
    """One decoder: what it reads, undamaged, frame by frame, and how it refuses."""

    read: Callable[[list[bytes]], Any]
    seeds: list[list[bytes]]
    refusal: type[Exception]
    tenth: bool = False


def _codec(name: str) -> Decoder:
    array = PICTURE if CODECS[name].fits(PICTURE) else NUMBERS

    def read(frames: list[bytes]) -> None:
        back = decode_tensor(name, frames[0], array.dtype, array.shape)
        assert (back.dtype, back.shape) == (array.dtype, array.shape)

    return Decoder(read, [[bytes(CODECS[name].encode(array).data)]], CodecError, tenth=True)


DECODERS = {
    "guard's requests": Decoder(
        lambda frames: decode_request(frames[0]), [[msgpack.packb(m)] for m in ASKED], MessageError
    ),
    "guard's replies": Decoder(
        lambda frames: decode_reply(frames[0]), [[msgpack.packb(m)] for m in ANSWERED], MessageError
    ),
    "vehicle to edge": Decoder(wire.decode_from_vehicle, TO_EDGE, WireError),
    "edge to vehicle": Decoder(wire.decode_from_edge, FROM_EDGE, WireError),
    **{f"codec {name}": _codec(name) for name in available()},
}


def damaged(rng: random.Random, frames: list[bytes]) -> list[bytes]:
    """Return a message with one to three wounds; a header is now and then taken apart and put together otherwise."""
    parts = list(frames)
    if rng.random() < 0.4:
        try:
            parts[0] = msgpack.packb(swap(rng, msgpack.unpackb(parts[0])))
        except (ValueError, TypeError):  # a tensor's data, or a value that msgpack has not
            parts[0] = flip(rng, parts[0])
    if rng.random() < 0.02:
        deep = b"\x91" * rng.choice((10, 1000, 50_000))
        parts[0] = b"\x82\xa1a" + deep + b"\xc0\xa4kind\xa8status/1"
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(parts))
        parts[at] = rng.choice((flip, cut, grow))(rng, parts[at])
    return parts


def fuzz(decoder: Decoder, inputs: int) -> tuple[int, int]:
    """Return how many damaged messages were read, and how many refused."""
    rng, read = random.Random(2), 0
    for _ in range(inputs):
        frames = damaged(rng, rng.choice(decoder.seeds))
        try:
            decoder.read([memoryview(frame) for frame in frames])  # type: ignore[misc]
        except decoder.refusal:
            continue
        read += 1
    return read, inputs - read


@pytest.mark.parametrize("name", DECODERS)
def test_undamaged_messages_are_read(name: str) -> None:
    for frames in DECODERS[name].seeds:
        DECODERS[name].read(frames)


@pytest.mark.parametrize("name", DECODERS)
def test_ten_thousand_damaged_messages_are_read_or_refused(name: str) -> None:
    read, refused = fuzz(DECODERS[name], 1_000 if DECODERS[name].tenth else 10_000)
    assert read + refused > 0
    assert refused > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", DECODERS)
def test_a_million_damaged_messages_are_read_or_refused(name: str) -> None:
    assert sum(fuzz(DECODERS[name], 1_000_000)) == 1_000_000


def answered(guard: VirtualGuard, inputs: int) -> int:
    """Send a guard damaged messages, also of its own vehicle, and return how many it answered with a decision."""
    rng, decisions = random.Random(3), 0
    for number in range(inputs):
        guard.now_s += rng.choice((0.0, 0.001, 0.02, 0.5))
        stamp_ns = round(guard.now_s * 1e9) + rng.choice((0, 0, 0, -(10**9), 10**7, 2**62))
        observed = {**OBSERVE, "stamp_ns": stamp_ns, "applied_id": guard._applied}
        kind = rng.random()
        message = swap(rng, observed) if kind < 0.5 else swap(rng, {**rng.choice(ASKED), "stamp_ns": stamp_ns})
        frame = msgpack.packb(message)
        guard.take(b"vehicle", rng.choice((flip, cut, grow))(rng, frame) if kind > 0.9 else frame)
        decisions += guard.last(b"vehicle")["kind"] == "decision/1"
        if number % 50 == 0:
            guard.tick(number)
    return decisions


@pytest.fixture
def guard() -> VirtualGuard:
    return VirtualGuard()


def test_a_guard_that_is_sent_damage_goes_on(guard: VirtualGuard) -> None:
    assert answered(guard, 3_000) > 100
    assert guard.take(b"anyone", encode(StatusQuery()))["kind"] == "guard_status/1"
    guard.now_s += 2.0
    assert guard.tick(1)["kind"] == "decision/1"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_guard_that_is_sent_damage_for_an_hour_goes_on(guard: VirtualGuard) -> None:
    assert answered(guard, 200_000) > 6_000
