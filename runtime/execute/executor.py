"""The executor: models on devices, requests with deadlines in, the best answer there is out.

Each device has one worker thread and one queue, earliest deadline first. A model runs on one device, or is spread over
several by a placement; then its independent segments run at the same time. A device may also be an edge server. Exits
answer as soon as they are confident.
When a deadline falls, the deepest finished exit answers and the run is stopped in the middle of its segment. A request
that the measured p99 says can't be met is refused before it starts, with the numbers.

`on_done` is called once a request, on a worker's or the timer's thread, or inside `submit`, `cancel` or `close` when
those decide the request at once. It must be quick and must not raise. Nothing here waits for inference except
`run_inline`, `load`, `drain` and `close`; nothing is logged for a request that goes well.
"""

import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from devices.chain import Chain
from devices.clock import NS_PER_S, Clock, MonotonicClock, Timers
from devices.errors import DeviceError, InputError
from devices.package.graph import Package
from devices.tensor import check_inputs
from runtime.execute.alarm import AlarmThread
from runtime.execute.decisions import Admission, admit
from runtime.execute.edge import EdgeDevice
from runtime.execute.edge_run import EdgeRuns, warm_edges
from runtime.execute.edge_unit import EdgeUnit
from runtime.execute.errors import ClosedError, ModelNotFoundError
from runtime.execute.flow import Flow
from runtime.execute.job import Job, OnDecision, OnDone
from runtime.execute.latency import ModelLatency
from runtime.execute.leash import Leash
from runtime.execute.model import ServedModel
from runtime.execute.queue import Urgency
from runtime.execute.request import Reply, Request, Status
from runtime.execute.reserve import Reserve
from runtime.execute.spread import Spread
from runtime.execute.spread_run import JobTaker, measure_spread
from runtime.execute.sprint import Sprint
from runtime.execute.worker import MAX_NESTED, Device, DeviceWorker, Part

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """How the executor treats requests.

    Args:
        reserve_s: Least time kept before each deadline for the reply to get out [s].
        most_reserve_s: Most time kept when replies were seen to take long [s].
        max_queue: Requests that may wait for one device.
        inline_limit_s: `run_inline` takes models that usually need at most this to the end [s].
        inline_most_s: A run that takes longer than this all the same is stopped, and begun anew on its device [s].
        warm_up_runs: Measured runs to each exit when a model is loaded.
    """

    reserve_s: float = 0.0005
    most_reserve_s: float = 0.004
    max_queue: int = 256
    inline_limit_s: float = 0.0005
    inline_most_s: float = 0.02
    warm_up_runs: int = 8


@dataclass(frozen=True, slots=True)
class ExecutorStats:
    """A look at the executor.

    Args:
        queued: Requests that wait, by device.
        in_flight: Requests without a reply yet.
        replies: Replies given, by status.
    """

    queued: Mapping[str, int]
    in_flight: int
    replies: Mapping[Status, int]


class Executor:
    """Runs models on devices.

    Args:
        devices: The devices; their names must differ.
        edges: Edge servers by the names that placements have for them; closed with the executor.
        settings: How requests are treated.
        clock: What deadlines are read on.
        timers: Calls when a deadline falls, on the same clock; None: a thread of its own.
    Raises:
        ValueError: No device, or two of one name.
        BackendError: A worker can't be pinned where asked.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        settings: ExecutorSettings | None = None,
        *,
        edges: Sequence[EdgeDevice] = (),
        clock: Clock | None = None,
        timers: Timers | None = None,
    ) -> None:
        names = [device.backend.device for device in devices] + [edge.name for edge in edges]
        if not devices or len(set(names)) != len(names):
            raise ValueError(f"devices = {names}: must be at least one, each with a name of its own")
        self.settings = settings or ExecutorSettings()
        self._clock = clock or MonotonicClock()
        self._alarm: AlarmThread | None = None
        self._reserve = Reserve(self.settings.reserve_s, self.settings.most_reserve_s)
        if timers is None:
            timers = self._alarm = AlarmThread(self._clock, self._reserve.woke)
        self._timers = timers
        self._workers = {
            device.backend.device: DeviceWorker(device, self._clock, self._reserve, self._refusal) for device in devices
        }
        most_s = max(self.settings.inline_most_s, 4.0 * self.settings.inline_limit_s)
        self._leashes = {name: Leash(timers, self._clock, most_s) for name in self._workers}
        self._edges = {edge.name: edge for edge in edges}
        self._edge_runs = EdgeRuns(self._clock, timers, self._reserve)
        self._models: dict[str, dict[str, ServedModel]] = {}
        self._jobs: dict[Hashable, Job] = {}
        self._lock = threading.Lock()  # over the tables, never over inference
        self._replies: Counter[Status] = Counter()
        self._refusals = 0
        self.on_decision: OnDecision | None = None
        """Told of each decision about a request with what it was made from, on the thread that makes it."""
        self._arrivals = itertools.count()
        self._draining = False
        self._closed = False
        self._idle = threading.Event()

    def start(self) -> None:
        """Start the workers; until then requests wait in their queues."""
        for worker in self._workers.values():
            worker.start()

    def __enter__(self) -> "Executor":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Models

    def load(
        self,
        package: Package,
        *,
        device: str | None = None,
        placement: Mapping[str, str] | None = None,
        replace: bool = True,
    ) -> ServedModel:
        """Load a model, warm it up and serve it from then on; until then the one before it is served.

        Args:
            package: The model.
            device: Where segments without a placement run; None: the first device.
            placement: Device name by segment id; independent segments of different devices run at the same time.
            replace: Unload the model's other versions once this one is warm.
        Raises:
            ValueError: There is no such device or segment.
            BackendError: A device refuses the model.
            SegmentError: The model fails on an input of zeros.
            ClosedError: The executor was closed.
        """
        model = self.prepare(package, device=device, placement=placement)
        self.serve(model, replace=replace)
        return model

    def prepare(
        self,
        package: Package,
        *,
        device: str | None = None,
        placement: Mapping[str, str] | None = None,
        spare: str | None = None,
        last_exit: str | None = None,
    ) -> ServedModel:
        """Load a model and warm it up, and do not serve it yet.

        Args:
            package, device, placement: As of `load`.
            spare: Device of this board that runs what an edge server does not answer in time; None: `device`.
            last_exit: Deepest exit that is run unless a request wants a deeper one; None: the model's last.
        Raises:
            ValueError: There is no such device, segment or exit, or a tensor would cross a link twice.
            BackendError, SegmentError, ClosedError: As `load`.
        """
        if self._closed:
            raise ClosedError(f"cannot load {package.name!r}: the executor was closed")
        last = len(package.exits) - 1
        if last_exit is not None:
            try:
                last = package.exit_index(last_exit)
            except KeyError as error:
                raise ValueError(str(error.args[0])) from error
        runs = self._place(package, device, placement or {}, spare)
        latency, sprint = ModelLatency(len(package.exits)), None
        if isinstance(runs, Chain) and Sprint.fits(runs):
            sprint = Sprint(runs, latency, self._reserve, self._clock, self._leashes[runs.backend.device])
        model = ServedModel(package, runs, latency, last, sprint)
        if isinstance(runs, Spread):
            measure_spread(model, runs, self._workers, self.settings.warm_up_runs, self._clock)
            warm_edges(runs.units, self._clock)
        else:
            self._warm_up(self._workers[model.device], model)
        return model

    def serve(self, model: ServedModel, *, replace: bool = True) -> None:
        """Serve a model that `prepare` has loaded, at once; `replace` as of `load`."""
        package = model.package
        with self._lock:
            versions = {} if replace else dict(self._models.get(package.name, {}))
            versions.pop(package.version, None)
            self._models[package.name] = {**versions, package.version: model}

    def _place(
        self, package: Package, device: str | None, placement: Mapping[str, str], spare: str | None
    ) -> Chain | Spread:
        usual = next(iter(self._workers)) if device is None else device
        known = {segment.id: usual for segment in package.segments}
        unknown = sorted(placement.keys() - known.keys())
        if unknown:
            raise ValueError(f"placement names segments {unknown}: the package has {list(known)}")
        where = {**known, **placement}
        here = usual if spare is None else spare
        for name in (usual, *where.values()):
            if name not in self._workers and name not in self._edges:
                raise ValueError(f"device {name!r} is not one of {sorted({*self._workers, *self._edges})}")
        if here not in self._workers:
            raise ValueError(f"spare = {here!r}: must be a device of this board, one of {sorted(self._workers)}")
        if len(set(where.values())) == 1 and next(iter(where.values())) in self._workers:
            return Chain(package, self._workers[next(iter(where.values()))].backend, clock=self._clock)
        backends = {name: worker.backend for name, worker in self._workers.items()}
        return Spread(package, where, backends, self._edges, here)

    def _warm_up(self, worker: DeviceWorker, model: ServedModel) -> None:
        for first_exit in range(len(model.package.exits)):
            for run in range(self.settings.warm_up_runs + 2):
                with worker.gate:  # one run at a time, so that requests pass in between
                    model.measure(first_exit, record=run >= 2)

    def unload(self, name: str, version: str | None = None) -> None:
        """Serve a model, or one version of it, no more; requests already taken still get their answers.

        Raises:
            ModelNotFoundError: It is not loaded.
        """
        with self._lock:
            versions = self._models.get(name, {})
            if not versions or (version is not None and version not in versions):
                raise ModelNotFoundError(self._unknown(name, version))
            left = {} if version is None else {key: model for key, model in versions.items() if key != version}
            if left:
                self._models[name] = left
            else:
                del self._models[name]

    def model(self, name: str, version: str | None = None) -> ServedModel:
        """Return a loaded model, the version loaded last if none is named.

        Raises:
            ModelNotFoundError: It is not loaded.
        """
        versions = self._models.get(name, {})
        if version is None and versions:
            return next(reversed(versions.values()))
        if version is None or version not in versions:
            raise ModelNotFoundError(self._unknown(name, version))
        return versions[version]

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """All loaded models; of each name, the one served by default comes last."""
        return tuple(model for versions in tuple(self._models.values()) for model in versions.values())

    def _unknown(self, name: str, version: str | None) -> str:
        asked = f"{name!r}" if version is None else f"{name!r} version {version!r}"
        known = [f"{model.package.name} {model.package.version}" for model in self.models]
        return f"model {asked} is not loaded: loaded are {sorted(known)}"

    # Requests

    def submit(self, request: Request, on_done: OnDone, model: ServedModel | None = None) -> None:
        """Take a request; `on_done` gets its one reply.

        Args:
            model: What `prepare` has loaded, to run it on; None: what is served by the name it asks for.
        Raises:
            ClosedError: The executor was closed.
        """
        if self._closed:
            raise ClosedError(f"cannot take request {request.id!r}: the executor was closed")
        job = self._admit(request, on_done, model)
        if job is None:
            return
        with self._lock:
            clash = self._jobs.setdefault(request.id, job) is not job
        if clash:
            self._turn_down(request, on_done, Status.INVALID, f"request id {request.id!r} is in flight already")
            return
        if request.deadline_ns is not None:
            job.timer = self._timers.call_at(request.deadline_ns - self._reserve.total_ns, job.expire)
        runs = job.model.runs
        if isinstance(runs, Spread):
            taker = JobTaker(job, self._reserve)
            arrival = next(self._arrivals)

            def post(flow: Flow, place: int, rank: int) -> None:
                def push(device: str, part: Part, cost_s: float) -> None:
                    self._push(device, (*job.key, arrival, rank), part, cost_s)

                unit = flow.unit(place)
                if isinstance(unit, EdgeUnit):
                    self._edge_runs.send(job, flow, place, unit, push)
                else:
                    push(unit.device, Part(job, flow, place), unit.busy.median_s)

            last = job.last_exit
            Flow(runs, request.inputs, job.token, job.first_exit, taker, post, self._clock, last).begin()
        else:
            self._push(job.model.device, job.key, job, job.model.latency.first[job.first_exit].median_s)
            self._workers[job.model.device].make_way(job)

    def _push(self, device: str, key: Urgency, item: Job | Part, cost_s: float) -> None:
        job = item.job if isinstance(item, Part) else item
        worker = self._workers[device]
        job.entries.append((worker.queue, worker.queue.push(key, item, cost_s)))
        if worker.died is not None:
            job.fail(worker.died)

    def delivered(self, request: Request, reply: Reply) -> None:
        """Be told that a reply has just left the process, so that later ones are made early enough."""
        if request.deadline_ns is not None and reply.time_left_s is not None:
            left_s = (request.deadline_ns - self._clock.now_ns()) / NS_PER_S
            self._reserve.left(reply.time_left_s - left_s)

    def cancel(self, request_id: Hashable) -> bool:
        """End a request that waits or runs, its reply being CANCELLED; return whether it was still in flight."""
        job = self._jobs.get(request_id)
        return job is not None and job.end(Status.CANCELLED, "the request was cancelled")

    def run_inline(self, request: Request) -> Reply | None:
        """Run a quick request on the caller's thread, if its device has nothing else to do.

        Saves two thread switches. Only for models that usually need at most `inline_limit_s` to the end; what takes
        far longer than that, or longer than its deadline, is stopped. The request can't be cancelled.

        Returns:
            The reply, also when that is a refusal; None if the request should be submitted instead.
        Raises:
            ClosedError: The executor was closed.
        """
        if self._closed:
            raise ClosedError(f"cannot run request {request.id!r}: the executor was closed")
        try:
            model = self.model(request.model, request.version)
        except ModelNotFoundError:
            return None
        if isinstance(model.runs, Spread):
            return None
        worker, sprint = self._workers[model.runs.backend.device], model.sprint
        usual_s = model.latency.complete_usual_s(model.last_exit) if sprint is None else sprint.usual_s
        if usual_s > self.settings.inline_limit_s or self._draining or len(worker.queue):
            return None
        if not worker.gate.acquire(blocking=False):
            return None
        try:
            reply = self._run_job(worker, request) if sprint is None else sprint.run(request)
        finally:
            worker.gate.release()
        if sprint is not None and reply is not None:
            with self._lock:
                self._replies[reply.status] += 1
        return reply

    def _run_job(self, worker: DeviceWorker, request: Request) -> Reply | None:
        """Run a request as a job on this thread; None where it takes far longer than usual."""
        replies: list[Reply] = []
        job = self._admit(request, replies.append)
        if job is None:
            return replies[0]
        overran = threading.Event()

        def stop() -> None:
            if request.deadline_ns is None or self._clock.now_ns() < request.deadline_ns - self._reserve.total_ns:
                job.model.latency.first[job.first_exit].add(self.settings.inline_most_s)
                overran.set()
                job.end(Status.UNAVAILABLE, "it takes longer than usual")
            else:
                job.expire()

        falls_ns = None if request.deadline_ns is None else request.deadline_ns - self._reserve.total_ns
        leash = self._leashes[job.model.device]
        leash.begin(stop, falls_ns)
        try:
            worker.run(job, MAX_NESTED)  # lets nothing pass: the caller has other things to do
        finally:
            leash.end()
        return None if overran.is_set() else replies[0]

    def rehearse(self, least_s: float = 0.0, most_s: float | None = None) -> None:
        """Run models once, on zeros, on this thread, so that their next requests find them warm; counts nowhere.

        Skips devices with something to do; a request that comes meanwhile waits for the run to end.

        Args:
            least_s, most_s: What the models that are run usually need [s]; None: what may be run inline.
        """
        limit_s = self.settings.inline_limit_s if most_s is None else most_s
        for model in self.models:
            if isinstance(model.runs, Spread) or not least_s <= model.latency.complete_usual_s() <= limit_s:
                continue
            worker = self._workers[model.runs.backend.device]
            if not len(worker.queue) and worker.gate.acquire(blocking=False):
                try:
                    if model.sprint is None or model.sprint.run(Request(0, model.package.name, model.zeros())) is None:
                        model.measure(0, record=False)
                except DeviceError as error:
                    _log.warning(
                        "model %r could not be kept warm: %s",
                        model.package.name,
                        error,
                        extra={"code": "not_kept_warm", "model": model.package.name},
                    )
                finally:
                    worker.gate.release()

    def _admit(self, request: Request, on_done: OnDone, model: ServedModel | None = None) -> Job | None:
        """Make a job of a request, or turn it down."""
        if self._draining:
            self._turn_down(request, on_done, Status.UNAVAILABLE, "the executor is draining: ask another one")
            return None
        try:
            model = model or self.model(request.model, request.version)
            first_exit = 0 if request.least_exit is None else model.package.exit_index(request.least_exit)
            check_inputs(model.package.inputs, request.inputs)
        except (ModelNotFoundError, KeyError, InputError) as error:
            self._turn_down(request, on_done, Status.INVALID, str(error.args[0]))
            return None
        job = Job(request, model, first_exit, on_done, self, self._clock)
        left_s = job.time_left_s()
        if left_s is not None and left_s <= 0.0:
            job.end(Status.DEADLINE_EXCEEDED, f"the deadline had passed {-left_s * 1e3:.3f} ms before the request came")
            return None
        devices = self._first_devices(job)
        lost = next((why for name in devices if (why := self._workers[name].lost) is not None), None)
        if lost is not None:
            job.end(Status.UNAVAILABLE, lost)
            return None
        reason = self._refusal(job)
        if reason is not None:
            job.end(Status.RESOURCE_EXHAUSTED, reason)
            return None
        return job

    @staticmethod
    def _first_devices(job: Job) -> tuple[str, ...]:
        """Return the devices of this board that the shallowest exit wanted needs."""
        runs = job.model.runs
        return runs.walk(job.first_exit).devices if isinstance(runs, Spread) else job.model.devices

    def _turn_down(self, request: Request, on_done: OnDone, status: Status, message: str) -> None:
        with self._lock:
            self._replies[status] += 1
        _call(on_done, Reply(id=request.id, status=status, message=message))

    def _refusal(self, job: Job) -> str | None:
        """Say why a job can't be met, or None."""
        runs = job.model.runs
        workers = [self._workers[name] for name in self._first_devices(job)]
        window = job.model.latency.first[job.first_exit]
        left_s = job.time_left_s()
        timed = left_s is not None and not job.trial
        first_s, ahead_s = window.p99_s, 0.0
        if timed and isinstance(runs, Spread) and runs.remote:  # slow over the link may still be quick here
            first_s = runs.walk(job.first_exit).needed_s(job.first_exit)
        if timed and not job.entries:  # a job that has its place asks again when its turn has come
            waits_s = [worker.queue.cost_before(job.key) + worker.free_in_s(job) for worker in workers]
            ahead_s = max(waits_s, default=0.0)
        asked = Admission(
            device=job.model.device,
            exit_id=job.model.package.exits[job.first_exit].id,
            waiting={worker.backend.device: len(worker.queue) for worker in workers},
            most_waiting=self.settings.max_queue,
            entered=bool(job.entries),
            trial=job.trial,
            left_s=left_s,
            first_s=first_s,
            least_s=window.least_s,
            runs=window.count,
            ahead_s=ahead_s,
            reserve_s=self._reserve.total_s,
            refusals=self._refusals,
        )
        verdict = admit(asked)
        self._refusals += verdict.hopeful
        job.trial = job.trial or verdict.trial
        if self.on_decision is not None:
            self.on_decision(job, asked, verdict)
        return verdict.refused

    def finished(self, job: Job, reply: Reply) -> None:
        """Take note that a job has ended, and hand out its reply."""
        for queue, entry in tuple(job.entries):
            queue.remove(entry)
        with self._lock:
            self._replies[reply.status] += 1
            if self._jobs.get(job.request.id) is job:
                del self._jobs[job.request.id]
            idle = self._draining and not self._jobs
        _call(job.on_done, reply)
        if idle:
            self._idle.set()

    # Life

    def stats(self) -> ExecutorStats:
        """Return a look at queues and replies."""
        with self._lock:
            queued = {name: len(worker.queue) for name, worker in self._workers.items()}
            return ExecutorStats(queued, len(self._jobs), dict(self._replies))

    @property
    def busy(self) -> bool:
        """Whether a request waits for a device or runs on one."""
        return bool(self._jobs)

    @property
    def lost(self) -> dict[str, str]:
        """Devices that do nothing for anybody any more, and why: dead workers, stuck ones, edge servers away."""
        found = {name: worker.lost for name, worker in self._workers.items()}
        found |= {name: edge.lost for name, edge in self._edges.items()}
        return {name: why for name, why in found.items() if why is not None}

    @property
    def reserve_s(self) -> float:
        """Time that is kept before each deadline for the reply at present [s]."""
        return self._reserve.total_s

    def drain(self, timeout_s: float | None = None) -> bool:
        """Take nothing more and wait until every request has its reply; return whether that came in time."""
        with self._lock:
            self._draining = True
            if not self._jobs:
                self._idle.set()
        return self._idle.wait(timeout_s)

    def close(self) -> None:
        """Take nothing more, end what is in flight as UNAVAILABLE and stop all threads; safe to call twice."""
        with self._lock:
            self._draining = self._closed = True
            jobs = tuple(self._jobs.values())
        for job in jobs:
            job.end(Status.UNAVAILABLE, "the executor was closed")
        for edge in self._edges.values():
            edge.close()
        for worker in self._workers.values():
            worker.close()
        if self._alarm is not None:
            self._alarm.close()


def _call(on_done: Callable[[Reply], None], reply: Reply) -> None:
    try:
        on_done(reply)
    except Exception:  # a broken callback must not take the device down
        _log.exception("on_done failed for request %r", reply.id, extra={"code": "callback_failed"})
