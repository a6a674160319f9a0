"""The models of an edge server: packages loaded, warmed up, and run for one job at a time a worker.

A job asks for a range of segments; each range is a chain of its own, made when first asked for and kept for the most
recent few. A job whose deadline falls while it runs answers with the deepest exit that was finished by then.
"""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from devices.backend import Backend
from devices.chain import Chain, ChainResult
from devices.clock import Clock
from devices.errors import DeviceError, InputError
from devices.package import Package
from devices.tensor import check_finite
from offload.edf import Job
from offload.errors import ServerError, WireError
from offload.frames import Array
from offload.wire import Code, Reply, Request

Range = tuple[str, str]
"""First and last segment, both included, in the package's order."""

_WARM_UP_RUNS = 5
_KEPT_RANGES = 8
_KEPT_TIMES = 200
_REFRESH = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one job: the reply, still without the server's load, and its tensors."""

    reply: Reply
    outputs: Mapping[str, Array] = field(default_factory=dict)


class Times:
    """The last computation times of one range of segments."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque(maxlen=_KEPT_TIMES)
        self._added = 0
        self._lock = threading.Lock()
        self.mean_s = 0.0
        """Mean of the last runs [s]."""
        self.p99_s = float("inf")
        """99th percentile of the last runs, brought up to date every few runs [s]; infinite before the first."""

    def add(self, time_s: float) -> None:
        """Take in one run's time [s]."""
        with self._lock:
            self._times_s.append(time_s)
            self._added += 1
            if self._added % _REFRESH == 0 or self._added < _REFRESH or time_s > self.p99_s:
                ordered = sorted(self._times_s)
                self.mean_s = sum(ordered) / len(ordered)
                self.p99_s = ordered[math.ceil(0.99 * len(ordered)) - 1]


class ServedModel:
    """One package, loaded once a worker.

    Args:
        package: The package.
        open_backend: Opens the device for one worker.
        workers: How many workers run it.
        clock: Times the runs.
    Raises:
        DeviceError: a segment cannot be loaded or run.
    """

    def __init__(self, package: Package, open_backend: Callable[[], Backend], workers: int, clock: Clock) -> None:
        self.package = package
        self._order = [segment.id for segment in package.segments]
        self._whole: Range = (self._order[0], self._order[-1])
        self._clock = clock
        self._backends = [open_backend() for _ in range(workers)]
        self._times: dict[Range, Times] = {self._whole: Times()}
        self._chains: list[OrderedDict[Range, Chain]] = [OrderedDict() for _ in range(workers)]
        self._warm_up()

    def range_of(self, request: Request) -> Range:
        """Return the range of segments that `request` asks for.

        Raises:
            WireError: another version of the model, no such segment, or the first comes after the last.
        """
        package = self.package
        if request.version is not None and request.version != package.version:
            raise WireError(
                f"model {package.name!r} version {request.version!r} is not served: version {package.version!r} is",
                request.id,
            )
        first, last = request.first_segment or self._whole[0], request.last_segment or self._whole[1]
        for segment in (first, last):
            if segment not in self._order:
                raise WireError(
                    f"model {package.name!r} has no segment {segment!r}: there are {', '.join(self._order)}", request.id
                )
        if self._order.index(first) > self._order.index(last):
            raise WireError(f"first segment {first!r} comes after the last, {last!r}: exchange them", request.id)
        return first, last

    def times(self, wanted: Range) -> Times | None:
        """Return the times of a range, None if it has not run yet."""
        return self._times.get(wanted)

    def run(self, worker: int, job: Job) -> Answer:
        """Compute `job` on a worker; whatever is wrong with it becomes the reply's code and message."""
        began_s = self._clock.now_s()
        queue_us = max(0, round(1e6 * (began_s - job.received_s)))
        if began_s >= job.deadline_s:
            return Answer(_late(job, queue_us))
        try:
            wanted = self.range_of(job.request)
            chain = self._chain(worker, wanted)
            check_finite(job.inputs)
            began_s = self._clock.now_s()
            result = chain.run(job.inputs, cancel=job.token)
        except (InputError, WireError) as error:
            return Answer(_refusal(job, Code.INVALID, f"model {self.package.name!r}: {error}", queue_us))
        except DeviceError as error:
            return Answer(_refusal(job, Code.UNAVAILABLE, str(error), queue_us))
        compute_s = self._clock.now_s() - began_s
        # A stopped run counts as well: the model is at least that slow.
        times = self._times.get(wanted)
        if times is None:
            times = self._times.setdefault(wanted, Times())
        times.add(compute_s)
        return _answer(job, result, queue_us, round(1e6 * compute_s))

    def _chain(self, worker: int, wanted: Range) -> Chain:
        chains = self._chains[worker]
        if wanted in chains:
            chains.move_to_end(wanted)
            return chains[wanted]
        ids = self._order[self._order.index(wanted[0]) : self._order.index(wanted[1]) + 1]
        chains[wanted] = Chain(self.package, self._backends[worker], ids, clock=self._clock)
        if len(chains) > _KEPT_RANGES:
            oldest = next(item for item in chains if item != self._whole)
            del chains[oldest]
        return chains[wanted]

    def _warm_up(self) -> None:
        inputs = {
            spec.name: np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], spec.dtype)
            for spec in self.package.inputs
        }
        for worker in range(len(self._backends)):
            chain = self._chain(worker, self._whole)
            chain.run(inputs)  # the first run allocates: its time says nothing
            for _ in range(_WARM_UP_RUNS):
                self._times[self._whole].add(chain.run(inputs).elapsed_s)


def load_models(
    packages: Sequence[Package], open_backend: Callable[[], Backend], workers: int, clock: Clock
) -> dict[str, ServedModel]:
    """Load and warm up packages, by name.

    Raises:
        ServerError: there is no package, or two have one name.
        DeviceError: a segment cannot be loaded or run.
    """
    if not packages:
        raise ServerError("no package to serve: give at least one")
    models: dict[str, ServedModel] = {}
    for package in packages:
        if package.name in models:
            raise ServerError(
                f"two packages are called {package.name!r}: {models[package.name].package.folder} and {package.folder}"
            )
        models[package.name] = ServedModel(package, open_backend, workers, clock)
    return models


def _refusal(job: Job, code: Code, message: str, queue_us: int) -> Reply:
    return Reply(id=job.request.id, code=code, message=message[:1024], queue_us=queue_us)


def _late(job: Job, queue_us: int) -> Reply:
    waited = f"waited {queue_us} us, {job.request.time_left_us} us were left"
    return _refusal(job, Code.DEADLINE_EXCEEDED, f"not computed: {waited}", queue_us)


def _answer(job: Job, result: ChainResult, queue_us: int, compute_us: int) -> Answer:
    outputs = {**result.outputs, **(result.exit.outputs if result.exit else {})}
    code, message = Code.OK, ""
    if result.cancelled and not job.expired:
        code, message = Code.CANCELLED, "stopped while it ran"
    elif result.cancelled and result.exit is None:
        code, message = Code.DEADLINE_EXCEEDED, f"no exit was finished: {job.request.time_left_us} us were left"
    reply = Reply(
        id=job.request.id,
        code=code,
        message=message,
        exit_id=result.exit.exit_id if result.exit and code is Code.OK else None,
        queue_us=queue_us,
        compute_us=compute_us,
    )
    return Answer(reply, outputs if code is Code.OK else {})
