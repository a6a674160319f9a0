"""The places where a model can be cut in two, and what crosses there.

Cutting at the tensors T puts into the front half what T is made from, and what must then be there too: the least set S
of nodes that holds T's makers, whatever its nodes need, and every reader of a tensor made in S that is not in T. Where
S isn't all, only T crosses from S to the rest. (For a residual block, T is its end, or the skip and one tensor within.)

Sizes that exporters compute from the batch as the model runs, a few bytes each, may cross beside T: a cut is chosen and
named by its other tensors. Those that depend on the inputs' shapes alone are computed in the first part, so that no
later one needs an input only to tell its size.

Found are all cuts at one tensor, and those at up to MAX_TENSORS tensors that the model's own order passes through.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from runtime.pack.cut_graph import Graph, bits
from runtime.pack.errors import PackError

MAX_TENSORS = 4


@dataclass(frozen=True, slots=True)
class Cut:
    """A place to cut.

    Args:
        tensors: What the nodes behind it read of what those before it make, sizes last.
        crossing_bytes: Bytes that must reach what lies behind when it runs elsewhere: the tensors, the model's inputs
            that both halves read, and outputs made before it; open sizes at 1 [byte].
        work_share: Share of the model's work that lies before it.
        before: The nodes before it, as a bit set.
        sizes: How many of the tensors are sizes.
    """

    tensors: tuple[str, ...]
    crossing_bytes: int
    work_share: float
    before: int = field(repr=False)
    sizes: int = 0

    @property
    def name(self) -> str:
        """The tensors' names, joined by "+", without the sizes: what --cuts takes."""
        return "+".join(self.tensors[: len(self.tensors) - self.sizes])


def find_cuts(graph: Graph) -> tuple[Cut, ...]:
    """Return the model's cut points from front to back, see the module."""
    found: dict[frozenset[str], Cut] = {}
    for tensors in _candidates(graph):
        if tensors in found or any(graph.spec(name) is None for name in tensors):
            continue
        before = front(graph, tensors)
        if before != graph.everything and crossing(graph, before) - graph.sizes == tensors:
            found[tensors] = _cut(graph, before)
    return tuple(sorted(found.values(), key=lambda cut: (cut.before.bit_count(), len(cut.tensors), cut.name)))


def cut_at(graph: Graph, tensors: Collection[str], what: str) -> Cut:
    """Return the cut at some tensors.

    Args:
        what: The model's file, for messages.
    Raises:
        PackError: There is no such tensor, it can't be cut at, or not alone; the message says what would be right.
    """
    for name in tensors:
        if name not in graph.makers:
            raise PackError(f"{what} has no tensor {name!r} to cut at: {_nearby(graph, name)}")
        if graph.spec(name) is None:
            raise PackError(f"{what} can't be cut at {name!r}: its shape can't be inferred; export the model with it")
    wanted = frozenset(tensors) - graph.sizes
    if not wanted:
        raise PackError(f"{what} can't be cut at {_join(tensors)}: sizes cross beside other tensors; {_choices(graph)}")
    before = front(graph, wanted)
    if before == graph.everything:
        least = 0
        for name in wanted:
            least |= graph.ancestors[graph.makers[name]]
        beside = sorted(crossing(graph, least) - wanted - graph.sizes)
        if not beside:
            raise PackError(f"{what} can't be cut at {_join(wanted)}: nothing lies behind it")
        raise PackError(
            f"{what} can't be cut at {_join(wanted)} alone: {', '.join(map(repr, beside[:4]))} would cross beside it: "
            f"cut at {_join([*tensors, *beside])!r}, or at {_choices(graph)}"
        )
    crosses = crossing(graph, before) - graph.sizes
    if crosses != wanted:
        raise PackError(f"{what}: at {_join(tensors)!r} only {_join(crosses)!r} crosses: cut there")
    return _cut(graph, before)


def front(graph: Graph, tensors: Collection[str]) -> int:
    """Return the least set of nodes that makes `tensors` and hands out nothing else to the others but sizes."""
    before, done = graph.input_sizes, 0
    for name in tensors:
        before |= graph.ancestors[graph.makers[name]]
    while before != done and before != graph.everything:
        fresh, done = before & ~done, before
        for index in bits(fresh):
            for name in graph.nodes[index].makes:
                if name not in tensors and name not in graph.sizes:
                    for reader in bits(graph.readers.get(name, 0) & ~before):
                        before |= graph.ancestors[reader]
    return before


def crossing(graph: Graph, before: int) -> frozenset[str]:
    """Return the tensors made in a set of nodes and read outside it."""
    return frozenset(
        name for index in bits(before) for name in graph.nodes[index].makes if graph.readers.get(name, 0) & ~before
    )


def _candidates(graph: Graph) -> Iterator[frozenset[str]]:
    for name in graph.makers:
        if name in graph.readers and name not in graph.sizes:
            yield frozenset((name,))
    open_: set[str] = set()
    passed = 0
    for index, node in enumerate(graph.nodes):
        passed |= 1 << index
        open_.update(name for name in node.makes if name not in graph.sizes)
        open_ = {name for name in open_ if graph.readers.get(name, 0) & ~passed}
        if 1 < len(open_) <= MAX_TENSORS:
            yield frozenset(open_)


def _cut(graph: Graph, before: int) -> Cut:
    tensors = crossing(graph, before)
    behind = graph.everything & ~before
    both = [name for name in graph.inputs if graph.readers[name] & before and graph.readers[name] & behind]
    early = [name for name in graph.outputs if name in graph.makers and before >> graph.makers[name] & 1]
    specs = [graph.spec(name) for name in {*tensors, *both, *early}]
    crossing_bytes = sum(spec.least_bytes for spec in specs if spec is not None)
    order = tuple(sorted(tensors, key=lambda name: (name in graph.sizes, graph.makers[name])))
    share = graph.work_of(before) / max(1, graph.work)
    return Cut(order, crossing_bytes, share, before, len(graph.sizes & tensors))


def _nearby(graph: Graph, name: str) -> str:
    alike = [known for known in graph.makers if name.lower() in known.lower()]
    if name in graph.inputs:
        return f"it is an input; there are {_choices(graph)}"
    return f"did you mean {_some(alike)}?" if alike else f"there are {_choices(graph)}"


def _choices(graph: Graph) -> str:
    return _some([cut.name for cut in find_cuts(graph) if "+" not in cut.name])


def _some(names: list[str], count: int = 12) -> str:
    shown = ", ".join(map(repr, names[:count]))
    return f"{shown} and {len(names) - count} more" if len(names) > count else shown or "none"


def _join(names: Iterable[str]) -> str:
    return "+".join(names)
