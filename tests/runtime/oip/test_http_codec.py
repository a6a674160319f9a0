"""The binary extension's codec: what tritonclient writes is read, what is damaged is refused, nothing else happens."""

import json
import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from devices.tensor import Array
from runtime.serve.http.codec import MOST_JSON_BYTES, MOST_JSON_VALUES, Body, decode, encode
from runtime.serve.oip.datatypes import NAMES
from runtime.serve.oip.errors import Cause, OipError
from tests.runtime.oip.clients import http as triton

DTYPES = [np.dtype(name) for name in NAMES]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def arrays(finite: bool = False) -> "st.SearchStrategy[Array]":
    dtypes = [dtype for dtype in DTYPES if not finite or dtype.name != "float16"]
    options: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if finite else {}

    def of(dtype: "np.dtype[Any]") -> "st.SearchStrategy[Array]":
        elements = hnp.from_dtype(dtype, **options) if dtype.kind == "f" else hnp.from_dtype(dtype)
        return hnp.arrays(dtype, SHAPES, elements=elements)

    return st.sampled_from(dtypes).flatmap(of)


def written(tensors: dict[str, Array], *, binary: bool, **options: Any) -> tuple[bytes, int | None]:
    """Return a request's body as tritonclient writes it, and where its JSON ends."""
    given = []
    for name, array in tensors.items():
        tensor = triton.InferInput(name, array.shape, NAMES[array.dtype.name])
        tensor.set_data_from_numpy(array, binary_data=binary)
        given.append(tensor)
    body, length = triton.InferenceServerClient.generate_request_body(given, **options)
    return body, length


def read(tensors: dict[str, Array], *, binary: bool, **options: Any) -> Body:
    body, length = written(tensors, binary=binary, **options)
    return decode(memoryview(body), length)


@given(st.dictionaries(st.sampled_from("abc"), arrays(), min_size=1))
def test_binary_tensors_are_read_as_they_were_written(tensors: dict[str, Array]) -> None:
    decoded = read(tensors, binary=True, request_id="7", priority=2, timeout=9)
    assert decoded.id == "7"
    assert decoded.parameters["priority"] == 2
    assert decoded.parameters["timeout"] == 9
    assert decoded.inputs.keys() == tensors.keys()
    for name, array in tensors.items():
        seen = decoded.inputs[name]
        assert (seen.dtype, seen.shape, seen.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert not seen.flags.writeable
        assert seen.flags.aligned


@given(arrays(finite=True))
def test_numbers_in_json_are_read_as_they_were_written(array: Array) -> None:
    seen = read({"x": array}, binary=False).inputs["x"]
    np.testing.assert_array_equal(seen, array, strict=True)


@given(arrays(), st.booleans())
def test_an_answer_is_what_tritonclient_reads(array: Array, binary: bool) -> None:
    finite = array.dtype.name != "float16" and bool(np.isfinite(array).all())
    if not binary and not finite:
        with pytest.raises(OipError, match="binary_data"):
            encode({}, {"y": array}, {}, default=False)
        return
    text, behind = encode({"model_name": "m"}, {"y": array, "z": array}, {"z": True}, default=binary)
    result = triton.InferResult.from_response_body(b"".join([text, *behind]), header_length=len(text))
    for name in ("y", "z"):
        np.testing.assert_array_equal(result.as_numpy(name), array, strict=True)


def test_nothing_is_copied_where_it_lies_aligned() -> None:
    x = np.arange(64, dtype=np.float32)
    text = json.dumps(
        {"inputs": [{"name": "x", "shape": [64], "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}]}
    ).encode()
    room = np.empty(len(text) + x.nbytes + 64, np.uint8)
    begin = -(room.ctypes.data + len(text)) % 64
    body = room[begin : begin + len(text) + x.nbytes]
    body[:] = np.frombuffer(text + x.tobytes(), np.uint8)
    seen = decode(memoryview(body), len(text)).inputs["x"]  # type: ignore[arg-type, unused-ignore]
    assert np.shares_memory(seen, room)
    np.testing.assert_array_equal(seen, x)
    assert np.shares_memory(np.frombuffer(encode({}, {"y": x}, {}, default=True)[1][0], np.uint8), x)


def body_of(change: dict[str, Any], data: bytes = bytes(8), **more: Any) -> tuple[bytes, int]:
    tensor: dict[str, Any] = {
        "name": "x",
        "shape": [2],
        "datatype": "FP32",
        "parameters": {"binary_data_size": 8},
        **change,
    }
    text = json.dumps({"inputs": [tensor], **more}).encode()
    return text + data, len(text)


IN_JSON: dict[str, Any] = {"parameters": {}}
REFUSED: list[tuple[dict[str, Any], dict[str, Any], bytes, Cause, str]] = [
    ({"datatype": "BYTES"}, {}, bytes(8), Cause.INVALID, "datatype 'BYTES'"),
    ({"datatype": "FP64"}, {}, bytes(8), Cause.INVALID, "has 8 bytes: must have 16"),
    ({"shape": [-1]}, {}, bytes(8), Cause.INVALID, ">= 0"),
    ({"shape": [2**31]}, {}, bytes(8), Cause.INVALID, "<="),
    ({"shape": [1] * 9}, {}, bytes(8), Cause.INVALID, "length <= 8"),
    ({"parameters": {"binary_data_size": 9}}, {}, bytes(8), Cause.INVALID, "8 bytes are left of the body"),
    ({"parameters": {"binary_data_size": -1}}, {}, bytes(8), Cause.INVALID, "binary_data_size -1"),
    ({"parameters": {"binary_data_size": True}}, {}, bytes(8), Cause.INVALID, "binary_data_size True"),
    ({"parameters": {"binary_data_size": "8"}}, {}, bytes(8), Cause.INVALID, "binary_data_size '8'"),
    ({}, {}, bytes(9), Cause.INVALID, "1 bytes are left behind"),
    ({"data": [1, 2]}, {}, bytes(8), Cause.INVALID, "both data and binary_data_size"),
    ({"datatype": "BOOL", "shape": [8]}, {}, b"\1" * 7 + b"\2", Cause.INVALID, "a byte 2: must be 0 or 1"),
    ({"parameters": {"shared_memory_region": "r"}}, {}, b"", Cause.UNSUPPORTED, "shared memory"),
    (IN_JSON, {}, b"", Cause.INVALID, "neither data nor binary_data_size"),
    ({**IN_JSON, "data": 3}, {}, b"", Cause.INVALID, "no list"),
    ({**IN_JSON, "data": [1]}, {}, b"", Cause.INVALID, r"shape \[1\]: must be \[2\], or flat with 2"),
    ({**IN_JSON, "data": [[1], [2]]}, {}, b"", Cause.INVALID, r"shape \[2, 1\]"),
    ({**IN_JSON, "data": [[1], 2]}, {}, b"", Cause.INVALID, "no regular array"),
    ({**IN_JSON, "data": ["1", "2"]}, {}, b"", Cause.INVALID, "other values than numbers"),
    ({**IN_JSON, "data": [1, None]}, {}, b"", Cause.INVALID, "other values than numbers"),
    ({**IN_JSON, "data": [True, False]}, {}, b"", Cause.INVALID, "other values than numbers"),
    ({**IN_JSON, "data": [1.5, 2], "datatype": "INT32"}, {}, b"", Cause.INVALID, "other values than whole numbers"),
    ({**IN_JSON, "data": [1, 300], "datatype": "UINT8"}, {}, b"", Cause.INVALID, "beyond 0 to 255"),
    ({**IN_JSON, "data": [1, 0], "datatype": "BOOL"}, {}, b"", Cause.INVALID, "other values than true and false"),
    ({**IN_JSON, "data": [2**70, 0], "datatype": "UINT64"}, {}, b"", Cause.INVALID, "."),
    ({**IN_JSON, "data": [1, 0], "datatype": "FP16"}, {}, b"", Cause.INVALID, "binary data"),
    ({}, {"outputs": [{"name": "y", "parameters": {"classification": 3}}]}, bytes(8), Cause.UNSUPPORTED, "classific"),
    ({}, {"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, bytes(8), Cause.INVALID, "true or false"),
    ({}, {"parameters": {"binary_data_output": "yes"}}, bytes(8), Cause.INVALID, "true or false"),
    ({}, {"id": 7}, bytes(8), Cause.INVALID, "id"),
    ({}, {"parameters": {"nested": {}}}, bytes(8), Cause.INVALID, "parameters"),
]


@pytest.mark.parametrize(("change", "more", "data", "cause", "message"), REFUSED)
def test_what_cannot_be_meant_is_refused(
    change: dict[str, Any], more: dict[str, Any], data: bytes, cause: Cause, message: str
) -> None:
    body, length = body_of(change, data, **more)
    with pytest.raises(OipError, match=message) as caught:
        decode(memoryview(body), length)
    assert caught.value.cause is cause


def test_two_inputs_of_one_name_are_refused() -> None:
    one = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}
    with pytest.raises(OipError, match="two inputs have one name"):
        decode(memoryview(json.dumps({"inputs": [one, one]}).encode()), None)


def test_sizes_are_bounded() -> None:
    with pytest.raises(OipError, match="at most") as caught:
        decode(memoryview(bytes(MOST_JSON_BYTES + 1)), None)
    assert caught.value.cause is Cause.TOO_LARGE
    with pytest.raises(OipError, match="ask for binary_data"):
        encode({}, {"y": np.zeros(MOST_JSON_VALUES + 1)}, {}, default=False)
    for length in (-1, 3):
        with pytest.raises(OipError, match="the body has 2 bytes"):
            decode(memoryview(b"{}"), length)


# Damage: whatever comes in, a body is read or refused; when it is read, so does an independent reader.

_PARTS = (b'{"inputs":[{"name":"x","shape":[', b'],"datatype":"', b'","parameters":{"binary_data_size":', b'}}],"id":"')


@cache
def whole_bodies() -> list[tuple[bytes, int | None]]:
    """Return bodies that are right: each datatype, several tensors, none, as binary data and as numbers."""
    made = [written({}, binary=False), (b"{}", None)]
    for dtype in DTYPES:
        array = np.arange(6).reshape(2, 3).astype(dtype)
        made += [written({"a": array, "b": array[0]}, binary=True, priority=3)]
        if dtype.name != "float16":
            made += [written({"a": array}, binary=False, request_id="7")]
    return made


def damaged(seed: int) -> tuple[bytes, int | None]:
    """Return a body that was right once: bytes changed, cut off or put in, its length told or mistold."""
    rng = random.Random(seed)
    body, length = rng.choice(whole_bodies())
    data = bytearray(body)
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        place = rng.randint(0, len(data))
        match rng.randint(0, 3):
            case 0:
                data[place : place + 1] = rng.randbytes(rng.randint(0, 2))
            case 1:
                data[place:place] = rng.choice((*_PARTS, b"-", b"1e9", b"0", b"null", b"[", b'"', b"\xff", b"NaN"))
            case 2:
                del data[place : place + rng.randint(1, 40)]
            case 3:
                data += rng.randbytes(rng.randint(0, 16))
    return bytes(data), rng.choice((length, length, length, None, rng.randint(-1, 400)))


def check(body: bytes, length: int | None) -> bool:
    """Decode a body, and compare it with a plain reading by the rules; return whether it was read."""
    try:
        decoded = decode(memoryview(body), length)
    except OipError:
        return False
    end = len(body) if length is None else length
    told = json.loads(body[:end].decode(errors="replace"))
    for tensor in told["inputs"]:
        seen = decoded.inputs[tensor["name"]]
        assert NAMES[seen.dtype.name] == tensor["datatype"]
        assert list(seen.shape) == tensor["shape"]
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is not None:
            assert seen.tobytes() == body[end : end + size]
            end += size
        else:
            with np.errstate(over="ignore"):
                expected = np.array(tensor["data"], seen.dtype).reshape(seen.shape)
            np.testing.assert_array_equal(seen, expected)
    assert end == len(body)
    return True


@pytest.mark.parametrize(
    "body",
    [b"", b"[" * 100_000, b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 5000 + b"]" * 5000],
    ids=["empty", "deep", "deep data"],
)
def test_known_traps_are_refused(body: bytes) -> None:
    assert not check(body, None)


@settings(max_examples=100)
@given(st.integers(0, 2**63))
def test_ten_thousand_damaged_bodies_are_read_or_refused(seed: int) -> None:
    for number in range(100):
        check(*damaged(seed + number))


def test_of_the_damaged_bodies_many_are_read_and_many_refused() -> None:
    read_ones = sum(check(*damaged(seed)) for seed in range(2000))
    assert 200 < read_ones < 1800


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_damaged_bodies_are_read_or_refused() -> None:
    for seed in range(1_000_000):
        check(*damaged(seed))
