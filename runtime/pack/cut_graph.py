"""A model's graph as it is seen when looking for cuts: which node needs which, and what every tensor looks like.

What depends on no input is a weight (`fold_constants`), and is copied into every segment that reads it; nodes that
lead to no output are left out. A node reads what its branches (If, Loop, Scan) capture from outside, too.

Sets of nodes are integers used as bit sets: bit i is the i-th node of `Graph.nodes`, which is in running order.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod
from operator import or_
from typing import Any

import numpy as np
import onnx

from devices.package.macs import macs_by_node
from devices.package.onnx_header import read_header
from devices.tensor import ANY, DTYPES, TensorSpec
from runtime.pack.cut_fold import fold_constants
from runtime.pack.cut_names import captured_reads
from runtime.pack.cut_shapes import observe_shapes
from runtime.pack.errors import PackError

MOST_SIZES = 8


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    Args:
        proto: The onnx.NodeProto.
        reads: Tensors it reads that depend on an input of the model, captured ones included.
        weights: Weights it reads.
        makes: Tensors it makes.
        work: Multiply-accumulates plus elements made, at batch 1.
    """

    proto: Any
    reads: tuple[str, ...]
    weights: tuple[str, ...]
    makes: tuple[str, ...]
    work: int


@dataclass(frozen=True)
class Graph:
    """A model's graph.

    Args:
        model: The onnx.ModelProto, constants folded.
        inputs, outputs: Names of the tensors that go in and out.
        nodes: What computes, in running order.
        values: The onnx.ValueInfoProto of each tensor of known shape, by name.
    """

    model: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    values: Mapping[str, Any]

    @cached_property
    def everything(self) -> int:
        """All nodes."""
        return (1 << len(self.nodes)) - 1

    @cached_property
    def makers(self) -> dict[str, int]:
        """Index of the node that makes each tensor."""
        return {name: index for index, node in enumerate(self.nodes) for name in node.makes}

    @cached_property
    def readers(self) -> dict[str, int]:
        """The nodes that read each tensor."""
        found: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            for name in node.reads:
                found[name] = found.get(name, 0) | 1 << index
        return found

    @cached_property
    def ancestors(self) -> list[int]:
        """What each node needs, itself included."""
        found: list[int] = []
        for index, node in enumerate(self.nodes):
            made = (self.makers[name] for name in node.reads if name in self.makers)
            found.append(reduce(or_, (found[maker] for maker in made), 1 << index))
        return found

    @cached_property
    def sizes(self) -> frozenset[str]:
        """Sizes computed as the model runs: integers, at most MOST_SIZES of them, of a shape that is known."""
        return frozenset(name for name in self.makers if _is_size(self.spec(name)))

    @cached_property
    def input_sizes(self) -> int:
        """The nodes that compute sizes from the shapes of the model's inputs and from nothing else."""
        found = 0
        for index, node in enumerate(self.nodes):
            if self.sizes.issuperset(node.makes) and not self.ancestors[index] & ~(found | 1 << index):
                found |= 1 << index
        return found

    @cached_property
    def work(self) -> int:
        """Work of all nodes."""
        return self.work_of(self.everything)

    def work_of(self, nodes: int) -> int:
        """Work of a set of nodes."""
        return sum(self.nodes[index].work for index in bits(nodes))

    def spec(self, name: str) -> TensorSpec | None:
        """Return what a tensor looks like; None where shape inference can't tell, or a package can't hold it."""
        value = self.values.get(name)
        if value is None:
            return None
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).name
        except (KeyError, TypeError, ValueError):
            return None
        sizes = value.type.tensor_type.shape.dim
        shape = tuple(int(s.dim_value) if s.HasField("dim_value") else s.dim_param or ANY for s in sizes)
        return TensorSpec(name, dtype, shape) if dtype in DTYPES and 0 not in shape else None


def _is_size(spec: TensorSpec | None) -> bool:
    if spec is None or spec.dtype not in ("int32", "int64") or len(spec.shape) > 1:
        return False
    return all(isinstance(size, int) and size <= MOST_SIZES for size in spec.shape)


def bits(nodes: int) -> Iterator[int]:
    """Yield the indices in a set of nodes, in running order."""
    while nodes:
        lowest = nodes & -nodes
        yield lowest.bit_length() - 1
        nodes ^= lowest


def read_graph(what: str, data: bytes) -> Graph:
    """Return the graph of an ONNX file.

    Args:
        what: The file's name, for messages.
        data: Its bytes.
    Raises:
        PackageError: It is no ONNX file, or its weights lie outside it.
        PackError: Its nodes are not in running order, the shapes can't be inferred, a constant can't be
            computed, or an input is without use.
    """
    original, inputs, outputs = read_header(what, data)
    model = fold_constants(what, original)
    try:
        values = _values(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    except onnx.shape_inference.InferenceError as error:
        raise PackError(f"{what}: the shapes of its tensors can't be inferred: {error}") from error
    _fill_in(model, inputs, values)
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    nodes: list[Node] = []
    for proto, macs in zip(model.graph.node, macs_by_node(model), strict=True):
        reads = tuple(dict.fromkeys(name for name in captured_reads(proto) if name and name not in weights))
        makes = tuple(name for name in proto.output if name)
        work = macs + sum(_elements(values.get(name)) for name in makes)
        nodes.append(Node(proto, reads, tuple(weights.intersection(captured_reads(proto))), makes, work))
    ends = tuple(spec.name for spec in outputs)
    useful = _useful(nodes, ends)
    read = {name for node in useful for name in node.reads}
    for spec in inputs:
        if spec.name not in read and spec.name not in ends:
            raise PackError(f"{what}: no output depends on input {spec.name!r}: remove it")
    return Graph(model, tuple(spec.name for spec in inputs if spec.name in read), ends, useful, values)


def _fill_in(model: Any, inputs: Sequence[TensorSpec], values: dict[str, Any]) -> None:
    """Add what runs of the model tell of tensors whose shape is unknown, or open without a name, to both."""
    made = [name for node in model.graph.node for name in node.output if name]
    unknown = [name for name in made if name not in values or not _told(values[name])]
    if unknown:
        values.update(observe_shapes(model, inputs, unknown))
        declared = {value.name for value in (*model.graph.value_info, *model.graph.output)}
        model.graph.value_info.extend(values[name] for name in unknown if name in values and name not in declared)


def _told(value: Any) -> bool:
    return all(size.HasField("dim_value") or size.dim_param for size in value.type.tensor_type.shape.dim)


def _useful(nodes: Sequence[Node], ends: Iterable[str]) -> tuple[Node, ...]:
    wanted, useful = set(ends), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.makes):
            wanted.update(node.reads)
            useful.append(node)
    return tuple(reversed(useful))


def _values(graph: Any) -> dict[str, Any]:
    values = {}
    for value in (*graph.value_info, *graph.output, *graph.input):
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            for size in value.type.tensor_type.shape.dim:
                if size.dim_param.startswith("unk__"):  # inference's own names mean nothing to users
                    size.ClearField("dim_param")
            values[value.name] = value
    return values


def _elements(value: Any) -> int:
    if value is None:
        return 0
    sizes = value.type.tensor_type.shape.dim
    return prod(int(size.dim_value) for size in sizes if size.HasField("dim_value"))
