"""The unmodified tritonclient over HTTP and gRPC, with one face for the tests; and the daemon they talk to."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

import headway
from devices.tensor import Array
from tests.processes import end, end_owner, start, wait_for

http = pytest.importorskip("tritonclient.http", reason="tritonclient[all] is not installed")
grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient[all] is not installed")
DATATYPES = {"float32": "FP32", "int64": "INT64", "uint8": "UINT8"}
ENDLESS = np.array([2**40], np.int64)


@dataclass(frozen=True, slots=True)
class Served:
    """A running daemon.

    Args:
        http, grpc: Where it serves the protocol.
        process: It.
    """

    http: str
    grpc: str
    process: Any

    @property
    def http_port(self) -> int:
        """The port of `http`."""
        return int(self.http.rpartition(":")[2])


@contextlib.contextmanager
def serving(folder: Path, repository: Path, settings: str = "") -> Iterator[Served]:
    """Run a daemon on a repository, with further lines for the section [front]."""
    folder.mkdir(exist_ok=True)
    config = folder / "headway.toml"
    config.write_text(f'[front]\nhttp = "127.0.0.1:0"\ngrpc = "127.0.0.1:0"\n{settings}')
    socket = folder / "d.sock"
    process = start("serve", "--config", str(config), "--socket", str(socket), "--repository", str(repository))
    found: dict[str, str] = {}

    def ready() -> bool:
        assert process.poll() is None, "the daemon ended before it was ready"
        with contextlib.suppress(headway.HeadwayError), headway.Client(socket, timeout_s=1.0) as client:
            found.update(client.status()["fronts"])
        return bool(found)

    try:
        wait_for(ready)
        yield Served(found["http"], found["grpc"], process)
    finally:
        end(process)
        end_owner(folder / "headway-guard.sock")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got.

    Args:
        outputs: Tensors by name.
        parameters: Response parameters.
        id: The request's id as it came back.
    """

    outputs: dict[str, Array]
    parameters: dict[str, Any]
    id: str


class Client(Protocol):
    """What the tests need of either transport."""

    raw: Any

    def infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, **options: Any
    ) -> Answer: ...

    def code(self, error: Exception) -> str: ...


class HttpClient:
    """tritonclient.http."""

    def __init__(self, served: Served, **options: Any) -> None:
        self.raw: Any = http.InferenceServerClient(served.http, **options)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        *,
        binary: bool = True,
        **options: Any,
    ) -> Answer:
        """Run a model."""
        given = [http.InferInput(name, array.shape, _datatype(array)) for name, array in inputs.items()]
        for tensor, array in zip(given, inputs.values(), strict=True):
            tensor.set_data_from_numpy(array, binary_data=binary)
        wanted = None
        if outputs is not None:
            wanted = [http.InferRequestedOutput(name, binary_data=binary) for name in outputs]
        result = self.raw.infer(model, given, outputs=wanted, **options)
        told = result.get_response()
        arrays = {output["name"]: result.as_numpy(output["name"]) for output in told["outputs"]}
        return Answer(arrays, told.get("parameters", {}), told.get("id", ""))

    def code(self, error: Exception) -> str:
        """Return the HTTP status of a failure."""
        assert isinstance(error, http.InferenceServerException)
        return str(error.status())


class GrpcClient:
    """tritonclient.grpc."""

    def __init__(self, served: Served, **options: Any) -> None:
        self.raw: Any = grpc.InferenceServerClient(served.grpc, **options)

    def infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, **options: Any
    ) -> Answer:
        """Run a model."""
        wanted = None if outputs is None else [grpc.InferRequestedOutput(name) for name in outputs]
        result = self.raw.infer(model, given_grpc(inputs), outputs=wanted, **options)
        told = result.get_response()
        arrays = {output.name: result.as_numpy(output.name) for output in told.outputs}
        parameters = {
            name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in told.parameters.items()
        }
        return Answer(arrays, parameters, told.id)

    def code(self, error: Exception) -> str:
        """Return the gRPC status code of a failure."""
        assert isinstance(error, grpc.InferenceServerException)
        return str(error.status()).removeprefix("StatusCode.")


def given_grpc(inputs: Mapping[str, Array]) -> list[Any]:
    """Return tritonclient's inputs of arrays."""
    given = [grpc.InferInput(name, array.shape, _datatype(array)) for name, array in inputs.items()]
    for tensor, array in zip(given, inputs.values(), strict=True):
        tensor.set_data_from_numpy(array)
    return given


def _datatype(array: Array) -> str:
    return "BYTES" if array.dtype.kind == "O" else DATATYPES[array.dtype.name]
