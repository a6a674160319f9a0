"""The wire: what is sent comes back, and nothing but a WireError comes out of damage."""

import contextlib
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from offload import wire
from offload.errors import WireError
from offload.frames import Limits


def frame(data: Any) -> memoryview:
    """Return what a frame that was sent is received as."""
    return memoryview(data).cast("B") if memoryview(data).nbytes else memoryview(b"")


def frames_of(data: Sequence[Any]) -> list[memoryview]:
    return [frame(item) for item in data]


def a_request(**changes: Any) -> wire.Request:
    fields: dict[str, Any] = {"id": 7, "model": "driver", "time_left_us": 60_000}
    return wire.Request(**(fields | changes))


def raw_header(**changes: Any) -> bytes:
    table: dict[str, Any] = {"kind": "request/1", "id": 7, "model": "driver", "time_left_us": 60_000}
    return msgspec.msgpack.encode(table | changes)


names = st.text(min_size=1, max_size=20)
arrays = hnp.arrays(
    st.sampled_from(["bool", "uint8", "int16", "int64", "float16", "float32", "float64"]).map(np.dtype),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


@given(st.dictionaries(names, arrays, max_size=4), st.integers(1, 2**62), st.integers(0, 3_600_000_000))
def test_request_and_tensors_come_back_as_sent(tensors: dict[str, Any], number: int, left_us: int) -> None:
    sent = a_request(id=number, time_left_us=left_us, first_segment="stem", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    message, received = wire.decode_from_vehicle(frames_of(wire.encode_with(sent, tensors)))
    assert isinstance(message, wire.Request)
    assert (message.id, message.time_left_us, message.first_segment) == (number, left_us, "stem")
    assert list(received) == list(tensors)
    for name, array in tensors.items():
        assert received[name].dtype == array.dtype
        assert received[name].shape == array.shape
        assert received[name].tobytes() == array.tobytes()
        assert not received[name].flags.writeable


@pytest.mark.parametrize("message", [wire.Hello(client="car"), wire.Cancel(id=3), wire.Ping(number=9)])
def test_messages_of_the_vehicle_come_back(message: wire.FromVehicle) -> None:
    assert wire.decode_from_vehicle(frames_of(wire.encode(message))) == (message, {})


@pytest.mark.parametrize(
    "message",
    [
        wire.Welcome(server="edge", models=("a", "b")),
        wire.Pong(number=9, load_us=12, ready=True),
        wire.Reply(id=3, code=wire.Code.DEADLINE_EXCEEDED, message="late", queue_us=4),
    ],
)
def test_messages_of_the_edge_come_back(message: wire.FromEdge) -> None:
    assert wire.decode_from_edge(frames_of(wire.encode(message))) == (message, {})


def test_large_arrays_are_not_copied() -> None:
    array = np.arange(50_000, dtype=np.float32)
    frames = wire.encode_with(a_request(), {"x": array})
    assert np.shares_memory(np.asarray(frames[1]), array)
    _, received = wire.decode_from_vehicle(frames_of(frames))
    assert np.shares_memory(received["x"], array)


def test_data_at_an_odd_address_is_aligned() -> None:
    array = np.arange(5, dtype=np.float64)
    header, data = wire.encode_with(a_request(), {"x": array})
    shifted = memoryview(b"\0" * 3 + np.asarray(data).tobytes())[3:]
    _, received = wire.decode_from_vehicle([frame(header), shifted])
    assert received["x"].flags.aligned
    assert np.array_equal(received["x"], array)


def test_big_endian_and_strided_arrays_travel() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    _, received = wire.decode_from_vehicle(frames_of(wire.encode_with(a_request(), {"x": array})))
    assert np.array_equal(received["x"], array)


def tensor_header(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "dtype": "uint8", "shape": [4]} | changes


DAMAGE = {
    "no frames": ([], "without frames"),
    "not msgpack": ([b"\xc1"], "refused|cannot be read"),
    "empty header": ([b""], "cannot be read"),
    "truncated": ([raw_header()[:-3]], "truncated"),
    "trailing bytes": ([raw_header() + b"\x01"], "trailing"),
    "a list": ([msgspec.msgpack.encode([1, 2])], "refused|cannot be read"),
    "other version": ([raw_header(kind="request/2")], "'request/2': this side speaks version 1"),
    "other kind": ([raw_header(kind="reply/1")], "reply/1"),
    "unknown key": ([raw_header(colour="red")], "colour"),
    "missing key": ([msgspec.msgpack.encode({"kind": "request/1", "id": 7})], "model|time_left_us"),
    "wrong type": ([raw_header(time_left_us="soon")], "time_left_us"),
    "negative time": ([raw_header(time_left_us=-1)], "time_left_us"),
    "id 0": ([raw_header(id=0)], "id"),
    "no name": ([raw_header(model="")], "model"),
    "bad traceparent": ([raw_header(traceparent="00-xyz")], "traceparent"),
    "long header": ([raw_header(model="x" * 70_000)], "at most 65536"),
    "bytes that are no text": ([b"\x82\xa2\xff\xfe\x01\xa4kind\xa6ping/1"], "utf-8"),
    "very deep": ([b"\x81\xa4kind" + b"\x91" * 60_000], "refused|cannot be read"),
    "deep unknown value": ([b"\x81\xa1b" + b"\x91" * 60_000], "refused|cannot be read"),
    "a giant array declared": ([b"\x81\xa7tensors\xdd\xff\xff\xff\xff"], "refused|cannot be read"),
    "frame missing": ([raw_header(tensors=[tensor_header()])], "0 tensor frames .* declares 1"),
    "frame too many": ([raw_header(), b"1234"], "1 tensor frames .* declares 0"),
    "short frame": ([raw_header(tensors=[tensor_header()]), b"123"], "has 3 bytes: must have 4"),
    "long frame": ([raw_header(tensors=[tensor_header()]), b"12345"], "has 5 bytes: must have 4"),
    "wrong shape": ([raw_header(tensors=[tensor_header(shape=[2, 3])]), b"1234"], "must have 6"),
    "overflowing shape": ([raw_header(tensors=[tensor_header(shape=[2**31 - 1] * 8)]), b""], "must have"),
    "negative shape": ([raw_header(tensors=[tensor_header(shape=[-4])]), b"1234"], "shape"),
    "nine dimensions": ([raw_header(tensors=[tensor_header(shape=[1] * 9)]), b"1"], "length <= 8"),
    "object dtype": ([raw_header(tensors=[tensor_header(dtype="object")]), b"1234"], "dtype"),
    "bool of 2": ([raw_header(tensors=[tensor_header(dtype="bool")]), b"\0\1\2\0"], "byte 2"),
    "one name twice": ([raw_header(tensors=[tensor_header(), tensor_header()]), b"1234", b"1234"], "one name"),
    "too many tensors": ([raw_header(tensors=[tensor_header()] * 65), *[b"1234"] * 65], "length <= 64"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_with_its_reason(damage: str) -> None:
    frames, reason = DAMAGE[damage]
    with pytest.raises(WireError, match=reason):
        wire.decode_from_vehicle(frames_of(frames))


def test_refusal_names_the_request_where_it_can_be_read() -> None:
    for frames in ([raw_header(kind="request/9")], [raw_header(tensors=[tensor_header()])], [raw_header(model="")]):
        with pytest.raises(WireError) as caught:
            wire.decode_from_vehicle(frames_of(frames))
        assert caught.value.request_id == 7


def test_sizes_are_limited_both_ways() -> None:
    limits = Limits(tensor_bytes=100, message_bytes=150)
    one = {"x": np.zeros(101, np.uint8)}
    two = {"x": np.zeros(80, np.uint8), "y": np.zeros(80, np.uint8)}
    for tensors, reason in ((one, "101 bytes: at most 100"), (two, "160 bytes: at most 150")):
        with pytest.raises(WireError, match=reason):
            wire.encode_with(a_request(), tensors, limits)
        with pytest.raises(WireError, match=reason):
            wire.decode_from_vehicle(frames_of(wire.encode_with(a_request(), tensors)), limits)


def test_what_does_not_travel_is_refused_before_sending() -> None:
    with pytest.raises(WireError, match="complex128: what travels"):
        wire.encode_with(a_request(), {"x": np.zeros(2, complex)})
    with pytest.raises(WireError, match="object"):
        wire.encode_with(a_request(), {"x": np.array([None])})
    with pytest.raises(WireError, match="9 dimensions"):
        wire.encode_with(a_request(), {"x": np.zeros((1,) * 9)})
    with pytest.raises(WireError, match="65 tensors"):
        wire.encode_with(a_request(), {str(item): np.zeros(1) for item in range(65)})
    with pytest.raises(WireError, match="the header takes"):
        wire.encode_with(a_request(), {"x" * 70_000: np.zeros(1)})


def assert_decodes_or_refuses(frames: Sequence[bytes]) -> None:
    for decode in (wire.decode_from_vehicle, wire.decode_from_edge):
        with contextlib.suppress(WireError):
            decode(frames_of(frames))


@given(st.lists(st.binary(max_size=64), max_size=4))
@example([struct.pack(">BI", 0xDD, 2**32 - 1)])
def test_any_bytes_decode_or_are_refused(frames: list[bytes]) -> None:
    assert_decodes_or_refuses(frames)


@given(st.data())
def test_a_flipped_cut_or_grown_message_decodes_or_is_refused(data: st.DataObject) -> None:
    tensors = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.ones(3, bool)}
    whole = [bytearray(np.asarray(item).tobytes()) for item in wire.encode_with(a_request(), tensors)[1:]]
    frames = [bytearray(bytes(wire.encode_with(a_request(), tensors)[0])), *whole]
    frame = frames[data.draw(st.integers(0, len(frames) - 1))]
    at = data.draw(st.integers(0, len(frame) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "grow"])):
        case "flip":
            frame[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del frame[at:]
        case _:
            frame[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    assert_decodes_or_refuses([bytes(item) for item in frames])


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = [
    "id",
    "model",
    "time_left_us",
    "version",
    "tensors",
    "priority",
    "code",
    "message",
    "load_us",
    "number",
    "ready",
]
KINDS = [f"{kind}/1" for kind in ("hello", "request", "cancel", "ping", "welcome", "reply", "pong")]


@given(
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(KEYS), json_like),
    st.lists(st.binary(max_size=8), max_size=2),
)
def test_any_typed_map_decodes_or_is_refused(kind: str, fields: dict[str, Any], data: list[bytes]) -> None:
    assert_decodes_or_refuses([msgspec.msgpack.encode({"kind": kind} | fields), *data])
