"""Extract a model's parts as ONNX models.

Part k holds the nodes between cut k-1 and cut k, with the weights they read. It reads what earlier parts made and the
model's inputs; it makes what later parts read. The model's outputs all come from the last part, because an exit hands
out what one segment makes: an output made earlier travels there under another name and is copied once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import onnx
from onnx import helper

from runtime.pack.cut_graph import Graph, Node, bits
from runtime.pack.cut_names import rename
from runtime.pack.cut_points import Cut
from runtime.pack.errors import PackError


@dataclass(frozen=True, slots=True)
class Parts:
    """A model in parts.

    Args:
        models: The onnx.ModelProto of each part, front to back.
        names: What tensors of the model that are also outputs made early are called between the parts.
    """

    models: tuple[Any, ...]
    names: Mapping[str, str]


def extract_parts(graph: Graph, cuts: Sequence[Cut], what: str) -> Parts:
    """Return a model's parts.

    Args:
        graph: The model.
        cuts: Where to cut, each cut's front half containing the one before it.
        what: The model's file, for messages.
    Raises:
        PackError: The cuts don't follow each other, an output is computed from nothing, or a tensor that crosses has no
            known shape.
    """
    borders = [0, *(cut.before for cut in cuts), graph.everything]
    for first, second in pairwise(cuts):
        if first.before & ~second.before or first.before == second.before:
            raise PackError(f"{what}: the cuts {first.name!r} and {second.name!r} do not follow each other")
    for name in graph.outputs:
        if name not in graph.makers:
            raise PackError(f"{what}: output {name!r} is an input or a constant: remove it before cutting")
    front = cuts[-1].before if cuts else 0
    early = [name for name in graph.outputs if front >> graph.makers[name] & 1]
    names = {name: _fresh(f"{name}_early", graph.values) for name in early}
    members = [[graph.nodes[index] for index in bits(behind & ~before)] for before, behind in pairwise(borders)]
    models = []
    for index, nodes in enumerate(members):
        last = index == len(members) - 1
        made = dict.fromkeys(name for node in nodes for name in node.makes)
        later = {name for others in members[index + 1 :] for node in others for name in node.reads}
        reads = dict.fromkeys(name for node in nodes for name in node.reads if name not in made)
        if last:
            reads |= dict.fromkeys(early)
            outputs = list(graph.outputs)
        else:
            outputs = [name for name in made if name in later or name in names]
        for name in (*reads, *outputs):
            if graph.spec(name) is None:
                raise PackError(f"{what}: the shape of {name!r}, which crosses, can't be inferred: cut elsewhere")
        models.append(_model(graph, nodes, list(reads), outputs, names, last=last))
    return Parts(tuple(models), names)


def _model(
    graph: Graph,
    nodes: Sequence[Node],
    reads: Iterable[str],
    outputs: Iterable[str],
    names: Mapping[str, str],
    last: bool,
) -> Any:
    model = onnx.ModelProto()
    model.ir_version = graph.model.ir_version
    model.producer_name = "headway"
    model.opset_import.extend(graph.model.opset_import)
    model.functions.extend(graph.model.functions)
    part = model.graph
    part.name = graph.model.graph.name or "part"
    part.node.extend(node.proto for node in nodes)
    rename(part.node, names)
    if last:
        part.node.extend(helper.make_node("Identity", [inner], [name]) for name, inner in names.items())
    weights = {name for node in nodes for name in node.weights}
    part.initializer.extend(tensor for tensor in graph.model.graph.initializer if tensor.name in weights)
    part.sparse_initializer.extend(s for s in graph.model.graph.sparse_initializer if s.values.name in weights)
    part.input.extend(_value(graph, name, names) for name in reads)
    part.output.extend(_value(graph, name, {} if last else names) for name in outputs)
    ends = {value.name for value in (*part.input, *part.output)}
    inner = [names.get(name, name) for node in nodes for name in node.makes]
    part.value_info.extend(graph.values[name] for name in inner if name in graph.values and name not in ends)
    known = {*inner, *ends, *weights}
    part.quantization_annotation.extend(a for a in graph.model.graph.quantization_annotation if a.tensor_name in known)
    return model


def _value(graph: Graph, name: str, names: Mapping[str, str]) -> Any:
    value = onnx.ValueInfoProto()
    value.CopyFrom(graph.values[name])
    value.name = names.get(name, name)
    return value


def _fresh(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name += "_"
    return name
