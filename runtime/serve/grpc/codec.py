"""An inference over gRPC: ModelInferRequest in, ModelInferResponse out, the tensors in neither copied.

A request is taken apart at its top level: the entries of `raw_input_contents` (field 7) stay where they are, as views,
and only what is left is parsed, once for all messages that agree in it (`outlines`). A response is what protobuf makes
of it without its tensors, and behind that the entries of `raw_output_contents` (field 6), put together once; what
stands the same in every answer of a model is kept. Whatever is wrong with a request, decoding raises an `OipError`, and
nothing else.

Reference: Protocol Buffers encoding: a field is a varint of (number << 3 | wire type), and its value; messages that
follow one another are one message with the fields of all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from devices.tensor import Array
from runtime.serve.grpc.messages import message
from runtime.serve.grpc.outlines import Outlines, Place
from runtime.serve.oip.datatypes import NAMES, check_size, datatype_of, dtype_of, from_values, over, raw
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


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An input as it is declared.

    Args:
        name: Its name.
        shape: Its sizes.
        dtype: Its element type.
    """

    name: str
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"


@dataclass(frozen=True, slots=True)
class Head:
    """What a request says beside its raw contents; fields as of `Infer`.

    Args:
        tensors: Its inputs, an entry of the raw contents for each.
    """

    model: str
    version: str
    id: str
    parameters: Mapping[str, Parameter]
    outputs: tuple[str, ...]
    tensors: tuple[_Tensor, ...] = ()

    def with_inputs(self, inputs: Mapping[str, Array]) -> Infer:
        """Return the request with its tensors."""
        return Infer(self.model, self.version, self.id, self.parameters, inputs, self.outputs)


def decode(data: bytes, outlines: Outlines[Head] | None = None) -> Infer:
    """Return a request from its message; its tensors are views of `data`.

    Args:
        data: The message.
        outlines: What was read before; None: nothing is remembered.
    Raises:
        OipError: The message is damaged, contradicts itself, or asks for what is not served.
    """
    known = None if outlines is None else outlines.find(data)
    if known is not None:
        return known.meaning.with_inputs(_views(known.meaning, known.contents, data))
    rest, contents = _split(memoryview(data))
    if len(rest) > MOST_HEAD_BYTES:
        raise OipError(
            Cause.TOO_LARGE,
            f"the message without its raw contents has {len(rest)} bytes: at most {MOST_HEAD_BYTES}; "
            "send tensors in raw_input_contents",
        )
    try:
        request = _Request.FromString(rest)
    except DecodeError as error:
        raise _invalid(f"the message is no ModelInferRequest: {error}") from error
    if max(len(request.inputs), len(request.outputs)) > MOST_TENSORS:
        raise _invalid(f"{len(request.inputs)} inputs and {len(request.outputs)} outputs: at most {MOST_TENSORS} each")
    _check(request.inputs, contents)
    head = Head(
        model=request.model_name,
        version=request.model_version,
        id=request.id,
        parameters=_parameters(request.parameters),
        outputs=tuple(_wanted(output) for output in request.outputs),
        tensors=_declared(request.inputs, contents) if contents else (),
    )
    if not contents:
        return head.with_inputs({given.name: _from_contents(given) for given in request.inputs})
    inputs = _views(head, contents, data)
    if outlines is not None:
        outlines.keep(data, contents, head)
    return head.with_inputs(inputs)


def _split(data: memoryview) -> tuple[bytes, list[Place]]:
    """Return the message without its raw contents, and where those lie."""
    contents: list[Place] = []
    rest: list[memoryview] = []
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
            rest.append(data[kept:began])
            contents.append((place - size, place))
            kept = place
    rest.append(data[kept:])
    return b"".join(rest), contents


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


def _check(inputs: Sequence[Any], contents: Sequence[Place]) -> None:
    if contents and len(contents) != len(inputs):
        raise _invalid(
            f"raw_input_contents has {len(contents)} entries: must have one for each of {len(inputs)} inputs"
        )
    for given in inputs:
        if given.parameters and "shared_memory_region" in given.parameters:
            raise OipError(
                Cause.UNSUPPORTED, f"tensor {given.name!r} is in shared memory, which is not served: send its data"
            )
        if contents and given.HasField("contents"):
            raise _invalid(f"tensor {given.name!r} has contents, and raw_input_contents is given: one of them")
    if len({given.name for given in inputs}) != len(inputs):
        raise _invalid(f"two inputs have one name: {', '.join(given.name for given in inputs)}")


def _declared(inputs: Sequence[Any], contents: Sequence[Place]) -> tuple[_Tensor, ...]:
    tensors = []
    for given, (begin, end) in zip(inputs, contents, strict=True):
        shape, dtype = tuple(given.shape), dtype_of(given.name, given.datatype)
        check_size(given.name, shape, given.datatype, end - begin)
        tensors.append(_Tensor(given.name, shape, dtype))
    return tuple(tensors)


def _views(head: Head, contents: Sequence[Place], data: bytes) -> dict[str, Array]:
    whole = memoryview(data)
    return {
        tensor.name: over(tensor.name, tensor.shape, tensor.dtype, whole[begin:end])
        for tensor, (begin, end) in zip(head.tensors, contents, strict=True)
    }


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
    response = _Response(id=request_id)
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
    outputs = tuple((name, datatype_of(array), array.shape) for name, array in tensors.items())
    parts: list[bytes | memoryview] = [_promised(model, version, outputs), response.SerializeToString()]
    for array in tensors.values():
        data = raw(array)
        parts += (_prefix(_RAW_OUTPUT, len(data)), data)
    return b"".join(parts)


@lru_cache(64)
def _promised(model: str, version: str, outputs: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    """Return what stands the same in every answer of a model."""
    response = _Response(model_name=model, model_version=version)
    for name, datatype, shape in outputs:
        response.outputs.add(name=name, datatype=datatype, shape=shape)
    promised: bytes = response.SerializeToString()
    return promised


def embedded(encoded: bytes) -> bytes:
    """Return the ModelStreamInferResponse that holds an encoded answer (its field 2)."""
    return b"".join([_prefix(2 << 3 | 2, len(encoded)), encoded])


@lru_cache(64)
def _prefix(tag: int, size: int) -> bytes:
    prefix = bytearray([tag])
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix)


def _invalid(message_text: str) -> OipError:
    return OipError(Cause.INVALID, message_text)
