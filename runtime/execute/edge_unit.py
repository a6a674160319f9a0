"""Segments of a spread model that run on an edge server, and the same ones on a device here, for when no answer comes.

A server runs a range of the package's order. So what a placement gives to a server falls into ranges, each one request;
no tensor may cross the link twice: a range that reads what another range of the same server made is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from devices.backend import CancelToken
from devices.chain import Chain, ExitAnswer
from devices.errors import InputError
from devices.package.graph import Package
from devices.tensor import Array, TensorSpec, check_finite, check_inputs
from offload.outcome import Outcome
from runtime.execute.edge import EdgeDevice
from runtime.execute.latency import LatencyWindow

_MARGIN, _HAND_OVER_S = 1.5, 0.002  # a spare is measured seldom, and its device's thread must be woken


class Spare:
    """A range's segments on a device of this board.

    Args:
        chain: The segments.
        device: Name of the device.
    """

    def __init__(self, chain: Chain, device: str) -> None:
        self.chain = chain
        self.device = device
        places = {each.segment: index for index, each in enumerate(chain.package.exits)}
        self._exits = [places[each.segment] for each in chain.exits]
        self._to_exit = {index: LatencyWindow() for index in self._exits}
        self.to_end = LatencyWindow()

    def measure(self, inputs: Mapping[str, Array]) -> None:
        """Run it to its end once and note the times."""

        def note(answer: ExitAnswer) -> bool:
            self.note(answer.index, answer.elapsed_s)
            return False

        self.to_end.add(self.chain.run_checked(inputs, CancelToken(), note).elapsed_s)

    def note(self, index: int, elapsed_s: float) -> None:
        """Note that the exit at place `index` answered `elapsed_s` [s] after the start."""
        self._to_exit[index].add(elapsed_s)

    def p99_s(self, first_exit: int) -> float:
        """Return the time to the shallowest exit from `first_exit` on; to the end where none answers here [s]."""
        found = [index for index in self._exits if index >= first_exit]
        return self._to_exit[found[0]].p99_s if found else self.to_end.p99_s

    def deepest_p99_s(self, first_exit: int, last_exit: int, left_s: float) -> float | None:
        """Return the time to keep for the deepest wanted exit that fits into `left_s` [s]; None where none does."""
        found = [index for index in self._exits if first_exit <= index <= last_exit]
        times_s = [self._to_exit[index].p99_s for index in found] or [self.to_end.p99_s]
        careful_s = [_MARGIN * time_s + _HAND_OVER_S for time_s in times_s]
        return next((time_s for time_s in reversed(careful_s) if time_s <= left_s), None)


@dataclass(frozen=True, slots=True, eq=False)
class EdgeUnit:
    """A range of segments on an edge server.

    Args:
        package: The package; the server serves the same version.
        segment_ids: The range, in the package's order.
        edge: The server.
        reads, makes: Tensors that travel there, and that come back: what others read and what exits hand out.
        spare: The same segments here; None: nothing here can take their place.
        busy: How long answers take, link and all.
    """

    package: Package
    segment_ids: tuple[str, ...]
    edge: EdgeDevice
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    spare: Spare | None
    busy: LatencyWindow = field(default_factory=LatencyWindow)

    @property
    def device(self) -> str:
        """Name of the edge device."""
        return self.edge.name

    @property
    def owed(self) -> tuple[str, ...]:
        """Names of the tensors that other segments read."""
        return tuple(spec.name for spec in _made(self.package, self.segment_ids))

    @property
    def exits(self) -> tuple[int, ...]:
        """Places of the exits within the range."""
        return tuple(i for i, each in enumerate(self.package.exits) if each.segment in self.segment_ids)

    def zeros(self) -> dict[str, Array]:
        """Return inputs of zeros."""
        specs = [self.package.tensors[name] for name in self.reads]
        return {s.name: np.zeros([n if isinstance(n, int) else 1 for n in s.shape], dtype=s.dtype) for s in specs}

    def check(self, outcome: Outcome) -> int | None:
        """Return the place of the exit that an answer comes from, None where the range holds none.

        Raises:
            InputError: It is not what the range makes: a server may be another's, or lie.
        """
        index = None
        names = list(self.owed)
        if self.exits:
            known = {self.package.exits[place].id: place for place in self.exits}
            if outcome.exit_id not in known:
                raise InputError(f"{outcome.endpoint} answered by exit {outcome.exit_id!r}: must be one of {[*known]}")
            index = known[outcome.exit_id]
            names += [name for name in self.package.exit_outputs(outcome.exit_id) if name not in names]
            if index != self.exits[-1]:  # it was stopped on its way: the rest is not there
                names = [name for name in names if name in outcome.outputs or name not in self.owed]
        given = {name: outcome.outputs[name] for name in names if name in outcome.outputs}
        check_inputs([self.package.tensors[name] for name in names], given)
        check_finite(given)
        return index


def edge_ranges(package: Package, placement: Mapping[str, str], edge: str) -> tuple[tuple[str, ...], ...]:
    """Return what a placement gives to an edge server, as ranges of the package's order.

    Raises:
        ValueError: A tensor would cross the link twice.
    """
    ranges: list[list[str]] = []
    before = None
    for segment in package.segments:
        if placement[segment.id] == edge:
            if before != edge:
                ranges.append([])
            ranges[-1].append(segment.id)
        before = placement[segment.id]
    of = {segment_id: number for number, ids in enumerate(ranges) for segment_id in ids}
    for segment in package.segments:
        for spec in segment.inputs:
            maker = package.producers.get(spec.name)
            if segment.id in of and maker in of and of[maker] != of[segment.id]:
                raise ValueError(
                    f"{segment.id!r} and {maker!r} of {package.name!r} run on {edge} with other segments between them "
                    f"that run elsewhere: tensor {spec.name!r} would cross the link twice"
                )
    return tuple(map(tuple, ranges))


def edge_unit(package: Package, segment_ids: Sequence[str], edge: EdgeDevice, spare: Spare | None) -> EdgeUnit:
    """Return a range of segments on an edge server."""
    mine = set(segment_ids)
    made = {spec.name for one in segment_ids for spec in package.segment(one).outputs}
    reads = dict.fromkeys(spec.name for one in segment_ids for spec in package.segment(one).inputs)
    answers = [name for each in package.exits if each.segment in mine for name in package.exit_outputs(each.id)]
    owed = [spec.name for spec in _made(package, segment_ids)]
    makes = tuple(dict.fromkeys([*owed, *answers]))
    return EdgeUnit(package, tuple(segment_ids), edge, tuple(n for n in reads if n not in made), makes, spare)


def _made(package: Package, segment_ids: Sequence[str]) -> list[TensorSpec]:
    mine = set(segment_ids)
    outside = {spec.name for s in package.segments if s.id not in mine for spec in s.inputs}
    return [spec for one in segment_ids for spec in package.segment(one).outputs if spec.name in outside]
