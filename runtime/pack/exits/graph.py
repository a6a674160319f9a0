"""Build a head's ONNX graph node by node: names are ours, and the same weights give the same bytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from devices.tensor import Array, TensorSpec

OPSET = 17
IR_VERSION = 8


class GraphBuilder:
    """Collects nodes and weights of one segment.

    Args:
        name: Of the graph; begins the names of all its tensors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node and return its output's name."""
        output = output or f"{self.name}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def nodes(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Append a node of several outputs and return their names."""
        stem = f"{self.name}_{len(self._nodes)}"
        names = [f"{stem}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=stem, **attributes))
        return names

    def weight(self, value: Array) -> str:
        """Store a constant and return its name."""
        name = f"{self.name}_w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def number(self, value: float) -> str:
        """Store a float32 number and return its name."""
        return self.weight(np.array(value, np.float32))

    def model(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        """Return the checked onnx.ModelProto."""
        graph = helper.make_graph(
            self._nodes, self.name, [_declare(s) for s in inputs], [_declare(s) for s in outputs], self._weights
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="headway")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return model


def _declare(spec: TensorSpec) -> Any:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    shape = [None if size == "?" else size for size in spec.shape]
    return helper.make_tensor_value_info(spec.name, kind, shape)


FLOAT = TensorProto.FLOAT
