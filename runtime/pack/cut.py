"""Cut a model into a package of segments that together compute what it computes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devices.package import Exit, ExitKind, Package, SegmentSource, write_package
from devices.package.macs import count_macs
from devices.package.read import MAX_FILE_BYTES
from devices.tensor import Array, TensorSpec
from runtime.pack.cut_check import max_abs_error
from runtime.pack.cut_choice import AUTO_CUTS, choose_cuts, choose_exit_cuts
from runtime.pack.cut_extract import extract_parts
from runtime.pack.cut_graph import Graph, read_graph
from runtime.pack.cut_points import Cut, cut_at
from runtime.pack.cut_weights import with_weights
from runtime.pack.errors import PackError

Where = int | Literal["auto"] | str
"""How many cuts, at the best places; "auto"; or tensor names: "," between cuts, "+" between tensors of one cut."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a package says of itself."""

    name: str
    version: str = "1"
    license: str = "unknown"
    origin: str = "unknown"
    kind: ExitKind = ExitKind.CUSTOM


@dataclass(frozen=True, slots=True)
class CutModel:
    """A model in parts.

    Args:
        package: The package, checked against the model.
        cuts: Where it was cut, front to back.
        max_abs_error: Greatest difference of any output from the model's, on every input that was tried.
    """

    package: Package
    cuts: tuple[Cut, ...]
    max_abs_error: float


def read_model(path: Path) -> tuple[bytes, Graph]:
    """Return an ONNX file's bytes and its graph.

    Weights that an exporter put into files beside it are taken in.

    Raises:
        PackError: It can't be read, not as a graph, or its weights lie elsewhere than beside it.
        PackageError: It is no ONNX file.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PackError(f"{path} has {path.stat().st_size} bytes: must be at most {MAX_FILE_BYTES}")
        data = with_weights(path, path.read_bytes())
    except OSError as error:
        raise PackError(f"cannot read {path}: {error.strerror}") from error
    return data, read_graph(str(path), data)


@dataclass(frozen=True, slots=True)
class ExitPlaces:
    """Exits that shall be fitted: how many, and whether a head can read a tensor of a model with these inputs."""

    count: int
    readable: Callable[[TensorSpec, Sequence[TensorSpec]], bool]


def place_cuts(graph: Graph, data: bytes, where: Where, what: str, exits: ExitPlaces | None = None) -> tuple[Cut, ...]:
    """Return where to cut.

    Args:
        graph: The model.
        data: Its file's bytes.
        where: See `Where`; "auto" takes AUTO_CUTS cheap ones, if there are as many, or those that exits need.
        what: The model's file, for messages.
        exits: What shall be fitted at the cuts; None for nothing.
    Raises:
        PackError: It can't be cut there, or not as often.
    """
    if where == "auto" and exits is not None:
        inputs = [spec for spec in map(graph.spec, graph.inputs) if spec is not None]
        return choose_exit_cuts(graph, data, exits.count, lambda spec: exits.readable(spec, inputs), what=what)
    if where == "auto":
        return choose_cuts(graph, data, AUTO_CUTS, cheap_only=True, what=what)
    if isinstance(where, int):
        return choose_cuts(graph, data, where, cheap_only=False, what=what) if where else ()
    named = [cut_at(graph, _tensors(graph, item), what) for item in where.split(",")]
    return tuple(sorted(named, key=lambda cut: cut.before.bit_count()))


def _tensors(graph: Graph, item: str) -> tuple[str, ...]:
    name = item.strip()
    return (name,) if name in graph.makers else tuple(part.strip() for part in name.split("+") if part.strip())


def cut_model(
    path: Path,
    folder: Path,
    where: Where,
    card: Card,
    *,
    given: Sequence[Mapping[str, Array]] = (),
    exits: ExitPlaces | None = None,
    answer: str | None = None,
) -> CutModel:
    """Cut a model, check the parts against the whole, and write them as a package.

    Args:
        path: The ONNX file.
        folder: Where the package shall lie.
        where: See `Where`; 0 makes a package of one segment.
        card: What the package says of itself.
        given: Input sets on which to compare parts and whole, besides random ones.
        exits: What shall be fitted at the cuts; None for nothing.
        answer: The output that is the answer; None for the first.
    Raises:
        PackError: There is no such output, the model can't be cut there, or the parts don't compute the same; nothing
            is written.
        PackageError: The file can't be used, or `folder` holds something else.
        InputError: A given input does not fit.
    """
    data, graph = read_model(path)
    what = path.name
    if answer is not None and answer not in graph.outputs:
        raise PackError(f"{what} has no output {answer!r}: it has {', '.join(graph.outputs)}")
    cuts = place_cuts(graph, data, where, what, exits)
    if cuts:
        parts = extract_parts(graph, cuts, what).models
        sources = [SegmentSource(f"part{index}", part) for index, part in enumerate(parts, start=1)]
    else:
        sources = [SegmentSource("part1", data, macs=count_macs(graph.model))]
    final = Exit("final", sources[-1].id, answer or graph.outputs[0], kind=card.kind)
    checked: list[float] = []

    def check(package: Package) -> None:
        checked.append(max_abs_error(data, package, given, what=what))

    package = write_package(
        folder,
        name=card.name,
        version=card.version,
        segments=sources,
        exits=[final],
        license=card.license,
        origin=card.origin,
        check=check,
    )
    return CutModel(package, cuts, checked[0])
