"""Model repositories for the tests of the front ends."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.models import write_exit_package

WORK = 768  # one product of matrices of this size takes some 20 ms: far more than any request's way to the model


def write_repository(root: Path) -> Path:
    """Write `sums` and `echo` (plain files, two versions), `toy` (three exits) and `busy`; return the folder."""
    _save(_sums(), root / "sums" / "1")
    for version in ("1", "2"):
        _save(_echo(), root / "echo" / version)
    _save(_busy(), root / "busy" / "1")
    write_exit_package(root / "toy" / "1")
    return root


def _save(proto: onnx.ModelProto, folder: Path) -> None:
    folder.mkdir(parents=True)
    onnx.save(proto, folder / "model.onnx")


def _sums() -> onnx.ModelProto:
    """a (N, 3), b (3) -> sum, difference (N, 3); n (2) of whole numbers -> twice."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        helper.make_node("Add", ["n", "n"], ["twice"]),
    ]
    inputs = [
        value("a", TensorProto.FLOAT, ["N", 3]),
        value("b", TensorProto.FLOAT, [3]),
        value("n", TensorProto.INT64, [2]),
    ]
    outputs = [
        value("sum", TensorProto.FLOAT, ["N", 3]),
        value("difference", TensorProto.FLOAT, ["N", 3]),
        value("twice", TensorProto.INT64, [2]),
    ]
    return _model(helper.make_graph(nodes, "sums", inputs, outputs))


def _echo() -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    given, made = value("x", TensorProto.FLOAT, ["N"]), value("y", TensorProto.FLOAT, ["N"])
    return _model(helper.make_graph(nodes, "echo", [given], [made]))


def _busy() -> onnx.ModelProto:
    """rounds (1) -> done: one product of matrices, and `rounds` further ones."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["going_on"]),
            helper.make_node("MatMul", ["state", "w"], ["product"]),
            helper.make_node("Tanh", ["product"], ["next"]),
        ],
        "body",
        [
            value("round", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("state", TensorProto.FLOAT, [WORK, WORK]),
        ],
        [value("going_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [WORK, WORK])],
    )
    one = numpy_helper.from_array(np.int64(1), "one")
    w = numpy_helper.from_array(np.eye(WORK, dtype=np.float32), "w")
    nodes = [
        helper.make_node("Add", ["rounds", "one"], ["all"]),
        helper.make_node("Squeeze", ["all"], ["count"]),
        helper.make_node("Loop", ["count", "", "w"], ["last"], body=body),
        helper.make_node("ReduceMax", ["last"], ["done"], axes=[0, 1], keepdims=0),
    ]
    given, made = value("rounds", TensorProto.INT64, [1]), value("done", TensorProto.FLOAT, [])
    return _model(helper.make_graph(nodes, "busy", [given], [made], [one, w]))


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
