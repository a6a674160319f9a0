"""A partitioned network as a package whose (stage, layer-group) segments can run at the same time.

Segment (i, g) is stage i between two exchanges. It reads its own tensors of the group before and, at the exchange, the
earlier stages' features that I lets it read; nothing a later stage makes. An exit ends each stage.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain, ExitAnswer
from devices.package import Exit, ExitKind, Package, SegmentSource, write_package
from devices.tensor import TensorSpec
from runtime.pack.exits.export import score_nodes
from runtime.pack.exits.graph import GraphBuilder
from runtime.pack.exits.scores import Score, check_score
from runtime.pack.width.errors import WidthError
from runtime.pack.width.graph import IMAGE, Layer
from runtime.pack.width.macs import stage_macs
from runtime.pack.width.nodes import Places, array, layer_nodes, matrix_nodes, normal_nodes, step_nodes
from runtime.pack.width.partition import PartitionedNetwork
from runtime.pack.width.plan import groups

TOLERANCE = 1e-4  # of the package's logits against torch's, relative to the largest


@dataclass
class _Draft:
    """One segment being built: its nodes, the tensors it has and those it took from other segments."""

    build: GraphBuilder
    made: set[str] = field(default_factory=set)
    taken: dict[str, TensorSpec] = field(default_factory=dict)
    joined: dict[Any, str] = field(default_factory=dict)


def segment_name(stage: int, group: int) -> str:
    """Return the id of the segment of a stage (from 0) in a layer group (from 0): "stage1-group1" is the first."""
    return f"stage{stage + 1}-group{group + 1}"


def write_width_package(
    folder: str | Path,
    parts: PartitionedNetwork,
    *,
    name: str,
    version: str = "1",
    score: Score = Score.MAX_PROBABILITY,
    temperature: float = 1.0,
    answer_names: Sequence[str] = (),
    license: str = "unknown",
    origin: str = "unknown",
    description: str = "",
) -> Package:
    """Write a partitioned network as a package and return it as loaded back.

    Its exits' thresholds are infinite: nothing leaves early until `calibrate_exits` has chosen them. The package's
    answers are compared with torch's before it is put in its place.

    Args:
        folder: Where it shall lie.
        parts: Is put in eval mode and on the CPU.
        name, version, answer_names, license, origin, description: Of the package.
        score, temperature: What the exits' confidence is.
    Raises:
        WidthError: The package does not compute what `parts` computes.
        PackageError: The parts make no sound package, or `folder` holds something else.
        ValueError: The score does not fit the number of classes.
    """
    check_score(score, parts.graph.classes, temperature)
    parts.eval().cpu()
    stages = range(parts.plan.stages)
    sources = _Writer(parts, score, temperature).sources()
    numbers = [index + 1 for index in stages]
    last_group = len(parts.plan.exchanges)
    exits = [
        Exit(f"exit{n}", segment_name(n - 1, last_group), f"answer{n}", f"confidence{n}", ExitKind.CLASSIFICATION, inf)
        for n in numbers[:-1]
    ]
    final = Exit("final", segment_name(stages[-1], last_group), f"answer{numbers[-1]}", kind=ExitKind.CLASSIFICATION)
    return write_package(
        folder,
        name=name,
        version=version,
        segments=sources,
        exits=[*exits, final],
        license=license,
        origin=origin,
        description=description,
        answer_names=answer_names,
        card={"width": _card(parts)},
        check=lambda package: _check(package, parts),
    )


def _card(parts: PartitionedNetwork) -> dict[str, Any]:
    """Return P, I and the work of each stage for the package file."""
    plan, graph = parts.plan, parts.graph
    return {
        "family": graph.family,
        "stages": plan.stages,
        "columns": list(graph.columns),
        "shares": [list(row) for row in plan.shares],
        "reuse": [[int(entry) for entry in row] for row in plan.reuse],
        "exchanges": [graph.columns[j] for j in plan.exchanges],
        "stage_macs": [sum(row) for row in stage_macs(graph, plan)],
        "whole_macs": graph.macs,
    }


class _Writer:
    """Walks the network once for every stage and hands each part to the segment it belongs to."""

    def __init__(self, parts: PartitionedNetwork, score: Score, temperature: float) -> None:
        self.parts = parts
        self.graph = parts.graph
        self.score, self.temperature = score, temperature
        self.segments: dict[tuple[int, int], _Draft] = {}
        self.specs = {IMAGE: TensorSpec(IMAGE, "float32", ("N", *self.graph.features[IMAGE].shape[1:]))}

    def sources(self) -> list[SegmentSource]:
        """Return all segments, stage by stage."""
        numbers = groups(self.graph, self.parts.plan)
        for stage in range(self.parts.plan.stages):
            for part, group in zip(self.graph.parts, numbers, strict=True):
                segment = self._segment(stage, group)
                if isinstance(part, Layer):
                    self._layer(segment, stage, part)
                else:
                    reads = [self._take(segment, self._tensor(stage, name)) for name in part.reads]
                    tokens, own = self.parts.network.weights_of(part), self.parts.own(part.writes, stage)
                    step_nodes(segment.build, part, reads, own, tokens, self._make(segment, stage, part.writes))
            self._exit(self._segment(stage, len(self.parts.plan.exchanges)), stage)
        readers: dict[str, set[int]] = defaultdict(set)
        for segment in self.segments.values():
            for tensor in segment.taken:
                readers[tensor].add(id(segment))
        return [
            SegmentSource(segment_name(*place), self._model(segment, readers))
            for place, segment in self.segments.items()
        ]

    def _model(self, segment: _Draft, readers: dict[str, set[int]]) -> Any:
        wanted = [n for n in segment.made if readers[n] or n.startswith(("answer", "confidence"))]
        return segment.build.model([*segment.taken.values()], [self.specs[n] for n in sorted(wanted)])

    def _segment(self, stage: int, group: int) -> _Draft:
        return self.segments.setdefault((stage, group), _Draft(GraphBuilder(f"s{stage + 1}g{group + 1}")))

    def _tensor(self, stage: int, feature: str) -> str:
        return IMAGE if feature == IMAGE else f"stage{stage + 1}.{feature}"

    def _make(self, segment: _Draft, stage: int, feature: str) -> str:
        """Declare a stage's tensor of a feature as made here and return its name."""
        known, own = self.graph.features[feature], self.parts.own(feature, stage)
        shape: list[int | str] = ["N", *known.shape[1:]]
        shape[known.axis] = own.stop - own.start
        return self._declare(segment, TensorSpec(self._tensor(stage, feature), "float32", tuple(shape)))

    def _declare(self, segment: _Draft, spec: TensorSpec) -> str:
        self.specs[spec.name] = spec
        segment.made.add(spec.name)
        return spec.name

    def _take(self, segment: _Draft, tensor: str) -> str:
        if tensor not in segment.made:
            segment.taken[tensor] = self.specs[tensor]
        return tensor

    def _read(self, segment: _Draft, stage: int, feature: str, norm: Any) -> tuple[str, Places]:
        """Return the tensor of all that a stage reads of a feature, normalised, and which places it holds."""
        places: Places = self.parts.read_places(stage, feature).numpy()
        if (feature, None) not in segment.joined:
            tensors = [self._take(segment, self._tensor(k, feature)) for k in self.parts.read_by(stage, feature)]
            axis = self.graph.features[feature].axis
            joined = tensors[0] if len(tensors) == 1 else segment.build.node("Concat", *tensors, axis=axis)
            segment.joined[feature, None] = joined
        if (feature, norm) not in segment.joined:
            joined = normal_nodes(segment.build, norm, segment.joined[feature, None], places)
            segment.joined[feature, norm] = joined
        return segment.joined[feature, norm], places

    def _layer(self, segment: _Draft, stage: int, layer: Layer) -> None:
        cell = self.parts.network.cell(layer.name)
        x, places = self._read(segment, stage, layer.reads, cell.before)
        rows, output = self.parts.own(layer.writes, stage), self._make(segment, stage, layer.writes)
        layer_nodes(segment.build, cell, x, rows, places, layer.activation, output)

    def _exit(self, segment: _Draft, stage: int) -> None:
        head, classes = self.parts.exits[stage], self.graph.classes
        x, places = self._read(segment, stage, self.graph.last, head.before)
        answer = self._declare(segment, TensorSpec(f"answer{stage + 1}", "float32", ("N", classes)))
        bias = None if head.core.bias is None else array(head.core.bias)
        matrix_nodes(segment.build, x, array(head.core.weight)[:, places], bias, answer)
        if stage < self.parts.plan.stages - 1:
            sure = score_nodes(segment.build, answer, classes, self.score, self.temperature)
            spec = TensorSpec(f"confidence{stage + 1}", "float32", ("N", 1))
            segment.build.node("Identity", sure, output=self._declare(segment, spec))


def _check(package: Package, parts: PartitionedNetwork) -> None:
    """Refuse a package whose exits do not say what torch says about two random images."""
    image = np.random.default_rng(0).normal(size=(2, *parts.graph.features[IMAGE].shape[1:])).astype(np.float32)
    with torch.no_grad():
        wanted = [array(logits) for logits in parts(torch.from_numpy(image))]
    said: list[ExitAnswer] = []

    def keep(answer: ExitAnswer) -> bool:
        said.append(answer)
        return False

    Chain(package, OnnxRuntimeBackend()).run({IMAGE: image}, on_exit=keep)
    for want, got in zip(wanted, said, strict=True):
        error, size = float(np.abs(got.answer - want).max()), float(np.abs(want).max())
        if not error <= TOLERANCE * max(size, 1.0):
            raise WidthError(f"{got.exit_id} answers {error:g} away from torch: at most {TOLERANCE * max(size, 1.0):g}")
