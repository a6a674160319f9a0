"""An inference over gRPC: ModelInferRequest in, ModelInferResponse out, the tensors in neither copied.

A request is taken apart at its top level: the entries of `raw_input_contents` (field 7) stay where they are, as views,
and only what is left is parsed. A response is what protobuf makes of it without its tensors, and behind that the
entries of `raw_output_contents` (field 6), put together once. Whatever is wrong with a request, decoding raises an
`OipError`, and nothing else.

Reference: Protocol Buffers encoding: a field is a varint of (number << 3 | wire type), and its value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from devices.tensor import Array
from runtime.serve.grpc.messages import message
from runtime.serve.oip.datatypes import NAMES, datatype_of, from_values, raw, view
from runtime.serve.oip.errors import Cause, OipError
from runtime.serve.oip.options import Parameter

MOST_TENSORS = 64
MOST_HEAD_BYTES = 2 * 2**20  # of what is parsed: tensors given as numbers, too
_RAW_INPUT = 7 << 3 | 2
_RAW_OUTPUT = 6 << 3 | 2
_Request = message("ModelInferRequest")
_Response = message("ModelInferResponse")
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


@dataclass(frozen=True, slots=True)
class Infer:
    """A decoded request.

    Args:
        model, version: What shall run; an empty version is the one served by default.
        id: The client's name for the request; may be empty.
        parameters: Its parameters.
        inputs: Its tensors, read-only.
        outputs: The outputs asked for by name; none: all.
    """

    model: str
    version: str
    id: str
    parameters: Mapping[str, Parameter]
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]


def decode(data: bytes) -> Infer:
    """Return a request from its message; its tensors are views of `data`.

    Raises:
        OipError: The message is damaged, contradicts itself, or asks for what is not served.
    """
    head, contents = _split(memoryview(data))
    if len(head) > MOST_HEAD_BYTES:
        raise OipError(
            Cause.TOO_LARGE,
            f"the message without its raw contents has {len(head)} bytes: at most {MOST_HEAD_BYTES}; "
            "send tensors in raw_input_contents",
        )
    try:
        request = _Request.FromString(head)
    except DecodeError as error:
        raise _invalid(f"the message is no ModelInferRequest: {error}") from error
    if max(len(request.inputs), len(request.outputs)) > MOST_TENSORS:
        raise _invalid(f"{len(request.inputs)} inputs and {len(request.outputs)} outputs: at most {MOST_TENSORS} each")
    return Infer(
        model=request.model_name,
        version=request.model_version,
        id=request.id,
        parameters=_parameters(request.parameters),
        inputs=_tensors(request.inputs, contents),
        outputs=tuple(_wanted(output) for output in request.outputs),
    )


def _split(data: memoryview) -> tuple[bytes, list[memoryview]]:
    """Return the message without its raw contents, and those."""
    contents: list[memoryview] = []
    head: list[memoryview] = []
    place, kept, end = 0, 0, len(data)
    while place < end:
        began = place
        tag, place = _varint(data, place)
        match tag & 7:
            case 2:
                size, place = _varint(data, place)
            case 0:
                size, place = 0, _varint(data, place)[1]
            case 1 | 5 as wire:
                size = 8 if wire == 1 else 4
            case wire:
                raise _invalid(f"the message has wire type {wire} at byte {began}: it is no ModelInferRequest")
        place += size
        if place > end:
            raise _invalid(f"the message ends amid the field at byte {began}: it was cut off")
        if tag == _RAW_INPUT:
            head.append(data[kept:began])
            contents.append(data[place - size : place])
            kept = place
    head.append(data[kept:])
    return b"".join(head), contents


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return the number at `place` and the place behind it."""
    number = 0
    for shift, byte in enumerate(data[place : place + 10]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number, place + shift + 1
    raise _invalid(f"the message has no number at byte {place}: it was cut off or damaged")


def _parameters(given: Any) -> dict[str, Parameter]:
    parameters = {}
    for name, value in given.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is not None:
            parameters[name] = getattr(value, kind)
    return parameters


def _tensors(inputs: Sequence[Any], contents: list[memoryview]) -> dict[str, Array]:
    if contents and len(contents) != len(inputs):
        raise _invalid(
            f"raw_input_contents has {len(contents)} entries: must have one for each of {len(inputs)} inputs"
        )
    tensors: dict[str, Array] = {}
    for place, given in enumerate(inputs):
        if given.parameters and "shared_memory_region" in given.parameters:
            raise OipError(
                Cause.UNSUPPORTED, f"tensor {given.name!r} is in shared memory, which is not served: send its data"
            )
        if contents and given.HasField("contents"):
            raise _invalid(f"tensor {given.name!r} has contents, and raw_input_contents is given: one of them")
        tensors[given.name] = (
            view(given.name, given.shape, given.datatype, contents[place]) if contents else _from_contents(given)
        )
    if len(tensors) != len(inputs):
        raise _invalid(f"two inputs have one name: {', '.join(given.name for given in inputs)}")
    return tensors


def _from_contents(given: Any) -> Array:
    name = _CONTENTS.get(given.datatype)
    if name is None and given.datatype in NAMES.values():
        raise _invalid(f"tensor {given.name!r} of {given.datatype} has no contents: send it in raw_input_contents")
    values = list(getattr(given.contents, name)) if name is not None else []
    return from_values(given.name, given.shape, given.datatype, values)


def _wanted(output: Any) -> str:
    for unknown in ("classification", "shared_memory_region"):
        if output.parameters and unknown in output.parameters:
            raise OipError(Cause.UNSUPPORTED, f"output {output.name!r} asks for {unknown}, which is not served")
    return str(output.name)


def encode(
    model: str, version: str, request_id: str, parameters: Mapping[str, Parameter], tensors: Mapping[str, Array]
) -> bytes:
    """Return the message of an answer; its tensors are copied once, into it."""
    response = _Response(model_name=model, model_version=version, id=request_id)
    for name, value in parameters.items():
        entry = response.parameters[name]
        match value:
            case bool():
                entry.bool_param = value
            case int():
                entry.int64_param = value
            case float():
                entry.double_param = value
            case str():
                entry.string_param = value
    parts: list[bytes | memoryview] = []
    for name, array in tensors.items():
        response.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        data = raw(array)
        parts += [_prefix(_RAW_OUTPUT, len(data)), data]
    return b"".join([response.SerializeToString(), *parts])


def embedded(encoded: bytes) -> bytes:
    """Return the ModelStreamInferResponse that holds an encoded answer (its field 2)."""
    return b"".join([_prefix(2 << 3 | 2, len(encoded)), encoded])


def _prefix(tag: int, size: int) -> bytes:
    prefix = bytearray([tag])
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix)


def _invalid(message_text: str) -> OipError:
    return OipError(Cause.INVALID, message_text)
