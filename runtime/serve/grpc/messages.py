"""The protocol's messages, from inference.proto as compiled to inference.binpb.

They live in a descriptor pool of their own, so that a client library which brings the same names along can be imported
in one process with this.
"""

from pathlib import Path
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped, unused-ignore]
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
)

SERVICE = "inference.GRPCInferenceService"
_COMPILED = Path(__file__).with_name("inference.binpb")


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(_COMPILED.read_bytes()).file:
        pool.Add(file)
    return pool


_POOL = _pool()
METHODS = {
    method.name: (method.input_type.name, method.output_type.name)
    for method in _POOL.FindServiceByName(SERVICE).methods
}
"""Every call of the service: the names of its request and response."""


def message(name: str) -> Any:
    """Return the class of a message of the protocol.

    Raises:
        KeyError: There is no such message.
    """
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))


def filled(name: str, values: dict[str, Any]) -> Any:
    """Return a message with `values`, nested as its fields are."""
    return json_format.ParseDict(values, message(name)())
