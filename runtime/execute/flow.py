"""One request on several devices: a unit begins as soon as what it reads is there; exits answer as they finish.

Exits are decided from shallow to deep, as their thresholds were calibrated: one that finishes before a shallower one
waits for its turn, unless the deadline falls, when the deepest finished one answers. The last exit is the whole model's
answer and waits for none. What lies behind the next exit may already run on a device with nothing else to do; it is
stopped as soon as an exit is taken.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from devices.backend import CancelToken, Value
from devices.chain import ExitAnswer, SegmentTime
from devices.clock import NS_PER_S, Clock
from devices.errors import RunCancelledError, SegmentError
from devices.tensor import Array
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
        post: Has `run(place)` called on the device of that unit; gets the unit's place and rank.
        clock: Times the units.
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
    ) -> None:
        self._walk = walk = spread.walk(first_exit)
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
        self._turn = first_exit
        self._failed_from: tuple[int, str] | None = None
        self._began_ns: int | None = None
        self._lock = threading.Lock()  # over values and counts
        self._deciding = threading.Lock()

    def begin(self) -> None:
        """Post the units that wait for nothing."""
        for place, missing in enumerate(self._walk.missing):
            if missing == 0:
                self._post(self, place, self._walk.ranks[place])

    def unit(self, place: int) -> Unit:
        """Return the unit at a place."""
        return self._walk.units[place]

    def run(self, place: int) -> None:
        """Run one unit on the calling thread, post what it was waited for by, and decide on what it answers."""
        if self._token.cancelled:
            return
        unit = self._walk.units[place]
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
        answers, ready = self._take_in(place, unit, made, begin_s, elapsed_s)
        for later in ready:
            self._post(self, later, self._walk.ranks[later])
        for answer in answers:
            self._taker.offer(answer)
        if answers:
            with self._deciding:
                self._decide(answers)

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
        self, place: int, unit: Unit, made: Mapping[str, Value], begin_s: float, elapsed_s: float
    ) -> tuple[list[ExitAnswer], list[int]]:
        """Note what a unit made; return the exits it completes and the units it was the last to be waited for by."""
        walk = self._walk
        kept = {name: {unit.device: value} for name, value in made.items()}
        for name in made.keys() & walk.crosses:
            kept[name][_HOST] = unit.backend.download(made[name])
        ready: list[int] = []
        with self._lock:
            self._values.update(kept)
            self._times += [SegmentTime(one, unit.device, begin_s, 0.0) for one in unit.segment_ids[:-1]]
            self._times.append(SegmentTime(unit.segment_ids[-1], unit.device, begin_s, elapsed_s))
            for name in unit.reads:
                self._unread[name] -= 1
                if not self._unread[name]:
                    del self._values[name]
            for reader in (reader for name in made for reader in walk.readers.get(name, ())):
                self._missing[reader] -= 1
                if not self._missing[reader]:
                    ready.append(reader)
            times = tuple(sorted(self._times, key=lambda time: time.begin_s))
        finished_s = begin_s + elapsed_s
        answers = [self._answer(index, kept, finished_s, times) for index in walk.exits[place]]
        return answers, sorted(ready, key=walk.ranks.__getitem__)

    def _answer(
        self, index: int, kept: Mapping[str, Mapping[str, Value]], finished_s: float, times: tuple[SegmentTime, ...]
    ) -> ExitAnswer:
        taken = self._package.exits[index]
        outputs: dict[str, Array] = {name: kept[name][_HOST] for name in self._package.exit_outputs(taken.id)}
        confidence = None if taken.confidence is None else float(outputs[taken.confidence].min())
        return ExitAnswer(taken.id, index, outputs[taken.answer], confidence, outputs, finished_s, times)

    def _decide(self, answers: list[ExitAnswer]) -> None:
        self._finished.update((answer.index, answer) for answer in answers)
        last = self._finished.get(len(self._package.exits) - 1)
        if last is not None:
            self._taker.take(last)
            return
        while self._turn in self._finished:
            if self._taker.take(self._finished[self._turn]):
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
