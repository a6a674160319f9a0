"""The gRPC codec against the official messages: the same bytes mean the same, and damaged ones are refused."""

import importlib.util
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime.serve.grpc
from devices.tensor import Array
from runtime.serve.grpc.codec import MOST_HEAD_BYTES, Head, Infer, decode, embedded, encode
from runtime.serve.grpc.messages import METHODS, message
from runtime.serve.grpc.outlines import Outlines
from runtime.serve.oip.datatypes import NAMES
from runtime.serve.oip.errors import Cause, OipError
from runtime.serve.oip.options import Parameter
from tests.runtime.oip.clients import grpc as triton
from tests.runtime.oip.test_http_codec import DTYPES, arrays

pb: Any = triton.service_pb2


def request(tensors: dict[str, Array], *, raw: bool = True) -> Any:
    """Return the official message of a request."""
    asked = pb.ModelInferRequest(model_name="m", model_version="2", id="7")
    asked.parameters["timeout"].int64_param = 9
    asked.parameters["priority"].uint64_param = 3
    asked.parameters["least_exit"].string_param = "e"
    asked.parameters["own"].double_param = 0.5
    asked.outputs.add(name="y")
    for name, array in tensors.items():
        tensor = asked.inputs.add(name=name, datatype=NAMES[array.dtype.name], shape=array.shape)
        if raw:
            asked.raw_input_contents.append(array.tobytes())
        else:
            field = {
                "bool": "bool_contents",
                "float32": "fp32_contents",
                "float64": "fp64_contents",
                "int64": "int64_contents",
                "uint64": "uint64_contents",
            }.get(array.dtype.name, "int_contents" if array.dtype.kind == "i" else "uint_contents")
            getattr(tensor.contents, field).extend(array.ravel().tolist())
    return asked


@given(st.dictionaries(st.sampled_from("abc"), arrays()))
def test_a_request_means_what_the_official_message_means(tensors: dict[str, Array]) -> None:
    decoded = decode(request(tensors).SerializeToString())
    assert (decoded.model, decoded.version, decoded.id, decoded.outputs) == ("m", "2", "7", ("y",))
    assert decoded.parameters == {"timeout": 9, "priority": 3, "least_exit": "e", "own": 0.5}
    assert decoded.inputs.keys() == tensors.keys()
    for name, array in tensors.items():
        seen = decoded.inputs[name]
        assert (seen.dtype, seen.shape, seen.tobytes()) == (array.dtype, array.shape, array.tobytes())


@given(arrays(finite=True))
def test_numbers_in_contents_are_read(array: Array) -> None:
    seen = decode(request({"x": array}, raw=False).SerializeToString()).inputs["x"]
    np.testing.assert_array_equal(seen, array, strict=True)


@given(st.dictionaries(st.sampled_from("abc"), arrays()), st.floats(0, 1))
def test_an_answer_is_an_official_message(tensors: dict[str, Array], confidence: float) -> None:
    parameters: dict[str, Parameter] = {"exit_id": "e", "time_left_us": -3, "confidence": confidence, "late": True}
    encoded = encode("m", "2", "7", parameters, tensors)
    told = pb.ModelInferResponse.FromString(encoded)
    assert (told.model_name, told.model_version, told.id) == ("m", "2", "7")
    assert {name: getattr(v, v.WhichOneof("parameter_choice")) for name, v in told.parameters.items()} == parameters
    result = triton.InferResult(told)
    for name, array in tensors.items():
        np.testing.assert_array_equal(result.as_numpy(name), array, strict=True)
    assert pb.ModelStreamInferResponse.FromString(embedded(encoded)).infer_response == told


def test_raw_tensors_are_views_of_the_message() -> None:
    x = np.arange(100, dtype=np.uint8)
    data = request({"x": x}).SerializeToString()
    assert np.shares_memory(decode(data).inputs["x"], np.frombuffer(data, np.uint8))


def test_raw_contents_may_stand_anywhere_between_the_fields() -> None:
    whole = request({"x": np.ones(2, np.float32)})
    raw = pb.ModelInferRequest(raw_input_contents=list(whole.raw_input_contents)).SerializeToString()
    whole.ClearField("raw_input_contents")
    assert decode(raw + whole.SerializeToString()).inputs["x"].tolist() == [1.0, 1.0]


def said(decoded: Infer) -> tuple[Any, ...]:
    """Return all that a request says, comparable."""
    inputs = {name: (array.dtype, array.shape, array.tobytes()) for name, array in decoded.inputs.items()}
    return decoded.model, decoded.version, decoded.id, dict(decoded.parameters), decoded.outputs, inputs


@given(st.lists(arrays(), min_size=1, max_size=3), st.lists(st.sampled_from(["7", "8", "9 9"]), min_size=1, max_size=6))
def test_a_message_like_one_before_means_what_it_means_alone(tensors: list[Array], ids: list[str]) -> None:
    outlines = Outlines[Head]()
    for turn, request_id in enumerate(ids):
        asked = request({name: np.roll(array, turn) for name, array in zip("abc", tensors, strict=False)})
        asked.id = request_id
        data = asked.SerializeToString()
        assert said(decode(data, outlines)) == said(decode(data))


def test_a_message_like_one_before_is_not_parsed_again() -> None:
    outlines = Outlines[Head]()
    first, second = (request({"x": np.full(9, value, np.float32)}).SerializeToString() for value in (1.0, 2.0))
    assert outlines.find(second) is None
    decode(first, outlines)
    known = outlines.find(second)
    assert known is not None
    decoded = decode(second, outlines)
    assert decoded.parameters is known.meaning.parameters
    assert decoded.inputs["x"].tolist() == [2.0] * 9


def test_a_byte_that_is_no_bool_is_found_also_in_a_message_like_one_before() -> None:
    outlines = Outlines[Head]()
    right = request({"x": np.array([True, False, True])})
    decode(right.SerializeToString(), outlines)
    right.raw_input_contents[0] = b"\1\2\0"
    with pytest.raises(OipError, match="holds a byte 2"):
        decode(right.SerializeToString(), outlines)


def test_outlines_that_are_remembered_are_bounded() -> None:
    outlines = Outlines[Head]()
    for size in range(200):
        decode(request({"x": np.zeros(size, np.uint8)}).SerializeToString(), outlines)
    assert len(outlines) <= 64
    long = request({"x": np.zeros(3, np.uint8)})
    long.id = "i" * 5000
    decode(long.SerializeToString(), outlines)
    assert outlines.find(long.SerializeToString()) is None


def broken(change: str) -> bytes:
    """Return a message with one thing wrong."""
    asked = request({"x": np.ones(2, np.float32)})
    tensor = asked.inputs[0]
    match change:
        case "datatype":
            tensor.datatype = "BYTES"
        case "shape":
            tensor.shape[0] = 3
        case "negative":
            tensor.shape[0] = -2
        case "dimensions":
            tensor.shape.extend([1] * 8)
        case "both":
            tensor.contents.fp32_contents.extend([1, 2])
        case "entries":
            asked.raw_input_contents.append(b"")
        case "shared":
            tensor.parameters["shared_memory_region"].string_param = "r"
        case "classes":
            asked.outputs[0].parameters["classification"].int64_param = 3
        case "twice":
            asked.inputs.append(tensor)
            asked.raw_input_contents.append(asked.raw_input_contents[0])
        case "half":
            tensor.datatype, asked.raw_input_contents[:] = "FP16", []
        case "empty":
            asked.raw_input_contents[:] = []
        case "many":
            asked.inputs.extend([tensor] * 64)
        case "cut":
            return bytes(asked.SerializeToString()[:-1])
        case "group":
            return b"\x0b"
        case "endless":
            return b"\xff" * 11
        case "text":
            return b"\x0a\x01\xff"
    return bytes(asked.SerializeToString())


@pytest.mark.parametrize(
    ("change", "cause", "text"),
    [
        ("datatype", Cause.INVALID, "datatype 'BYTES'"),
        ("shape", Cause.INVALID, "has 8 bytes: must have 12"),
        ("negative", Cause.INVALID, "0 or more"),
        ("dimensions", Cause.INVALID, "9 dimensions: at most 8"),
        ("both", Cause.INVALID, "one of them"),
        ("entries", Cause.INVALID, "2 entries: must have one for each of 1"),
        ("shared", Cause.UNSUPPORTED, "shared memory"),
        ("classes", Cause.UNSUPPORTED, "classification"),
        ("twice", Cause.INVALID, "two inputs have one name"),
        ("half", Cause.INVALID, "raw_input_contents"),
        ("empty", Cause.INVALID, r"shape \[0\]: must be \[2\]"),
        ("many", Cause.INVALID, "at most 64"),
        ("cut", Cause.INVALID, "cut off"),
        ("group", Cause.INVALID, "wire type 3"),
        ("endless", Cause.INVALID, "no number"),
        ("text", Cause.INVALID, "no ModelInferRequest"),
    ],
)
def test_what_cannot_be_meant_is_refused(change: str, cause: Cause, text: str) -> None:
    with pytest.raises(OipError, match=text) as caught:
        decode(broken(change))
    assert caught.value.cause is cause


def test_what_is_parsed_is_bounded() -> None:
    asked = pb.ModelInferRequest(model_name="m" * (MOST_HEAD_BYTES + 1))
    with pytest.raises(OipError, match="at most") as caught:
        decode(asked.SerializeToString())
    assert caught.value.cause is Cause.TOO_LARGE


def damaged(seed: int) -> bytes:
    """Return a message that was right once."""
    rng = random.Random(seed)
    dtype = rng.choice(DTYPES)
    array = np.arange(6).reshape(2, 3).astype(dtype)
    raw = dtype.name == "float16" or rng.random() < 0.7
    data = bytearray(request({"a": array, "b": array[0]}, raw=raw).SerializeToString())
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        place = rng.randrange(len(data))
        match rng.randint(0, 2):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                del data[place : place + rng.randint(1, 40)]
                data += b"\0"
            case 2:
                data[place:place] = rng.randbytes(rng.randint(1, 4))
    return bytes(data)


READ = Outlines[Head]()


def check(data: bytes) -> bool:
    """Decode a message and compare it with the official reading; return whether it was read."""
    try:
        decoded = decode(data)
    except OipError:
        with pytest.raises(OipError):
            decode(data, READ)
        return False
    assert said(decode(data, READ)) == said(decoded)
    official = pb.ModelInferRequest.FromString(data)
    assert (decoded.model, decoded.version, decoded.id) == (official.model_name, official.model_version, official.id)
    assert list(decoded.inputs) == [tensor.name for tensor in official.inputs]
    for place, tensor in enumerate(official.inputs):
        seen = decoded.inputs[tensor.name]
        assert list(seen.shape) == list(tensor.shape)
        if official.raw_input_contents:
            assert seen.tobytes() == official.raw_input_contents[place]
    return True


@given(st.integers(0, 2**63))
def test_damaged_messages_are_read_as_the_official_reader_does_or_refused(seed: int) -> None:
    for number in range(100):
        check(damaged(seed + number))


def test_of_the_damaged_messages_many_are_read_and_many_refused() -> None:
    assert 100 < sum(check(damaged(seed)) for seed in range(1000)) < 900


def test_the_compiled_messages_are_those_of_the_proto(tmp_path: Any) -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("grpcio-tools is not installed")
    folder = Path(next(iter(runtime.serve.grpc.__path__)))
    out = tmp_path / "compiled"
    # In a process of its own: the compiler brings a second copy of protobuf, which aborts beside others.
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={folder}", f"--descriptor_set_out={out}"]
    subprocess.run([*command, "inference.proto"], check=True, timeout=15)
    assert out.read_bytes() == (folder / "inference.binpb").read_bytes()


def test_every_field_has_the_official_number_and_type() -> None:
    official = triton.service_pb2.DESCRIPTOR.pool
    seen = set()

    def compare(ours: Any) -> None:
        theirs = official.FindMessageTypeByName(ours.full_name)
        for field in ours.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)
            if field.message_type is not None and field.message_type.full_name not in seen:
                seen.add(field.message_type.full_name)
                compare(field.message_type)
            if field.enum_type is not None:
                names = {value.name: value.number for value in other.enum_type.values}
                assert {value.name: value.number for value in field.enum_type.values}.items() <= names.items()

    for name, (asked, answered) in METHODS.items():
        service = official.FindServiceByName("inference.GRPCInferenceService").methods_by_name[name]
        assert (service.input_type.name, service.output_type.name) == (asked, answered)
        compare(message(asked).DESCRIPTOR)
        compare(message(answered).DESCRIPTOR)
