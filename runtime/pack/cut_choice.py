"""Choose where to cut: at places that cost little, with parts of about equal work.

A cut costs twice what crosses has to be written and read once more, and out of and into the blocked layout that
convolutions run in; it costs dearly where onnxruntime would have fused the operators on its two sides. So a cut's cost,
as a share of the model's time, is

    cost = bytes x WORK_PER_BYTE / work + BROKEN x (the number of its tensors that a fusion would have removed)

and of all ways to take N cuts in a row the one is taken that has the least

    sum of costs + BALANCE x (N+1 parts: (N+1) x sum of share^2 - 1),    share = a part's share of the work.

Which tensors a fusion removes is asked of onnxruntime itself: they are missing from the graph that it optimised. The
fusions of its blocked layout, done later, are known by their operators.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from devices.tensor import TensorSpec
from runtime.pack.cut_graph import Graph, bits
from runtime.pack.cut_points import Cut, find_cuts
from runtime.pack.errors import PackError

AUTO_CUTS = 2
WORK_PER_BYTE = 25.0
BROKEN = 0.05
AUTO_COST = 0.015
"""The most that a cut may cost which `auto` takes, as a share of the model's time."""
EXIT_COST = 0.1
"""What a cut that an exit needs counts at most, however dear: a small model's cuts all are."""
BALANCE = 0.03

_ACTIVATIONS = frozenset(
    ("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Gelu", "Softplus")
)
_FUSED_AFTER = {
    "Conv": frozenset(("Add", "Sum", "Mul", "BatchNormalization")),
    "Gemm": frozenset(("Add",)),
    "MatMul": frozenset(("Add",)),
    "Pad": frozenset(("Conv", "MaxPool", "AveragePool")),
    "DequantizeLinear": None,
}
_FUSED_BEFORE = _ACTIVATIONS | {"QuantizeLinear", "BatchNormalization"}


@dataclass(frozen=True, slots=True)
class CutChoice:
    """A cut, and its cost as a share of the model's time."""

    cut: Cut
    cost: float


def choose_cuts(graph: Graph, data: bytes, count: int, *, cheap_only: bool, what: str) -> tuple[Cut, ...]:
    """Return the best cuts of a model, front to back.

    Args:
        graph: The model.
        data: Its file's bytes.
        count: How many cuts.
        cheap_only: Take no cut that costs more than AUTO_COST, and fewer than `count` if there aren't as many.
        what: The model's file, for messages.
    Raises:
        PackError: There aren't as many cuts in a row, or no cheap one.
    """
    choices = price_cuts(graph, data, find_cuts(graph))
    if cheap_only:
        choices = [choice for choice in choices if choice.cost <= AUTO_COST]
        for fewer in range(count, 0, -1):
            best = _best_row(choices, fewer)
            if best is not None:
                return best
        raise PackError(
            f"{what} has no cut that costs less than {AUTO_COST:.1%} of its time: name one, say how many all the same, "
            "or cut it nowhere"
        )
    best = _best_row(choices, count)
    if best is None:
        most = max((n for n in range(count) if _best_row(choices, n) is not None), default=0)
        raise PackError(f"{what} can't be cut {count} times: it has room for {most} cuts of known shape in a row")
    return best


def choose_exit_cuts(
    graph: Graph, data: bytes, count: int, readable: Callable[[TensorSpec], bool], *, what: str
) -> tuple[Cut, ...]:
    """Return cuts for exits to be fitted at, front to back, spread over the model's work.

    An exit saves the work behind it, so dear cuts are taken too, but none among the first or last shares of the work,
    half a part each, unless there are too few elsewhere.

    Args:
        graph: The model.
        data: Its file's bytes.
        count: How many cuts.
        readable: Whether an exit's head can read a tensor; one of each cut must be.
        what: The model's file, for messages.
    Raises:
        PackError: There aren't as many in a row.
    """
    specs = {name: graph.spec(name) for name in graph.makers}
    tellable = {name for name, spec in specs.items() if spec is not None and readable(spec)}
    choices = [
        CutChoice(choice.cut, EXIT_COST * choice.cost / (EXIT_COST + choice.cost))
        for choice in price_cuts(graph, data, find_cuts(graph))
        if not tellable.isdisjoint(choice.cut.tensors)
    ]
    margin = 0.5 / (count + 1)
    inner = [choice for choice in choices if margin <= choice.cut.work_share <= 1.0 - margin]
    best = _best_row(inner, count) or _best_row(choices, count)
    if best is None:
        most = max((n for n in range(count) if _best_row(choices, n) is not None), default=0)
        raise PackError(
            f"{what} has room for {most} exits, not {count}: a head reads a floating-point tensor whose first axis is "
            "the batch, and no more cuts in a row cross one"
        )
    return best


def price_cuts(graph: Graph, data: bytes, cuts: Sequence[Cut]) -> list[CutChoice]:
    """Return cuts with their costs."""
    kept = _kept_tensors(data)
    broken = {name for name in graph.makers if _is_large(graph, name) and (name not in kept or _fused(graph, name))}
    work = max(1, graph.work)
    return [
        CutChoice(cut, cut.crossing_bytes * WORK_PER_BYTE / work + BROKEN * sum(name in broken for name in cut.tensors))
        for cut in cuts
    ]


def _best_row(choices: Sequence[CutChoice], count: int) -> tuple[Cut, ...] | None:
    """Return the best row of `count` cuts, each containing the ones before it; None if there is none that long.

    Dynamic programming over (last cut, cuts so far); a row's score is a sum over its cuts and parts.
    """
    parts = count + 1
    rows: dict[int, tuple[float, tuple[Cut, ...]]] = {-1: (0.0, ())}
    for _ in range(count):
        longer: dict[int, tuple[float, tuple[Cut, ...]]] = {}
        for index, choice in enumerate(choices):
            for last, (score, row) in rows.items():
                if last >= index or (row and not _follows(choice.cut, row[-1])):
                    continue
                share = choice.cut.work_share - (row[-1].work_share if row else 0.0)
                total = score + choice.cost + BALANCE * parts * share * share
                if index not in longer or total < longer[index][0]:
                    longer[index] = (total, (*row, choice.cut))
        rows = longer
    ends = [(score + BALANCE * parts * _rest(row) ** 2, row) for score, row in rows.values()]
    return min(ends, key=lambda end: end[0])[1] if ends else None


def _rest(row: Sequence[Cut]) -> float:
    return 1.0 - (row[-1].work_share if row else 0.0)


def _follows(cut: Cut, earlier: Cut) -> bool:
    return cut.before != earlier.before and earlier.before & ~cut.before == 0


def _is_large(graph: Graph, name: str) -> bool:
    """Whether a tensor is more than a size or a list of sizes, which cost nothing to compute twice."""
    spec = graph.spec(name)
    return spec is not None and len(spec.shape) > 1


def _fused(graph: Graph, name: str) -> bool:
    """Whether the operators on both sides of a tensor are ones that are run as one."""
    maker = graph.nodes[graph.makers[name]].proto.op_type
    after = {graph.nodes[index].proto.op_type for index in bits(graph.readers.get(name, 0))}
    if maker in _FUSED_AFTER:
        partners = _FUSED_AFTER[maker]
        if partners is None or not after.isdisjoint(partners):
            return True
    return not after.isdisjoint(_FUSED_BEFORE)


def _kept_tensors(data: bytes) -> set[str]:
    """Return the tensors that onnxruntime's optimised graph still has.

    Raises:
        PackError: onnxruntime can't run the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(path)
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            optimised = onnx.load(path, load_external_data=False)
        except Exception as error:  # onnxruntime raises a dozen unrelated types, some plain RuntimeError
            raise PackError(f"onnxruntime refuses the model: {error}") from error
    return {name for node in optimised.graph.node for name in node.output}
