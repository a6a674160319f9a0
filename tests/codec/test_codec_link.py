"""A client that may encode, against a real edge server: what travels is smaller, and the answer within the error."""

import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from devices.package import Exit, SegmentSource, write_package
from offload.client import ClientSettings, EdgeClient, Status
from offload.codec.choose import CodecChooser
from offload.wire import Code
from runtime.cli.edge_beside import edge_beside


def test_a_slow_link_makes_the_client_encode(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4096]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "echo", values[:1], values[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    exits = [Exit("e", "all", "y")]
    write_package(tmp_path / "echo", name="echo", version="1", segments=[SegmentSource("all", made)], exits=exits)
    features = np.linspace(-1.0, 1.0, 4096, dtype=np.float32)[None]
    chooser = CodecChooser(["int8"], lambda: 1e6)
    with (
        edge_beside(tmp_path / "echo") as endpoint,
        EdgeClient(endpoint, ClientSettings(silence_s=10.0, heartbeat_ms=10_000), codecs=chooser) as client,
    ):
        assert client.wait_for(Status.CONNECTED, 15.0)
        assert set(client.state.codecs) >= {"jpeg", "fp16", "int8"}
        outcome = client.ask("echo", {"x": features}, time.monotonic() + 15.0)
    assert outcome.code is Code.OK
    assert outcome.handle.bits == 8 * (4096 + 16)
    error = np.abs(outcome.outputs["y"] - features).max()
    assert 0.0 < error <= 2.0 / 510.0 * 1.01
