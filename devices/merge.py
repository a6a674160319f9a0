"""Merge segments that always run together into one ONNX model, so that a device sees no cut where none is of use.

Two segments that the same exits need (and the same tensors owed outside) are run at the same step of every walk. What
lies on a path between them is needed by at least the exits that need the later one and at most by those that need the
earlier one, hence by the same: such groups are convex and the graph of groups has no cycle.

A cut costs what onnxruntime does at a session's border: fusions and the blocked layout of convolutions end there.
"""

import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import IO, Any

import onnx

from devices.memory import release_freed
from devices.package.graph import Package, Segment

MAX_MERGED_BYTES = 2**30  # far enough from protobuf's limit of 2 GiB


def run_together(package: Package, segment_ids: Sequence[str], owed: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Return some segments of a package in groups that always run together, each in running order.

    Args:
        package: The package.
        segment_ids: The segments, in running order.
        owed: Tensors that are wanted outside, whatever exit is taken.
    """
    wanted_by: dict[str, set[str]] = {segment_id: set() for segment_id in segment_ids}
    for candidate in package.exits:
        if candidate.segment in wanted_by:
            for segment_id in _within(package, [candidate.segment], wanted_by):
                wanted_by[segment_id].add(candidate.id)
    for segment_id in _within(package, [package.producers[name] for name in owed], wanted_by):
        wanted_by[segment_id].add("")  # no exit is called so
    groups: dict[frozenset[str], list[str]] = {}
    for segment_id, wanting in wanted_by.items():
        groups.setdefault(frozenset(wanting), []).append(segment_id)
    return tuple(map(tuple, groups.values()))


def _within(package: Package, last: Iterable[str], known: Collection[str]) -> set[str]:
    """Return `last` and the segments among `known` that they depend on through none but `known`."""
    found: set[str] = set()
    waiting = list(last)
    while waiting:
        segment_id = waiting.pop()
        if segment_id not in found:
            found.add(segment_id)
            makers = (package.producers.get(spec.name) for spec in package.segment(segment_id).inputs)
            waiting += [maker for maker in makers if maker is not None and maker in known]
    return found


def merge_segments(package: Package, group: Sequence[str]) -> tuple[Segment, bytes] | None:
    """Return the segments of a group as one segment with its model, or None where they can't be one; see `merge_into`.

    Raises:
        PackageError: A segment's file is no longer the one that was checked.
    """
    written = io.BytesIO()
    merged = merge_into(package, group, written)
    return None if merged is None else (merged, written.getvalue())


def merge_into(package: Package, group: Sequence[str], file: IO[bytes]) -> Segment | None:
    """Write the segments of a group as one model, and return it as a segment, or None where they can't be one.

    The merged segment is called by the joined ids and hands out only what is read outside the group or by an exit.
    Models of different operator sets, with functions of their own, or too large for one file can't be one.

    Raises:
        PackageError: A segment's file is no longer the one that was checked.
    """
    parts = [package.segment(segment_id) for segment_id in group]
    if sum(part.path.stat().st_size for part in parts if part.path.exists()) > MAX_MERGED_BYTES:
        return None
    made = {spec.name for part in parts for spec in part.outputs}
    kept = {spec.name for s in package.segments if s.id not in group for spec in s.inputs}
    kept.update(name for candidate in package.exits for name in package.exit_outputs(candidate.id))
    inputs = {spec.name: spec for part in parts for spec in part.inputs if spec.name not in made}
    outputs = tuple(spec for part in parts for spec in part.outputs if spec.name in kept)
    merged = replace(
        parts[-1],
        id="+".join(group),
        inputs=tuple(inputs.values()),
        outputs=outputs,
        macs=sum(part.macs for part in parts),
    )
    return merged if _merge(package, parts, merged, file) else None


def _merge(package: Package, parts: Sequence[Segment], merged: Segment, file: IO[bytes]) -> bool:
    """Write one model of several, each one's inner names behind its segment's id; return whether they can be one.

    Protobuf reads messages that follow each other as one, with their lists joined: so only one segment's weights are
    parsed at a time, and no more than one tensor's bytes are held beside them.
    """
    shared = {spec.name for part in parts for spec in (*part.inputs, *part.outputs)}
    whole = onnx.ModelProto()
    whole.graph.name = merged.id
    values: dict[str, Any] = {}
    for part in parts:  # one at a time: a segment's bytes and parsed model are large
        model = onnx.load_model_from_string(package.model(part.id))
        release_freed()
        if model.functions or (whole.opset_import and _opsets(model) != _opsets(whole)):
            return False
        if not whole.opset_import:
            whole.opset_import.extend(model.opset_import)
        whole.ir_version = max(whole.ir_version, model.ir_version)
        prefix = f"{part.id}/"
        while any(name.startswith(prefix) for name in shared):
            prefix += "/"
        _rename(model.graph, {spec.name for spec in (*part.inputs, *part.outputs)}, prefix)
        for value in (*model.graph.value_info, *model.graph.output, *model.graph.input):
            if value.name not in values:
                values[value.name] = onnx.ValueInfoProto()
                values[value.name].CopyFrom(value)
        for field in ("value_info", "input", "output"):
            model.graph.ClearField(field)
        for name in [field.name for field, _ in model.ListFields() if field.name != "graph"]:
            model.ClearField(name)
        _write_weights(model.graph, file)
        file.write(model.SerializeToString())
        del model
        release_freed()
    ends = [spec.name for spec in (*merged.inputs, *merged.outputs)]
    whole.graph.input.extend(values[spec.name] for spec in merged.inputs)
    whole.graph.output.extend(values[spec.name] for spec in merged.outputs)
    whole.graph.value_info.extend(value for name, value in values.items() if name not in ends)
    file.write(whole.SerializeToString())
    return True


def _write_weights(graph: Any, file: IO[bytes]) -> None:
    """Write a graph's own weights, each as a message of its own, and take them out of it."""
    for tensor in graph.initializer:
        alone = onnx.ModelProto()
        alone.graph.initializer.append(tensor)
        file.write(alone.SerializeToString())
    graph.ClearField("initializer")


def _opsets(model: Any) -> set[tuple[str, int]]:
    return {(opset.domain, opset.version) for opset in model.opset_import}


def _rename(graph: Any, keep: Collection[str], prefix: str) -> None:
    """Put `prefix` before every name of a graph and its branches, but for those in `keep`."""

    def renamed(name: str) -> str:
        return name if name in keep or not name else prefix + name

    for inner in _graphs(graph):
        for node in inner.node:
            node.name = prefix + node.name if node.name else ""
            node.input[:] = [renamed(name) for name in node.input]
            node.output[:] = [renamed(name) for name in node.output]
        for named in (*inner.initializer, *inner.value_info, *inner.input, *inner.output):
            named.name = renamed(named.name)
        for sparse in inner.sparse_initializer:
            sparse.values.name = renamed(sparse.values.name)
        for annotation in inner.quantization_annotation:
            annotation.tensor_name = renamed(annotation.tensor_name)
            for entry in annotation.quant_parameter_tensor_names:
                entry.value = renamed(entry.value)


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)
