"""The body of an inference over HTTP: JSON, and behind it the bytes of the tensors that declare a `binary_data_size`.

    { "id": .., "parameters": {..}, "inputs": [{"name", "shape", "datatype", "parameters", "data"}], "outputs": [..] }
    <bytes of the first binary tensor><bytes of the second> ..

The header Inference-Header-Content-Length says where the JSON ends; without it the body is JSON alone. Binary tensors
are views of the body. Whatever is wrong with a body, decoding raises an `OipError`, and nothing else.

Reference: Open Inference Protocol v2, and its binary tensor data extension.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from devices.tensor import Array
from runtime.serve.oip.datatypes import datatype_of, from_values, raw, view
from runtime.serve.oip.errors import Cause, OipError
from runtime.serve.oip.options import Parameter

MOST_JSON_BYTES = 2 * 2**20  # parsing it holds up every thread of the process; large tensors go as binary data
MOST_JSON_VALUES = 2**18
MOST_TENSORS = 64
_Name = Annotated[str, Meta(min_length=1, max_length=128)]
_Parameters = Annotated[dict[str, Parameter], Meta(max_length=64)]

_ABSENT = msgspec.Raw()


class _Input(Struct, frozen=True):
    name: _Name
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31 - 1)], ...], Meta(max_length=8)]
    datatype: str
    parameters: _Parameters = {}
    data: msgspec.Raw = _ABSENT


class _Output(Struct, frozen=True):
    name: _Name
    parameters: _Parameters = {}


class _Body(Struct, frozen=True):
    inputs: Annotated[tuple[_Input, ...], Meta(max_length=MOST_TENSORS)]
    id: Annotated[str, Meta(max_length=1024)] = ""
    parameters: _Parameters = {}
    outputs: Annotated[tuple[_Output, ...], Meta(max_length=MOST_TENSORS)] = ()


_BODY = msgspec.json.Decoder(_Body)
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Body:
    """A decoded request.

    Args:
        id: The client's name for it; may be empty.
        parameters: Its parameters.
        inputs: Its tensors, read-only.
        outputs: For each output asked for by name, whether it is wanted as binary data; none: all outputs.
        binary: Whether outputs are wanted as binary data where nothing else is said.
    """

    id: str
    parameters: Mapping[str, Parameter]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, bool]
    binary: bool


def decode(body: memoryview, json_length: int | None) -> Body:
    """Return a request from its body.

    Args:
        body: The whole body; must not change while the tensors are in use.
        json_length: Inference-Header-Content-Length [byte]; None: the body is JSON alone.
    Raises:
        OipError: The body is damaged, contradicts itself, or asks for what is not served.
    """
    end = len(body) if json_length is None else json_length
    if not 0 <= end <= len(body):
        raise _invalid(f"Inference-Header-Content-Length is {end}: the body has {len(body)} bytes")
    if end > MOST_JSON_BYTES:
        raise OipError(
            Cause.TOO_LARGE, f"the JSON has {end} bytes: at most {MOST_JSON_BYTES}; send tensors as binary data"
        )
    try:
        parsed = _BODY.decode(body[:end])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _invalid(f"the JSON is refused: {error}") from error
    binary = _flag(parsed.parameters, "binary_data_output", "the request", default=False)
    return Body(
        id=parsed.id,
        parameters=parsed.parameters,
        inputs=_tensors(parsed.inputs, body, end),
        outputs={output.name: _wants_binary(output, default=binary) for output in parsed.outputs},
        binary=binary,
    )


def _tensors(inputs: Sequence[_Input], body: memoryview, end: int) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    for given in inputs:
        size = given.parameters.get("binary_data_size")
        if size is None:
            tensors[given.name] = _from_json(given)
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(body) - end:
            raise _invalid(
                f"tensor {given.name!r} has binary_data_size {size!r}: {len(body) - end} bytes are left of the body"
            )
        if given.data != _ABSENT:
            raise _invalid(f"tensor {given.name!r} has both data and binary_data_size: one of them")
        tensors[given.name] = view(given.name, given.shape, given.datatype, body[end : end + size])
        end += size
    if end != len(body):
        raise _invalid(f"{len(body) - end} bytes are left behind the last tensor: there must be none")
    if len(tensors) != len(inputs):
        raise _invalid(f"two inputs have one name: {', '.join(given.name for given in inputs)}")
    return tensors


def _from_json(given: _Input) -> Array:
    if "shared_memory_region" in given.parameters:
        raise OipError(
            Cause.UNSUPPORTED, f"tensor {given.name!r} is in shared memory, which is not served: send its data"
        )
    if given.data == _ABSENT:
        raise _invalid(f"tensor {given.name!r} has neither data nor binary_data_size")
    try:
        values = msgspec.json.decode(given.data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _invalid(f"the data of tensor {given.name!r} are refused: {error}") from error
    if not isinstance(values, list):
        raise _invalid(f"the data of tensor {given.name!r} are no list")
    return from_values(given.name, given.shape, given.datatype, values)


def _wants_binary(output: _Output, *, default: bool) -> bool:
    for unknown in ("classification", "shared_memory_region"):
        if output.parameters.get(unknown):
            raise OipError(Cause.UNSUPPORTED, f"output {output.name!r} asks for {unknown}, which is not served")
    return _flag(output.parameters, "binary_data", f"output {output.name!r}", default=default)


def _flag(parameters: Mapping[str, Parameter], name: str, of: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise _invalid(f"parameter {name} of {of} is {value!r}: must be true or false")
    return value


def encode(
    answer: Mapping[str, Any], tensors: Mapping[str, Array], binary: Mapping[str, bool], *, default: bool
) -> tuple[bytes, list[memoryview]]:
    """Return the JSON of an answer and the bytes of the binary tensors that follow it, which are not copied.

    Args:
        answer: What stands before the outputs: model, version, id, parameters.
        tensors: The outputs, in order.
        binary: Which of them go as binary data, by name.
        default: The same for those that `binary` does not name.
    Raises:
        OipError: An output that cannot be written as JSON: FP16, or a value that is not finite.
    """
    outputs: list[dict[str, Any]] = []
    behind: list[memoryview] = []
    for name, array in tensors.items():
        output: dict[str, Any] = {"name": name, "datatype": datatype_of(array), "shape": array.shape}
        if binary.get(name, default):
            behind.append(raw(array))
            output["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            output["data"] = _values(name, array)
        outputs.append(output)
    return _ENCODER.encode({**answer, "outputs": outputs}), behind


def _values(name: str, array: Array) -> list[Any]:
    if array.dtype.name == "float16":
        raise _invalid(f"output {name!r} of FP16 cannot be written as JSON: ask for binary_data")
    if array.size > MOST_JSON_VALUES:
        raise _invalid(
            f"output {name!r} has {array.size} values, as JSON at most {MOST_JSON_VALUES}: ask for binary_data"
        )
    values: list[Any] = array.ravel().tolist()
    if array.dtype.kind == "f" and not all(map(math.isfinite, values)):
        raise _invalid(f"output {name!r} holds values that are not finite, which JSON cannot say: ask for binary_data")
    return values


def _invalid(message: str) -> OipError:
    return OipError(Cause.INVALID, message)
