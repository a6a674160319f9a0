"""A model's segments on one device, run one after the other with exits on the way.

The exits are walked from shallow to deep. Each adds the segments its answer needs and nothing else; as soon as its
answer is there the caller may stop, and the rest is not computed. Tensors pass between segments as the backend's own
values, uncopied, and are let go after their last use.

Segments that always run together, because the same exits need them, are merged into one model where the backend can:
then a cut without an exit behind it costs nothing here, and is there for the day its halves run in two places.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from devices.backend import Backend, CancelToken, Loaded, Value
from devices.clock import NS_PER_S, Clock, MonotonicClock
from devices.errors import RunCancelledError
from devices.load import load_group
from devices.memory import release_freed
from devices.merge import run_together
from devices.package.graph import Exit, Package, Segment, order_segments
from devices.tensor import Array, TensorSpec, check_inputs


@dataclass(frozen=True, slots=True)
class SegmentTime:
    """One segment's run: when it began, counted from the run's begin, and how long it took [s].

    Merged segments run as one: the time of all stands with the last of them, the others have 0.
    """

    segment_id: str
    device: str
    begin_s: float
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class ExitAnswer:
    """What one exit says.

    Args:
        exit_id: The exit.
        index: Its place, 0 for the shallowest.
        answer: The answer tensor.
        confidence: Least entry of the confidence tensor; None if the exit has none.
        outputs: All tensors the exit hands out, by name.
        elapsed_s: Time since the run began [s].
        segments: The segments that ran until then, in order.
    """

    exit_id: str
    index: int
    answer: Array
    confidence: float | None
    outputs: Mapping[str, Array]
    elapsed_s: float
    segments: tuple[SegmentTime, ...]


@dataclass(frozen=True, slots=True)
class ChainResult:
    """What a run came to.

    Args:
        exit: The deepest exit that finished; None if none did or the chain has none.
        outputs: Tensors the chain owes to segments outside it, by name; without those that were not reached.
        segments: The segments that finished, in order.
        cancelled: The run was stopped from outside.
        elapsed_s: Time the run took [s].
    """

    exit: ExitAnswer | None
    outputs: Mapping[str, Array]
    segments: tuple[SegmentTime, ...]
    cancelled: bool
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class _Part:
    """One segment, or several merged into one, to run, and the tensors that nobody needs once it has."""

    segment_ids: tuple[str, ...]
    loaded: Loaded
    reads: tuple[str, ...]
    release: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """Segments to run, then the exit they complete; a last step without an exit completes what is owed outside."""

    parts: tuple[_Part, ...]
    exit: Exit | None
    index: int = 0
    hands_out: tuple[str, ...] = ()


class Chain:
    """Some or all segments of a package, loaded on one backend. One run at a time, any thread.

    Args:
        package: The package.
        backend: The device.
        segment_ids: Which segments; None for all. Tensors they read and don't produce become the chain's inputs,
            tensors that others read become its outputs.
        clock: Times the segments.
        merge: Merge segments that always run together, if the backend can.
    Raises:
        KeyError: There is no such segment.
        PackageError: A segment's file is no longer the one that was checked.
        BackendError: The backend refuses a segment.
    """

    def __init__(
        self,
        package: Package,
        backend: Backend,
        segment_ids: Iterable[str] | None = None,
        *,
        clock: Clock | None = None,
        merge: bool = True,
    ) -> None:
        every = [segment.id for segment in package.segments]
        chosen = set(every) if segment_ids is None else {package.segment(segment_id).id for segment_id in segment_ids}
        self.package = package
        self.backend = backend
        self.segment_ids = tuple(segment_id for segment_id in every if segment_id in chosen)
        self._clock = clock or MonotonicClock()
        self._members: dict[str, tuple[str, ...]] = {}
        self._loaded: dict[str, Loaded] = {}
        units = list(self._load(merge and backend.merges))
        release_freed()
        self._units = {unit.id: unit for unit in order_segments(self.inputs, units)}
        self._plans: dict[int, tuple[_Step, ...]] = {}

    def _load(self, merge: bool) -> Iterator[Segment]:
        """Load the segments, merged where they may be, and yield what was loaded."""
        owed = [spec.name for spec in self.outputs]
        groups = run_together(self.package, self.segment_ids, owed) if merge else [(id_,) for id_ in self.segment_ids]
        for group in groups:
            for unit, members, loaded in load_group(self.package, group, self.backend):
                self._loaded[unit.id] = loaded
                self._members[unit.id] = members
                yield unit

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Tensors that a run must be given."""
        producers = self.package.producers
        mine = self._mine
        wanted = {spec.name for s in self.package.segments if s.id in mine for spec in s.inputs}
        return tuple(
            s for name, s in self.package.tensors.items() if name in wanted and producers.get(name) not in mine
        )

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Tensors that segments outside the chain read."""
        mine = self._mine
        outside = {spec.name for s in self.package.segments if s.id not in mine for spec in s.inputs}
        producers = self.package.producers
        return tuple(self.package.tensors[name] for name, by in producers.items() if name in outside and by in mine)

    @cached_property
    def exits(self) -> tuple[Exit, ...]:
        """The exits whose answers this chain produces, shallow to deep."""
        return tuple(candidate for candidate in self.package.exits if candidate.segment in self._mine)

    @cached_property
    def sole(self) -> Loaded | None:
        """What is loaded where the whole package runs in one piece; None where it is more, or only a part of it."""
        whole = len(self.segment_ids) == len(self.package.segments)
        return next(iter(self._loaded.values())) if whole and len(self._loaded) == 1 else None

    @cached_property
    def _mine(self) -> frozenset[str]:
        return frozenset(self.segment_ids)

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        cancel: CancelToken | None = None,
        on_exit: Callable[[ExitAnswer], bool] | None = None,
        least_exit: str | None = None,
    ) -> ChainResult:
        """Run until an exit is taken, the run is stopped, or all is done.

        Args:
            inputs: The tensors of `inputs`, by name.
            cancel: Stops the run from another thread, in the middle of a segment.
            on_exit: Called with each exit's answer as it is ready; True takes it and leaves the rest uncomputed.
            least_exit: Shallowest exit wanted; the heads of shallower ones are not run. None: the shallowest, or, when
                neither `cancel` nor `on_exit` could make use of a shallow answer, the deepest.
        Raises:
            InputError: The inputs don't fit.
            SegmentError: A segment failed.
            KeyError: There is no such exit.
        """
        check_inputs(self.inputs, inputs)
        if least_exit is not None:
            first_exit = self.package.exit_index(least_exit)
        else:
            first_exit = len(self.package.exits) - 1 if cancel is None and on_exit is None else 0
        return self.run_checked(inputs, cancel, on_exit, first_exit)

    def run_checked(
        self,
        inputs: Mapping[str, Array],
        cancel: CancelToken | None,
        on_exit: Callable[[ExitAnswer], bool] | None,
        first_exit: int = 0,
        between: Callable[[float], None] | None = None,
    ) -> ChainResult:
        """Do `run` with inputs that were checked already, the least exit given by its place, and a pause.

        Args:
            between: Called before each segment but the first with 0, and with the time lost [s] before a segment is
                run again that `cancel` interrupted; it may run this or another chain of the same device.
        """
        began_ns = self._clock.now_ns()
        values: dict[str, Value] = {name: self.backend.upload(array) for name, array in inputs.items()}
        times: list[SegmentTime] = []
        deepest: ExitAnswer | None = None
        cancelled = False
        try:
            for step in self._plan(first_exit):
                for part in step.parts:
                    if between is not None and times:
                        between(0.0)
                    self._run_part(part, values, cancel, began_ns, times, between)
                if step.exit is not None:
                    deepest = self._answer(step, step.exit, values, began_ns, times)
                    if on_exit is not None and on_exit(deepest):
                        break
        except RunCancelledError:
            cancelled = True
        owed = {spec.name: self.backend.download(values[spec.name]) for spec in self.outputs if spec.name in values}
        return ChainResult(deepest, owed, tuple(times), cancelled, self._since(began_ns))

    def _since(self, began_ns: int) -> float:
        return (self._clock.now_ns() - began_ns) / NS_PER_S

    def _run_part(
        self,
        part: _Part,
        values: dict[str, Value],
        cancel: CancelToken | None,
        began_ns: int,
        times: list[SegmentTime],
        between: Callable[[float], None] | None,
    ) -> None:
        reads = {name: values[name] for name in part.reads}
        while True:
            begin_s = self._since(began_ns)
            try:
                values.update(part.loaded.run(reads, cancel))
                break
            except RunCancelledError:
                if between is None or cancel is None or not cancel.resume():
                    raise
                between(self._since(began_ns) - begin_s)
        for name in part.release:
            del values[name]
        device = self.backend.device
        times += [SegmentTime(segment_id, device, begin_s, 0.0) for segment_id in part.segment_ids[:-1]]
        times.append(SegmentTime(part.segment_ids[-1], device, begin_s, self._since(began_ns) - begin_s))

    def _answer(
        self, step: _Step, taken: Exit, values: Mapping[str, Value], began_ns: int, times: list[SegmentTime]
    ) -> ExitAnswer:
        outputs = {name: self.backend.download(values[name]) for name in step.hands_out}
        confidence = None if taken.confidence is None else float(outputs[taken.confidence].min())
        elapsed_s = self._since(began_ns)
        return ExitAnswer(taken.id, step.index, outputs[taken.answer], confidence, outputs, elapsed_s, tuple(times))

    def _plan(self, first_exit: int) -> tuple[_Step, ...]:
        plan = self._plans.get(first_exit)
        if plan is None:
            plan = self._plans[first_exit] = self._make_plan(first_exit)
        return plan

    def _make_plan(self, first_exit: int) -> tuple[_Step, ...]:
        done: set[str] = set()
        groups: list[tuple[Exit | None, list[str]]] = [
            (taken, self._missing(self.package.needed(taken.id), done))
            for taken in self.package.exits[first_exit:]
            if taken.segment in self._mine
        ]
        owed = {segment_id for spec in self.outputs for segment_id in self._ancestors(spec.name)}
        groups.append((None, self._missing(owed, done)))
        order = [self._units[unit_id] for _, unit_ids in groups for unit_id in unit_ids]
        keep = {spec.name for spec in self.outputs}
        keep.update(name for taken in self.exits for name in self.package.exit_outputs(taken.id))
        last_use = {spec.name: unit.id for unit in order for spec in (*unit.outputs, *unit.inputs)}
        return tuple(
            _Step(
                tuple(self._part(unit_id, last_use, keep) for unit_id in unit_ids),
                taken,
                0 if taken is None else self.package.exit_index(taken.id),
                () if taken is None else self.package.exit_outputs(taken.id),
            )
            for taken, unit_ids in groups
            if taken is not None or unit_ids
        )

    def _missing(self, segment_ids: Collection[str], done: set[str]) -> list[str]:
        """Return what must be run for `segment_ids` and is not in `done`, in running order."""
        missing = [unit for unit in self._units if unit not in done and self._members[unit][-1] in segment_ids]
        done.update(missing)
        return missing

    def _ancestors(self, tensor: str) -> set[str]:
        maker = self.package.producers.get(tensor)
        if maker is None or maker not in self._mine:
            return set()
        return {maker}.union(*(self._ancestors(spec.name) for spec in self.package.segment(maker).inputs))

    def _part(self, unit_id: str, last_use: Mapping[str, str], keep: set[str]) -> _Part:
        release = tuple(name for name, user in last_use.items() if user == unit_id and name not in keep)
        reads = tuple(spec.name for spec in self._units[unit_id].inputs)
        return _Part(self._members[unit_id], self._loaded[unit_id], reads, release)
