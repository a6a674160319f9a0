"""Turn everything in a model that depends on no input into weights.

Exporters leave chains of small operators that compute paddings and target shapes; shape inference stops at them, and a
cut would have to carry them. onnxruntime computes them once, here, as it would whenever it loads the model.
"""

from typing import Any

import numpy as np
import onnx
import onnxruntime

from runtime.pack.cut_names import captured_reads
from runtime.pack.errors import PackError


def fold_constants(what: str, model: Any) -> Any:
    """Return a model whose nodes all depend on an input, or on chance.

    Args:
        what: The file's name, for messages.
        model: The onnx.ModelProto; left as it is.
    Raises:
        PackError: The nodes are not in running order, or onnxruntime can't compute the constants.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    live = {value.name for value in model.graph.input} - weights
    known = live | weights
    living, constant, wanted = [], [], {value.name for value in model.graph.output}
    for node in model.graph.node:
        reads = {name for name in captured_reads(node) if name}
        for name in sorted(reads - known):
            raise PackError(f"{what}: {node.op_type} reads {name!r} before anything makes it: sort its nodes")
        known.update(node.output)
        if not live.isdisjoint(reads) or node.op_type.startswith(("Random", "Multinomial", "Bernoulli")):
            live.update(node.output)
            living.append(node)
            wanted |= reads
        else:
            constant.append(node)
    made = [name for node in constant for name in node.output if name and name in wanted]
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    del folded.graph.node[:]
    folded.graph.node.extend(living)
    if made:
        folded.graph.initializer.extend(
            onnx.numpy_helper.from_array(np.asarray(array), name)
            for name, array in zip(made, _compute(what, model, constant, made), strict=True)
        )
    return folded


def _compute(what: str, model: Any, nodes: list[Any], made: list[str]) -> list[Any]:
    part = onnx.ModelProto()
    part.ir_version = model.ir_version
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = "constants"
    part.graph.node.extend(nodes)
    reads = {name for node in nodes for name in captured_reads(node)}
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in reads)
    part.graph.sparse_initializer.extend(s for s in model.graph.sparse_initializer if s.values.name in reads)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return list(session.run(made, {}))
    except Exception as error:  # onnxruntime raises a dozen unrelated types, some plain RuntimeError
        raise PackError(f"{what}: onnxruntime can't compute its constants: {error}") from error
