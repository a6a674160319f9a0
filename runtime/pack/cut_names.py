"""Which names a node of an ONNX graph reads, and how they are changed, branches (If, Loop, Scan) included."""

from collections.abc import Iterator, Mapping
from typing import Any


def captured_reads(node: Any) -> Iterator[str]:
    """Yield the names a node reads, those that its branches take from outside included."""
    yield from node.input
    for graph in branches(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {sparse.values.name for sparse in graph.sparse_initializer}
        for inner in graph.node:
            yield from (name for name in captured_reads(inner) if name not in own)
            own.update(inner.output)


def branches(node: Any) -> Iterator[Any]:
    """Yield the graphs that a node holds."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def rename(nodes: Any, names: Mapping[str, str]) -> None:
    """Rename tensors in nodes and their branches, in place."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for graph in branches(node):
            rename(graph.node, names)
