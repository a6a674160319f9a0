"""A range of a model's segments, loaded once a worker, and run for one or several jobs at a time.

Jobs are run together, stacked along the first axis, where every tensor's first size is open, where a trial showed the
same answers as one by one, and where it costs less time a job.
"""

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct

from devices.backend import Backend, CancelToken
from devices.chain import Chain
from devices.clock import Clock
from devices.errors import DeviceError, RunCancelledError
from devices.package import Package
from devices.tensor import TensorSpec, check_finite, check_inputs
from offload.frames import Array
from offload.server.times import BatchTimes

_LOG = logging.getLogger("headway.edge")
_WARM_UP_RUNS = 7
_BATCH_SIZES = (2, 4, 8, 16)
_BATCHED_BELOW_S = 0.05  # a longer run is not tried in batches
_TRIAL_RUNS = 300  # times the median run, the trial of batches is stopped
_LEAST_TRIAL_S = 0.2
_WORTH = 0.85  # a batch of twice the size must save so much time a job: a noisy trial shows less


class Computed(Struct, frozen=True):
    """What a run came to: tensors by name, the exit that gave the answer, and whether it was stopped."""

    outputs: Mapping[str, Array]
    exit_id: str | None
    cancelled: bool


class _Run(Protocol):
    """Segments on one worker."""

    inputs: tuple[TensorSpec, ...]

    def __call__(self, inputs: Mapping[str, Array], token: CancelToken | None) -> Computed: ...


class _ChainRun:
    """Several segments, or one with several exits."""

    def __init__(self, chain: Chain) -> None:
        self.inputs = chain.inputs
        self._chain = chain
        self._deepest = len(chain.package.exits) - 1

    def __call__(self, inputs: Mapping[str, Array], token: CancelToken | None) -> Computed:
        result = self._chain.run_checked(inputs, token, None, 0 if token else self._deepest)
        if result.exit is None:
            return Computed(result.outputs, None, result.cancelled)
        return Computed({**result.outputs, **result.exit.outputs}, result.exit.exit_id, result.cancelled)


class _SegmentRun:
    """One segment with one exit or none, without the chain's times and steps: half the cost of a run that copies."""

    def __init__(self, package: Package, backend: Backend, segment_id: str) -> None:
        segment = package.segment(segment_id)
        self.inputs = segment.inputs
        exits = [item for item in package.exits if item.segment == segment_id]
        self._exit_id = exits[0].id if exits else None
        read = {spec.name for item in package.segments if item.id != segment_id for spec in item.inputs}
        read |= set(package.exit_outputs(exits[0].id) if exits else ())
        self._owed = [spec.name for spec in segment.outputs if spec.name in read]
        self._backend = backend
        self._loaded = backend.load(segment, package.model(segment_id))
        probe = np.zeros(1, np.float32)
        here = backend.upload(probe) is probe and backend.download(probe) is probe
        self._as_it_is = here and len(self._owed) == len(segment.outputs)

    def __call__(self, inputs: Mapping[str, Array], token: CancelToken | None) -> Computed:
        try:
            if self._as_it_is:
                return Computed(self._loaded.run(inputs, token), self._exit_id, False)
            upload, download = self._backend.upload, self._backend.download
            values = self._loaded.run({name: upload(array) for name, array in inputs.items()}, token)
        except RunCancelledError:
            return Computed({}, None, True)
        return Computed({name: download(values[name]) for name in self._owed}, self._exit_id, False)


def _run(package: Package, backend: Backend, segment_ids: Sequence[str], clock: Clock) -> _Run:
    if len(segment_ids) == 1 and sum(item.segment == segment_ids[0] for item in package.exits) <= 1:
        return _SegmentRun(package, backend, segment_ids[0])
    return _ChainRun(Chain(package, backend, segment_ids, clock=clock))


class ServedRange:
    """One range of a package's segments, loaded once a worker.

    Args:
        package, segment_ids: What it runs.
        backends: One a worker.
        clock: Times the runs.
        batch: Whether to try running several jobs together.
    Raises:
        DeviceError: a segment cannot be loaded or run.
    """

    def __init__(
        self, package: Package, segment_ids: Sequence[str], backends: Sequence[Backend], clock: Clock, batch: bool
    ) -> None:
        self.package = package
        self.times = BatchTimes()
        self.batch_sizes: tuple[int, ...] = ()
        """Sizes above 1 that are worth it, ascending."""
        self.ran_s = -math.inf
        """When a run last began [s]."""
        self._clock = clock
        self._runs: list[_Run] = [_run(package, backend, segment_ids, clock) for backend in backends]
        self._inputs = self._runs[0].inputs
        self._exits = sum(item.segment in segment_ids for item in package.exits)
        self._wanted = [(spec.name, np.dtype(spec.dtype), spec.shape) for spec in self._inputs]
        for worker in range(len(self._runs)):
            self._warm_up(worker)
        if batch and _stackable(self._inputs) and self.times.alone.p50_s < _BATCHED_BELOW_S:
            self._try_batches()

    @property
    def answers_early(self) -> bool:
        """Whether a run that is stopped may have an answer all the same: there is a shallower exit."""
        return self._exits > 1

    @property
    def job_us(self) -> int:
        """Least time that one job takes of a worker, in the batches that are worth it [us]."""
        size = self.batch_sizes[-1] if self.batch_sizes else 1
        return round(1e6 * self.times.of(size).mean_s / size)

    @property
    def batch_us(self) -> int:
        """Time that the largest batch worth it takes [us]."""
        return round(1e6 * self.times.of(self.batch_sizes[-1] if self.batch_sizes else 1).mean_s)

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Refuse inputs that do not fit.

        Raises:
            InputError: a name, dtype or shape is wrong, or a value is not finite.
        """
        fits = len(inputs) == len(self._wanted)
        for name, dtype, shape in self._wanted:
            array = inputs.get(name)
            if array is None or array.shape != shape or array.dtype != dtype:
                fits = False
        if not fits:
            check_inputs(self._inputs, inputs)  # the slow way, which knows open sizes and says what is wrong
        check_finite(inputs)

    def took(self, size: int, compute_s: float) -> None:
        """Take in how long a run of so many jobs took [s], if that size is one whose times are kept."""
        if size > 1:
            if size != min((item for item in self.batch_sizes if item >= size), default=size):
                return
            self.times.of(size).add(compute_s)
        else:
            self.times.alone.add(compute_s)

    def run(self, worker: int, inputs: Mapping[str, Array], token: CancelToken | None) -> Computed:
        """Compute checked inputs on a worker.

        Raises:
            SegmentError: a segment failed.
        """
        return self._runs[worker](inputs, token)

    def run_together(
        self, worker: int, many: Sequence[Mapping[str, Array]], token: CancelToken | None
    ) -> list[Computed]:
        """Compute several checked inputs at once.

        Raises:
            SegmentError: a segment failed.
        """
        stacked = {name: np.concatenate([inputs[name] for inputs in many]) for name in many[0]}
        whole = self.run(worker, stacked, token)
        ends = np.cumsum([len(next(iter(inputs.values()))) for inputs in many]).tolist()
        return [
            Computed({name: array[begin:end] for name, array in whole.outputs.items()}, whole.exit_id, whole.cancelled)
            for begin, end in zip([0, *ends[:-1]], ends, strict=True)
        ]

    def _warm_up(self, worker: int) -> None:
        inputs = {spec.name: _zeros(spec) for spec in self._inputs}
        self.run(worker, inputs, None)  # the first run allocates: its time says nothing
        for _ in range(_WARM_UP_RUNS):
            began_s = self._clock.now_s()
            self.run(worker, inputs, CancelToken())
            self.times.alone.add(self._clock.now_s() - began_s)

    def _try_batches(self) -> None:
        """Find out which batch sizes are worth it; stopped where the model's time depends on its input too much."""
        token = CancelToken()
        stop = threading.Timer(max(_LEAST_TRIAL_S, _TRIAL_RUNS * self.times.alone.p50_s), token.cancel)
        stop.start()
        try:
            self.batch_sizes = self._worth_it(token)
        except (DeviceError, ValueError) as error:
            _LOG.info(
                "%s is not run in batches: %s",
                self.package.name,
                error,
                extra={"code": "unbatched", "model": self.package.name},
            )
        finally:
            stop.cancel()
            stop.join()

    def _worth_it(self, token: CancelToken) -> tuple[int, ...]:
        rng = np.random.default_rng(0)
        samples = [{spec.name: _sample(spec, rng) for spec in self._inputs} for _ in range(_BATCH_SIZES[-1])]
        if not self._same(samples[:2], token):
            _LOG.info(
                "%s is not run in batches: its answers depend on the neighbours, or on time",
                self.package.name,
                extra={"code": "unbatched", "model": self.package.name},
            )
            return ()
        sizes: tuple[int, ...] = ()
        best_s = self.times.alone.p50_s
        for size in _BATCH_SIZES:
            for _ in range(_WARM_UP_RUNS):
                began_s = self._clock.now_s()
                self.run_together(0, samples[:size], token)
                self.times.of(size).add(self._clock.now_s() - began_s)
            each_s = self.times.of(size).p50_s / size
            if token.cancelled or each_s > _WORTH * best_s:
                break
            best_s = each_s
            sizes = (*sizes, size)
        return sizes

    def _same(self, samples: Sequence[Mapping[str, Array]], token: CancelToken) -> bool:
        together = self.run_together(0, samples, token)
        alone = [self.run(0, inputs, token) for inputs in samples]
        return not token.cancelled and all(
            mine.outputs.keys() == theirs.outputs.keys()
            and all(_close(mine.outputs[name], theirs.outputs[name]) for name in mine.outputs)
            for mine, theirs in zip(together, alone, strict=True)
        )


def _stackable(specs: Sequence[TensorSpec]) -> bool:
    """Whether the first size of every tensor is open, by one name, and nothing else is."""
    if not specs or any(not spec.shape for spec in specs):
        return False
    names = {spec.shape[0] for spec in specs}
    inner = all(isinstance(size, int) for spec in specs for size in spec.shape[1:])
    return inner and len(names) == 1 and isinstance(names.pop(), str)


def _shape(spec: TensorSpec) -> list[int]:
    return [size if isinstance(size, int) else 1 for size in spec.shape]


def _zeros(spec: TensorSpec) -> Array:
    return np.zeros(_shape(spec), spec.dtype)


def _sample(spec: TensorSpec, rng: np.random.Generator) -> Array:
    if np.dtype(spec.dtype).kind != "f":
        return _zeros(spec)
    return rng.standard_normal(_shape(spec)).astype(spec.dtype)


def _close(mine: Array, theirs: Array) -> bool:
    return mine.shape == theirs.shape and bool(np.allclose(mine, theirs, rtol=1e-3, atol=1e-4, equal_nan=True))
