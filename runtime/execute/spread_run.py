"""What ties a run over several devices to its request, and how such a model is measured before it is served."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from devices.backend import CancelToken
from devices.chain import ExitAnswer
from devices.clock import Clock
from devices.errors import SegmentError
from runtime.execute.edge_unit import EdgeUnit
from runtime.execute.flow import Flow
from runtime.execute.job import Job
from runtime.execute.model import Recorder, ServedModel
from runtime.execute.reserve import Reserve
from runtime.execute.spread import Spread
from runtime.execute.worker import DeviceWorker

_LONGEST_S = 600.0


class JobTaker:
    """Hands a flow's exits to its job.

    Args:
        job: The request.
        reserve: Time kept before the deadline for the reply.
    """

    def __init__(self, job: Job, reserve: Reserve) -> None:
        self._job = job
        self._reserve = reserve

    def offer(self, answer: ExitAnswer) -> None:
        """Take note of an exit that finished, be it out of turn."""
        self._job.offer(answer)

    def take(self, answer: ExitAnswer) -> bool:
        """Decide on the next exit in turn; return True when the run must end with it."""
        return self._job.take_exit(answer, self._reserve.total_s)

    def fail(self, reason: str) -> None:
        """End the job: no deeper exit can be had."""
        self._job.fail(reason)


class _Measure:
    """Lets a run go on to its end, and notes the times."""

    def __init__(self, recorder: Recorder | None, last: int) -> None:
        self._recorder = recorder
        self._last = last
        self.ended = threading.Event()
        self.failure: Exception | None = None

    def offer(self, answer: ExitAnswer) -> None:
        """Nothing is decided here."""

    def take(self, answer: ExitAnswer) -> bool:
        """Note an exit's time."""
        if self._recorder is not None:
            self._recorder(answer)
        if answer.index == self._last:
            self.ended.set()
        return answer.index == self._last

    def fail(self, reason: str) -> None:
        """Note that the run failed."""
        self.failure = SegmentError(reason)
        self.ended.set()


def measure_spread(
    model: ServedModel, spread: Spread, workers: Mapping[str, DeviceWorker], runs: int, clock: Clock
) -> None:
    """Run a spread model on zeros from every exit to the end, and note the times of `runs` runs each.

    Each device's part runs on a thread pinned as its worker, which lets requests pass between two segments. What is for
    an edge server runs on its spare: then the parts' times are noted, not those of the whole.

    Raises:
        SegmentError: The model fails on zeros.
    """
    with ExitStack() as stack:
        spares = [unit.spare.device for unit in spread.units if isinstance(unit, EdgeUnit) and unit.spare is not None]
        pools = {
            name: stack.enter_context(ThreadPoolExecutor(1, initializer=workers[name].pin))
            for name in {*spread.devices, *spares}
            if name in workers
        }
        for first_exit in range(len(model.package.exits)):
            for turn in range(runs + 2):
                recorder = Recorder(model.latency, first_exit) if turn >= 2 and not spread.remote else None
                taker = _Measure(recorder, len(model.package.exits) - 1)

                def post(flow: Flow, place: int, _: int, taker: _Measure = taker) -> None:
                    unit = flow.unit(place)
                    device, spare = unit.device, None
                    if isinstance(unit, EdgeUnit):
                        spare = unit.spare
                        if spare is None:
                            taker.ended.set()  # nobody here can go on
                            return
                        device = spare.device

                    def run() -> None:
                        with workers[device].gate:
                            if spare is None:
                                flow.run(place)
                            else:
                                flow.run_spare(place)

                    def done(future: Future[None]) -> None:
                        error = future.exception()
                        if isinstance(error, Exception):
                            taker.failure = error
                            taker.ended.set()

                    pools[device].submit(run).add_done_callback(done)

                Flow(spread, model.zeros(), CancelToken(), first_exit, taker, post, clock).begin()
                if not taker.ended.wait(_LONGEST_S):
                    raise SegmentError(f"model {model.package.name!r} did not end within {_LONGEST_S:.0f} s")
                if taker.failure is not None:
                    raise taker.failure
