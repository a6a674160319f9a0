"""The shortest way through a quick model: one that is all on one device, in one piece, with one exit.

Most plain .onnx models are. There is nothing to decide between exits, so such a request needs no job: what remains is
to check the inputs, run, and make the reply. Whatever is out of the ordinary (inputs that do not fit, a deadline that
may not be kept, a failure) is left to the usual way, which knows what to say about it; nothing has happened by then.
"""

from dataclasses import dataclass

import numpy as np

from devices.backend import Backend, CancelToken, Loaded
from devices.chain import Chain, SegmentTime
from devices.clock import NS_PER_S, Clock
from devices.errors import DeviceError
from devices.tensor import Array
from runtime.execute.latency import ModelLatency
from runtime.execute.leash import Leash
from runtime.execute.request import Ending, Reply, Request, Status
from runtime.execute.reserve import Reserve


@dataclass(frozen=True, slots=True)
class _Input:
    """An input of fixed shape."""

    name: str
    dtype: "np.dtype[np.generic]"
    shape: tuple[int, ...]
    floats: bool


class Sprint:
    """Runs one model on the calling thread, which holds the device's gate.

    Args:
        chain: As `fits` accepts.
        latency: How long it takes; noted here.
        reserve: Time kept before each deadline for the reply.
        clock: The executor's.
        leash: Ends a run that takes far longer than usual, or beyond its deadline.
    Raises:
        ValueError: the chain runs in several pieces.
    """

    __slots__ = (
        "_backend",
        "_clock",
        "_exit",
        "_inputs",
        "_latency",
        "_leash",
        "_loaded",
        "_names",
        "_outputs",
        "_reserve",
        "chain",
    )

    def __init__(self, chain: Chain, latency: ModelLatency, reserve: Reserve, clock: Clock, leash: Leash) -> None:
        package = chain.package
        if chain.sole is None:
            raise ValueError(f"model {package.name!r} runs in several pieces: it cannot be sprinted")
        self.chain = chain
        self._loaded: Loaded = chain.sole
        self._backend: Backend = chain.backend
        self._exit = package.exits[0]
        self._outputs = package.exit_outputs(self._exit.id)
        self._names = tuple(segment.id for segment in package.segments)
        self._inputs = tuple(
            _Input(spec.name, np.dtype(spec.dtype), tuple(map(int, spec.shape)), np.dtype(spec.dtype).kind == "f")
            for spec in package.inputs
        )
        self._latency = latency.first[0]
        self._leash = leash
        self._reserve = reserve
        self._clock = clock

    @staticmethod
    def fits(chain: Chain) -> bool:
        """Whether a chain can be run this way: one exit without a confidence, one piece, inputs of fixed shapes."""
        package = chain.package
        fixed = all(isinstance(size, int) for spec in package.inputs for size in spec.shape)
        return fixed and len(package.exits) == 1 and package.exits[0].confidence is None and chain.sole is not None

    @property
    def p99_s(self) -> float:
        """How long it takes, by its p99 [s]."""
        return self._latency.p99_s

    @property
    def usual_s(self) -> float:
        """How long it takes but for a tenth of its runs [s]."""
        return self._latency.usual_s

    def run(self, request: Request) -> Reply | None:
        """Return the reply; None where the usual way must be taken."""
        given = request.inputs
        if len(given) != len(self._inputs) or request.least_exit not in (None, self._exit.id):
            return None
        for wanted in self._inputs:
            array = given.get(wanted.name)
            if array is None or array.dtype != wanted.dtype or array.shape != wanted.shape:
                return None
            if wanted.floats and not np.isfinite(array).all():
                return None
        began_ns = self._clock.now_ns()
        deadline_ns = request.deadline_ns
        if deadline_ns is not None and began_ns + (self.p99_s + self._reserve.total_s) * NS_PER_S > deadline_ns:
            return None
        token = CancelToken()
        self._leash.begin(token.cancel, deadline_ns)
        outputs: dict[str, Array] | None = None
        try:
            made = self._loaded.run({name: self._backend.upload(array) for name, array in given.items()}, token)
            outputs = {name: self._backend.download(made[name]) for name in self._outputs}
        except DeviceError:  # tried again, and told, by the usual way
            if not token.cancelled:
                return None
        finally:
            self._leash.end()
        ended_ns = self._clock.now_ns()
        took_s = (ended_ns - began_ns) / NS_PER_S
        self._latency.add(took_s)
        if outputs is None or (deadline_ns is not None and ended_ns > deadline_ns):
            return None
        device = self._backend.device
        times = [SegmentTime(name, device, 0.0, 0.0) for name in self._names[:-1]]
        times.append(SegmentTime(self._names[-1], device, 0.0, took_s))
        return Reply(
            id=request.id,
            status=Status.OK,
            model=self.chain.package.name,
            version=self.chain.package.version,
            exit_id=self._exit.id,
            outputs=outputs,
            ending=Ending.COMPLETE,
            segments=tuple(times),
            run_s=took_s,
            time_left_s=None if deadline_ns is None else (deadline_ns - ended_ns) / NS_PER_S,
        )
