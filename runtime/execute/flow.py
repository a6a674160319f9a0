"""One request on several devices: a unit begins as soon as what it reads is there; exits answer as they finish.

Exits are decided from shallow to deep, as their thresholds were calibrated: one that finishes before a shallower one
waits for its turn, unless the deadline falls, when the deepest finished one answers. The last exit is the whole model's
answer and waits for none. What lies behind the next exit may already run on a device with nothing else to do; it is
stopped as soon as an exit is taken.

What runs on an edge server is sent once the exits before it have been asked and none was sure: what they save is a
transmission. A server is asked for a whole range of segments and tells the deepest exit in it alone. Its segments may
also run here in the meantime, as a spare; what is there first counts.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from devices.backend import CancelToken, Value
from devices.chain import ExitAnswer, SegmentTime
from devices.clock import NS_PER_S, Clock
from devices.errors import RunCancelledError, SegmentError
from devices.tensor import Array
from runtime.execute.edge_unit import EdgeUnit
from runtime.execute.spread import Spread, Unit

_HOST = ""  # stands for host memory where devices are named


class Taker(Protocol):
    """Who decides on exits."""

    def offer(self, answer: ExitAnswer) -> None:
        """Take note that an exit has finished, be it out of turn."""
        ...

    def take(self, answer: ExitAnswer) -> bool:
        """Decide on the next exit in turn; return True when the run must end with it."""
        ...

    def fail(self, reason: str) -> None:
        """End the run: no deeper exit can be had."""
        ...


class Flow:
    """One run over a `Spread`.

    Args:
        spread: The model.
        inputs: The checked input tensors.
        token: Stops it on every device.
        first_exit: Place of the shallowest exit wanted.
        taker: Decides on exits.
        post: Has `run(place)` called on the device of that unit; gets the unit's place and rank. A unit of an edge
            server is to be sent: `sends` tells what, and `replied`, `unanswered` or `run_spare` how it goes on.
        clock: Times the units.
        last_exit: Place of the deepest exit wanted; None: the model's.
    """

    def __init__(
        self,
        spread: Spread,
        inputs: Mapping[str, Array],
        token: CancelToken,
        first_exit: int,
        taker: Taker,
        post: Callable[["Flow", int, int], None],
        clock: Clock,
        last_exit: int | None = None,
    ) -> None:
        self._walk = walk = spread.walk(first_exit, last_exit)
        self._package = spread.package
        self._token = token
        self._taker = taker
        self._post = post
        self._clock = clock
        self._values: dict[str, dict[str, Value]] = {name: {_HOST: array} for name, array in inputs.items()}
        self._missing = list(walk.missing)
        self._unread = {name: len(places) for name, places in walk.readers.items()}
        self._times: list[SegmentTime] = []
        self._finished: dict[int, ExitAnswer] = {}
        self._untold: set[int] = set()  # exits that an edge server passed by
        self._held: list[int] = []  # what is ready to be sent once the exits before it have been asked
        self._settled: set[int] = set()  # units of edge servers whose tensors are there
        self._spares: dict[int, CancelToken] = {}
        self._sent: dict[int, dict[str, Array]] = {}
        self._turn = first_exit
        self._failed_from: tuple[int, str] | None = None
        self._began_ns: int | None = None
        self._lock = threading.Lock()  # over values and counts
        self._deciding = threading.Lock()

    def begin(self) -> None:
        """Post the units that wait for nothing."""
        self._go_on([place for place, missing in enumerate(self._walk.missing) if missing == 0], [])

    @property
    def token(self) -> CancelToken:
        """What stops the run."""
        return self._token

    @property
    def last_exit(self) -> int:
        """Place of the deepest exit wanted."""
        return self._walk.last_exit

    def unit(self, place: int) -> Unit | EdgeUnit:
        """Return the unit at a place."""
        return self._walk.units[place]

    def ahead_s(self, place: int) -> float:
        """Return what has to run after a unit until there is an answer, by p99 [s]; 0 where it answers itself."""
        walk = self._walk
        if walk.exits[place]:
            return 0.0
        later = (
            each.busy.p99_s for each, rank in zip(walk.units, walk.ranks, strict=True) if rank == walk.ranks[place]
        )
        return sum(later) - walk.units[place].busy.p99_s

    def run(self, place: int) -> None:
        """Run one unit on the calling thread, post what it was waited for by, and decide on what it answers."""
        unit = self._walk.units[place]
        if self._token.cancelled or isinstance(unit, EdgeUnit):
            return
        try:
            begin_s = self._since()
            made = unit.loaded.run(self._gather(unit), self._token)
            elapsed_s = self._since() - begin_s
        except RunCancelledError:
            return
        except SegmentError as error:
            self._fail(place, str(error))
            return
        unit.busy.add(elapsed_s)
        kept = {name: {unit.device: value} for name, value in made.items()}
        for name in made.keys() & self._walk.crosses:
            kept[name][_HOST] = unit.backend.download(made[name])
        times = [SegmentTime(one, unit.device, begin_s, 0.0) for one in unit.segment_ids[:-1]]
        times.append(SegmentTime(unit.segment_ids[-1], unit.device, begin_s, elapsed_s))
        so_far, ready = self._take_in(unit, kept, times)
        answers = [self._answer(index, kept, begin_s + elapsed_s, so_far) for index in self._walk.exits[place]]
        self._go_on(ready, answers)

    def sends(self, place: int) -> tuple[dict[str, Array], float]:
        """Return the tensors that a unit of an edge server reads, and the time since the run began [s]."""
        begin_s = self._since()
        with self._lock:
            if place not in self._sent:  # kept for the spare: the tensors themselves go once an answer is there
                self._sent[place] = {name: self._values[name][_HOST] for name in self._walk.units[place].reads}
            return self._sent[place], begin_s

    def replied(self, place: int, index: int | None, outputs: Mapping[str, Array], begin_s: float) -> None:
        """Take in a server's checked answer.

        Args:
            index: Place of the exit that answered, None where the range holds none.
            outputs: What came back.
            begin_s: When it was sent, since the run began [s].
        """
        unit = self._walk.units[place]
        elapsed_s = self._since() - begin_s
        if self._token.cancelled or not isinstance(unit, EdgeUnit):
            return
        kept = {name: {_HOST: array} for name, array in outputs.items()}
        times = [SegmentTime(one, unit.device, begin_s, 0.0) for one in unit.segment_ids[:-1]]
        times.append(SegmentTime(unit.segment_ids[-1], unit.device, begin_s, elapsed_s))
        if index is not None and index != unit.exits[-1]:  # stopped on its way: no more will come
            with self._lock:
                so_far = (*self._times, *times)
            if index in self._walk.exits[place]:
                self._taker.offer(self._answer(index, kept, begin_s + elapsed_s, so_far))
            return
        if not self._settle(place):
            return
        unit.busy.add(elapsed_s)
        so_far, ready = self._take_in(unit, kept, times)
        answers = []
        if index is not None and index in self._walk.exits[place]:
            answers = [self._answer(index, kept, begin_s + elapsed_s, so_far)]
            self._untold.update(self._walk.exits[place])
        elif index is not None and self._walk.exits[place]:  # a deeper one than was asked for
            answers = [self._answer(index, kept, begin_s + elapsed_s, so_far)]
        self._go_on(ready, answers)

    def unanswered(self, place: int, reason: str) -> None:
        """Take note that no answer will come from an edge server and that nothing here takes its place."""
        if place not in self._settled and not self._token.cancelled:
            self._fail(place, reason)

    def run_spare(self, place: int, between: Callable[[float], None] | None = None) -> None:
        """Run the segments of an edge server's unit on the calling thread, unless its answer is there.

        Args:
            between: Called before each segment but the first, as of `Chain.run_checked`.
        """
        unit = self._walk.units[place]
        if not isinstance(unit, EdgeUnit) or unit.spare is None or self._token.cancelled or place in self._settled:
            return
        spare, own = unit.spare, CancelToken()
        inputs, begin_s = self.sends(place)
        with self._lock:
            so_far = tuple(self._times)
            self._spares[place] = own
        self._token.bind(own.cancel)
        wanted = self._walk.exits[place]

        def on_exit(answer: ExitAnswer) -> bool:
            spare.note(answer.index, answer.elapsed_s)
            if answer.index in wanted and place not in self._settled:
                times = (*so_far, *(replace(time, begin_s=begin_s + time.begin_s) for time in answer.segments))
                self._go_on([], [replace(answer, elapsed_s=begin_s + answer.elapsed_s, segments=times)])
            return self._token.cancelled

        try:
            result = spare.chain.run_checked(
                inputs, own, on_exit, min(wanted, default=len(self._package.exits)), between
            )
        except SegmentError as error:
            self._fail(place, str(error))
            return
        finally:
            self._token.unbind(own.cancel)
        if result.cancelled or self._token.cancelled or not self._settle(place):
            return
        spare.to_end.add(result.elapsed_s)
        times = [replace(time, begin_s=begin_s + time.begin_s) for time in result.segments]
        kept = {name: {_HOST: array} for name, array in result.outputs.items()}
        self._go_on(self._take_in(unit, kept, times)[1], [])

    def _settle(self, place: int) -> bool:
        """Claim a unit of an edge server for whoever has its tensors first; stop a spare that still runs."""
        with self._lock:
            if place in self._settled:
                return False
            self._settled.add(place)
            spare = self._spares.get(place)
        if spare is not None:
            spare.cancel()
        return True

    def _go_on(self, ready: list[int], answers: list[ExitAnswer]) -> None:
        """Post what is ready here, decide on exits, then post what is to be sent."""
        walk = self._walk
        for later in ready:
            if isinstance(walk.units[later], EdgeUnit):
                with self._lock:
                    self._held.append(later)
            else:
                self._post(self, later, walk.ranks[later])
        for answer in answers:
            self._taker.offer(answer)
        if answers:
            with self._deciding:
                self._decide(answers)
        if not self._held:
            return
        with self._lock:
            free = [later for later in self._held if walk.ranks[later] <= self._turn]
            self._held = [later for later in self._held if later not in free]
        for later in free:
            if not self._token.cancelled:
                self._post(self, later, walk.ranks[later])

    def _since(self) -> float:
        now_ns = self._clock.now_ns()
        with self._lock:
            if self._began_ns is None:
                self._began_ns = now_ns
            return (now_ns - self._began_ns) / NS_PER_S

    def _gather(self, unit: Unit) -> dict[str, Value]:
        """Return what a unit reads, brought to its device once for all that read it there."""
        gathered = {}
        for name in unit.reads:
            places = self._values[name]
            value = places.get(unit.device)
            if value is None:
                value = places[unit.device] = unit.backend.upload(places[_HOST])
            gathered[name] = value
        return gathered

    def _take_in(
        self, unit: Unit | EdgeUnit, kept: Mapping[str, dict[str, Value]], times: list[SegmentTime]
    ) -> tuple[tuple[SegmentTime, ...], list[int]]:
        """Note what a unit made; return all times so far and the units it was the last to be waited for by."""
        walk = self._walk
        ready: list[int] = []
        with self._lock:
            self._values.update(kept)
            self._times += times
            for name in unit.reads:
                self._unread[name] -= 1
                if not self._unread[name]:
                    del self._values[name]
            for reader in (reader for name in kept for reader in walk.readers.get(name, ())):
                self._missing[reader] -= 1
                if not self._missing[reader]:
                    ready.append(reader)
            so_far = tuple(sorted(self._times, key=lambda time: time.begin_s))
        return so_far, sorted(ready, key=walk.ranks.__getitem__)

    def _answer(
        self, index: int, kept: Mapping[str, Mapping[str, Value]], finished_s: float, times: tuple[SegmentTime, ...]
    ) -> ExitAnswer:
        taken = self._package.exits[index]
        outputs: dict[str, Array] = {name: kept[name][_HOST] for name in self._package.exit_outputs(taken.id)}
        confidence = None if taken.confidence is None else float(outputs[taken.confidence].min())
        return ExitAnswer(taken.id, index, outputs[taken.answer], confidence, outputs, finished_s, times)

    def _decide(self, answers: list[ExitAnswer]) -> None:
        self._finished.update((answer.index, answer) for answer in answers)
        last = max((index for index in self._finished if index >= self._walk.last_exit), default=None)
        if last is not None:
            self._taker.take(self._finished[last])
            return
        while self._turn in self._finished or self._turn in self._untold:
            if self._turn in self._finished and self._taker.take(self._finished[self._turn]):
                return
            self._turn += 1
        self._give_up()

    def _fail(self, place: int, reason: str) -> None:
        """Take note that no exit behind a unit can be had; shallower ones still can."""
        first = self._walk.ranks[place]
        with self._deciding:
            if self._failed_from is None or first < self._failed_from[0]:
                self._failed_from = (first, reason)
            self._give_up()

    def _give_up(self) -> None:
        if self._failed_from is not None and self._turn >= self._failed_from[0]:
            self._taker.fail(self._failed_from[1])
