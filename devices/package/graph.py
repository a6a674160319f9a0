"""The graph a model package is: segments joined by named tensors, exits listed from shallow to deep.

A tensor has one producer (a package input or a segment). Exit k needs the segments its answer depends on; walking the
exits in order runs, for each, what it needs and what has not run yet, so an answer at exit 1 costs the segments up to
exit 1.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from devices.errors import PackageError
from devices.tensor import TensorSpec


class ExitKind(StrEnum):
    """What an exit's answer means."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Segment:
    """One ONNX file of a package.

    Args:
        id: Name within the package.
        path: The file.
        sha256: Hash of the file's bytes, hexadecimal.
        inputs, outputs: Tensors read and produced, in the file's order.
        macs: Multiply-accumulates at batch 1.
    """

    id: str
    path: Path
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    macs: int = 0


@dataclass(frozen=True, slots=True)
class Exit:
    """A place where the model may answer.

    Args:
        id: Name within the package.
        segment: Segment that produces the answer.
        answer: Tensor that holds it.
        confidence: Tensor that says how far it can be trusted; None only at the last exit.
        kind: What the answer means.
        threshold: The answer is confident enough when every entry of the confidence tensor is at least this.
    """

    id: str
    segment: str
    answer: str
    confidence: str | None = None
    kind: ExitKind = ExitKind.CUSTOM
    threshold: float | None = None


@dataclass(frozen=True)
class Package:
    """A checked model package.

    Args:
        name, version: What requests call it by.
        folder: Where its files lie.
        inputs: Tensors a request must bring.
        segments: In an order in which they can run.
        exits: From shallow to deep; the last is the final answer.
        answer_names: Names of the answer's columns, or empty.
        calibration, card: Free tables of the package file.
        digest: Hash over the package file, which holds the hashes of all segments, hexadecimal.
    """

    name: str
    version: str
    folder: Path
    inputs: tuple[TensorSpec, ...]
    segments: tuple[Segment, ...]
    exits: tuple[Exit, ...]
    license: str = "unknown"
    origin: str = "unknown"
    description: str = ""
    answer_names: tuple[str, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    @cached_property
    def producers(self) -> dict[str, str]:
        """The segment that produces each tensor, by tensor name; package inputs are not in it."""
        return {spec.name: segment.id for segment in self.segments for spec in segment.outputs}

    @cached_property
    def tensors(self) -> dict[str, TensorSpec]:
        """Every tensor of the package by name."""
        specs = {spec.name: spec for spec in self.inputs}
        for segment in self.segments:
            specs.update((spec.name, spec) for spec in segment.outputs)
        return specs

    @cached_property
    def _segments_by_id(self) -> dict[str, Segment]:
        return {segment.id: segment for segment in self.segments}

    def segment(self, segment_id: str) -> Segment:
        """Return a segment by id.

        Raises:
            KeyError: There is no such segment.
        """
        if segment_id not in self._segments_by_id:
            raise KeyError(f"package {self.name!r} has no segment {segment_id!r}: one of {[*self._segments_by_id]}")
        return self._segments_by_id[segment_id]

    def exit_index(self, exit_id: str) -> int:
        """Return an exit's place, 0 for the shallowest.

        Raises:
            KeyError: There is no such exit.
        """
        for index, candidate in enumerate(self.exits):
            if candidate.id == exit_id:
                return index
        raise KeyError(f"package {self.name!r} has no exit {exit_id!r}: one of {[e.id for e in self.exits]}")

    def exit(self, exit_id: str) -> Exit:
        """Return an exit by id.

        Raises:
            KeyError: There is no such exit.
        """
        return self.exits[self.exit_index(exit_id)]

    def needed(self, exit_id: str) -> tuple[str, ...]:
        """Return the ids of the segments that an exit's answer depends on, itself included, in running order."""
        wanted = {self.exit(exit_id).segment}
        for segment in reversed(self.segments):
            if segment.id in wanted:
                wanted.update(self.producers[spec.name] for spec in segment.inputs if spec.name in self.producers)
        return tuple(segment.id for segment in self.segments if segment.id in wanted)

    def walk(self, first_exit: int = 0) -> tuple[tuple[Exit, tuple[str, ...]], ...]:
        """Return the exits from `first_exit` on, each with the segments it adds to what the exits before it ran."""
        done: set[str] = set()
        steps = []
        for candidate in self.exits[first_exit:]:
            added = tuple(segment_id for segment_id in self.needed(candidate.id) if segment_id not in done)
            done.update(added)
            steps.append((candidate, added))
        return tuple(steps)

    def macs_to(self, exit_id: str) -> int:
        """Return the multiply-accumulates spent when the exits are walked up to `exit_id`, shallower heads included."""
        total = 0
        for candidate, added in self.walk():
            total += sum(self.segment(segment_id).macs for segment_id in added)
            if candidate.id == exit_id:
                return total
        raise KeyError(f"package {self.name!r} has no exit {exit_id!r}: one of {[e.id for e in self.exits]}")

    def mac_share(self, exit_id: str) -> float:
        """Return the share of a whole walk's multiply-accumulates that is spent when it ends at `exit_id`.

        Raises:
            PackageError: No segment declares multiply-accumulates.
        """
        total = self.macs_to(self.exits[-1].id)
        if total == 0:
            raise PackageError(f"package {self.name!r} declares no multiply-accumulates")
        return self.macs_to(exit_id) / total

    def exit_outputs(self, exit_id: str) -> tuple[str, ...]:
        """Return the tensors an exit hands out: answer, confidence, and what else its segment makes for nobody."""
        chosen = self.exit(exit_id)
        read = {spec.name for segment in self.segments for spec in segment.inputs}
        first = [chosen.answer] if chosen.confidence is None else [chosen.answer, chosen.confidence]
        spare = [s.name for s in self.segment(chosen.segment).outputs if s.name not in read and s.name not in first]
        others = {name for e in self.exits if e.id != exit_id for name in (e.answer, e.confidence)}
        return (*first, *(name for name in spare if name not in others))

    def model(self, segment_id: str) -> bytes:
        """Read a segment's ONNX file.

        Raises:
            PackageError: The file is gone or is no longer the one whose hash the package holds.
        """
        segment = self.segment(segment_id)
        try:
            data = segment.path.read_bytes()
        except OSError as error:
            raise PackageError(f"segment {segment_id!r}: cannot read {segment.path}: {error.strerror}") from error
        check_hash(segment_id, segment.path.name, data, segment.sha256)
        return data


def check_hash(segment_id: str, file: str, data: bytes, sha256: str) -> None:
    """Refuse bytes whose SHA-256 is not the declared one.

    Raises:
        PackageError: Names the segment, the file and both hashes.
    """
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise PackageError(
            f"segment {segment_id!r}: {file} has SHA-256 {actual}, the package file says {sha256}: "
            "the file was damaged or exchanged"
        )


def order_segments(inputs: Iterable[TensorSpec], segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Return the segments in an order in which they can run, keeping the given order where it is free.

    Raises:
        PackageError: A tensor has two producers or none, its declarations disagree, or the graph has a cycle.
    """
    segments = tuple(segments)
    specs = _producing_specs(inputs, segments)
    for segment in segments:
        for wanted in segment.inputs:
            if wanted.name not in specs:
                raise PackageError(
                    f"segment {segment.id!r} reads tensor {wanted.name!r}, which no segment produces and which is "
                    f"no package input: known tensors are {sorted(specs)}"
                )
            if not wanted.accepts(specs[wanted.name]):
                raise PackageError(f"segment {segment.id!r} reads {wanted}, but it is produced as {specs[wanted.name]}")
    ready = {spec.name for spec in inputs}
    waiting, ordered = list(segments), []
    while waiting:
        runnable = next((s for s in waiting if all(spec.name in ready for spec in s.inputs)), None)
        if runnable is None:
            raise PackageError(f"segments {[s.id for s in waiting]} wait for each other: the graph must have no cycle")
        waiting.remove(runnable)
        ordered.append(runnable)
        ready.update(spec.name for spec in runnable.outputs)
    return tuple(ordered)


def _producing_specs(inputs: Iterable[TensorSpec], segments: Iterable[Segment]) -> dict[str, TensorSpec]:
    specs: dict[str, TensorSpec] = {}
    makers: dict[str, str] = {}
    named = [("the package inputs", spec) for spec in inputs]
    named += [(f"segment {segment.id!r}", spec) for segment in segments for spec in segment.outputs]
    for maker, spec in named:
        if spec.name in specs:
            raise PackageError(
                f"tensor {spec.name!r} is produced twice, by {makers[spec.name]} and {maker}: one must be renamed"
            )
        specs[spec.name], makers[spec.name] = spec, maker
    return specs


def check_exits(package: Package) -> None:
    """Refuse exits that cannot answer and work that no exit needs.

    Raises:
        PackageError: Names the exit, segment or tensor and what would be right.
    """
    if not package.exits:
        raise PackageError("the package has no exit: at least one [[exits]] must name the final answer")
    for candidate in package.exits:
        _check_exit(package, candidate, last=candidate is package.exits[-1])
    needed = {segment_id for candidate in package.exits for segment_id in package.needed(candidate.id)}
    for segment in package.segments:
        if segment.id not in needed:
            raise PackageError(f"segment {segment.id!r} leads to no exit: remove it or add an exit that needs it")
    read = {spec.name for segment in package.segments for spec in segment.inputs}
    for spec in package.inputs:
        if spec.name not in read:
            raise PackageError(f"input {spec.name!r} is read by no segment: remove it")
    heads = {candidate.segment for candidate in package.exits}
    for segment in package.segments:
        for spec in segment.outputs:
            if spec.name not in read and segment.id not in heads:
                raise PackageError(f"tensor {spec.name!r} of segment {segment.id!r} dangles: nobody reads it")


def _check_exit(package: Package, candidate: Exit, *, last: bool) -> None:
    what = f"exit {candidate.id!r}"
    try:
        outputs = {spec.name: spec for spec in package.segment(candidate.segment).outputs}
    except KeyError as error:
        raise PackageError(f"{what}: {error.args[0]}") from error
    for role, name in (("answer", candidate.answer), ("confidence", candidate.confidence)):
        if name is not None and name not in outputs:
            raise PackageError(
                f"{what}: {role} tensor {name!r} is no output of segment {candidate.segment!r}: "
                f"one of {sorted(outputs)}"
            )
    if (candidate.confidence is None) != (candidate.threshold is None):
        raise PackageError(f"{what}: confidence and threshold go together, one is missing")
    if candidate.confidence is None and not last:
        raise PackageError(f"{what}: only the last exit may lack a confidence and a threshold")
    if candidate.confidence is not None and not outputs[candidate.confidence].dtype.startswith("float"):
        raise PackageError(f"{what}: confidence {outputs[candidate.confidence]} must be a floating-point tensor")
    if candidate.threshold is not None and candidate.threshold != candidate.threshold:
        raise PackageError(f"{what}: threshold is NaN: must be a number")
    columns = outputs[candidate.answer].shape[-1:]
    if package.answer_names and columns and columns[0] not in (len(package.answer_names), "?"):
        raise PackageError(
            f"{what}: answer {outputs[candidate.answer]} must have {len(package.answer_names)} columns, "
            f"as [answer] names {list(package.answer_names)}"
        )
