"""The executor on the null backend and a virtual clock: what happens when, to the nanosecond."""

import os
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.backends.null import NullBackend
from devices.clock import VirtualClock
from devices.errors import BackendError
from devices.package import Package
from runtime.execute.errors import ClosedError, ModelNotFoundError
from runtime.execute.executor import Executor, ExecutorSettings
from runtime.execute.request import Ending, Reply, Request, Status
from runtime.execute.worker import MAX_INTERRUPTIONS, Device
from tests.models import write_exit_package

MS = 1_000_000
TIMES = {"trunk1": 0.001, "head1": 0.002, "trunk2": 0.003, "head2": 0.004, "trunk3": 0.005, "head3": 0.006}
EXIT1_MS, EXIT2_MS, EXIT3_MS = 3.0, 10.0, 21.0
IMAGE = {"image": np.zeros((1, 3, 16, 16), np.float32)}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_exit_package(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def confident(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_exit_package(tmp_path_factory.mktemp("models") / "sure", name="sure", thresholds=(0.9, 0.5, 0.0))


class Bench:
    """An executor on a virtual clock, begun after everything was submitted, and its replies in order."""

    def __init__(
        self, *packages: Package, fill: Mapping[str, float] | None = None, core: int | None = None, **settings: Any
    ) -> None:
        self.clock = VirtualClock()
        self.replies: list[tuple[Reply, float]] = []
        self._came = threading.Condition()
        backend = NullBackend(TIMES, clock=self.clock, fill=fill)
        chosen = ExecutorSettings(**{"reserve_s": 0.0, **settings})
        self.executor = Executor(
            [Device(backend, None if core is None else frozenset((core,)))], chosen, clock=self.clock, timers=self.clock
        )
        for package in packages:
            self.executor.load(package)
        self.zero_ns = self.clock.now_ns()

    def request(self, request_id: int, deadline_ms: float | None = None, **options: Any) -> Request:
        deadline_ns = None if deadline_ms is None else self.zero_ns + round(deadline_ms * MS)
        return Request(request_id, **{"model": "toy", "inputs": IMAGE, "deadline_ns": deadline_ns, **options})

    def submit(self, request_id: int, deadline_ms: float | None = None, **options: Any) -> None:
        self.executor.submit(self.request(request_id, deadline_ms, **options), self.take)

    def take(self, reply: Reply) -> None:
        with self._came:
            self.replies.append((reply, self.now_ms()))
            self._came.notify()

    def now_ms(self) -> float:
        return (self.clock.now_ns() - self.zero_ns) / MS

    def at(self, time_ms: float, action: Any) -> None:
        self.clock.call_at(self.zero_ns + round(time_ms * MS), action)

    def wait(self, count: int = 1) -> list[Reply]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.replies) >= count, 10.0)
            return [reply for reply, _ in self.replies]

    def run(self, count: int = 1) -> list[Reply]:
        self.executor.start()
        return self.wait(count)

    def times_ms(self) -> list[float]:
        return [time_ms for _, time_ms in self.replies]


@pytest.fixture
def bench(package: Package) -> Iterator[Bench]:
    made = Bench(package)
    yield made
    made.executor.close()


@pytest.fixture
def cold(package: Package) -> Iterator[Bench]:
    """Knows nothing of the model's times, so that nothing is refused and no run is given up early."""
    made = Bench(package, warm_up_runs=0)
    yield made
    made.executor.close()


def test_without_a_deadline_the_deepest_exit_answers(bench: Bench) -> None:
    bench.submit(1)
    (reply,) = bench.run()
    assert (reply.id, reply.status, reply.exit_id, reply.ending) == (1, Status.OK, "exit3", Ending.COMPLETE)
    assert (reply.model, reply.version, reply.message) == ("toy", "1", "")
    assert set(reply.outputs) == {"answer3", "confidence3"}
    assert (reply.confidence, reply.time_left_s) == (0.0, None)
    assert [(s.segment_id, s.device) for s in reply.segments] == [(name, "null:0") for name in TIMES]
    assert reply.run_s == pytest.approx(0.021)
    assert bench.times_ms() == [EXIT3_MS]


@pytest.mark.parametrize(
    ("deadline_ms", "exit_id"), [(3.5, "exit1"), (9.9, "exit1"), (10.1, "exit2"), (12.0, "exit2"), (20.9, "exit2")]
)
def test_at_the_deadline_the_deepest_finished_exit_answers(cold: Bench, deadline_ms: float, exit_id: str) -> None:
    cold.submit(1, deadline_ms)
    (reply,) = cold.run()
    assert (reply.status, reply.exit_id, reply.ending) == (Status.OK, exit_id, Ending.DEADLINE)
    assert cold.times_ms()[0] <= deadline_ms
    assert reply.time_left_s is not None
    assert reply.time_left_s >= 0.0


def test_the_timer_answers_at_the_deadline_and_the_segment_is_stopped_there(cold: Bench) -> None:
    cold.submit(1, 12.0)
    (reply,) = cold.run()
    assert cold.times_ms() == [12.0]
    assert reply.message == "the deadline fell before a deeper exit finished"
    assert cold.executor.drain(10.0)
    assert cold.now_ms() == 12.0


def test_no_exit_finished_means_deadline_exceeded(cold: Bench) -> None:
    cold.submit(1, 2.5)
    (reply,) = cold.run()
    assert reply.status is Status.DEADLINE_EXCEEDED
    assert reply.message == "the deadline fell before exit 'exit1' finished"
    assert (reply.exit_id, reply.outputs) == (None, {})
    assert reply.run_s == pytest.approx(0.0025)


def test_a_shallow_answer_does_not_count_below_the_least_exit(cold: Bench) -> None:
    cold.submit(1, 7.9, least_exit="exit2")
    cold.submit(2, None, least_exit="exit2")
    first, second = cold.run(2)
    assert (first.status, first.message) == (Status.DEADLINE_EXCEEDED, "the deadline fell before exit 'exit2' finished")
    assert "head1" not in [time.segment_id for time in second.segments]


def test_the_reserve_is_kept_for_the_reply(package: Package) -> None:
    bench = Bench(package, warm_up_runs=0, reserve_s=0.001)
    bench.submit(1, 12.0)
    (reply,) = bench.run()
    assert (reply.exit_id, bench.times_ms()) == ("exit2", [11.0])
    bench.executor.close()


def test_a_run_that_cannot_reach_the_next_exit_ends_at_once(bench: Bench) -> None:
    bench.submit(1, 20.5)
    (reply,) = bench.run()
    assert (reply.exit_id, reply.ending, bench.times_ms()) == ("exit2", Ending.DEADLINE, [EXIT2_MS])
    assert reply.message == "the next exit would not finish before the deadline"


@pytest.mark.parametrize(("sure", "exit_id"), [(0.95, "exit1"), (0.6, "exit2"), (0.4, "exit3")])
def test_a_confident_exit_ends_the_run(confident: Package, sure: float, exit_id: str) -> None:
    fill = {f"confidence{k}": sure for k in (1, 2, 3)}
    bench = Bench(confident, fill=fill)
    bench.submit(1, model="sure")
    (reply,) = bench.run()
    assert reply.exit_id == exit_id
    assert reply.ending is (Ending.COMPLETE if exit_id == "exit3" else Ending.CONFIDENT)
    assert reply.confidence == pytest.approx(sure)
    bench.executor.close()


def test_a_confidence_that_is_no_number_is_not_confident(confident: Package) -> None:
    bench = Bench(confident, fill={"confidence1": float("nan"), "confidence2": 0.9})
    bench.submit(1, model="sure")
    assert bench.run()[0].exit_id == "exit2"
    bench.executor.close()


def test_what_cannot_be_met_is_refused_with_the_numbers(bench: Bench) -> None:
    bench.submit(1, 2.9)
    (reply,) = bench.wait()  # before any worker runs
    assert reply.status is Status.RESOURCE_EXHAUSTED
    assert reply.message == (
        "2.900 ms are left, but 3.000 ms are needed: 3.000 ms to exit 'exit1' on null:0 (p99 of 8 runs), "
        "0.000 ms for what comes first, 0.000 ms for the reply"
    )
    bench.submit(2, 8.9, least_exit="exit2")
    assert "8.900 ms are left, but 8.000 ms" not in bench.wait(1)[0].message
    bench.submit(3, 7.9, least_exit="exit2")
    assert "3.000 ms for what comes first" not in bench.wait(2)[1].message


def test_the_work_ahead_counts_against_a_request(bench: Bench) -> None:
    bench.submit(1, 4.0)
    bench.submit(2, 5.0)
    (reply,) = bench.wait()
    assert (reply.id, reply.status) == (2, Status.RESOURCE_EXHAUSTED)
    assert "3.000 ms for what comes first" in reply.message


def test_a_deadline_in_the_past_is_exceeded_before_it_starts(bench: Bench) -> None:
    bench.submit(1, -1.5)
    (reply,) = bench.wait()
    assert (reply.status, reply.time_left_s) == (Status.DEADLINE_EXCEEDED, -0.0015)
    assert reply.message == "the deadline had passed 1.500 ms before the request came"


def test_one_hopeful_refusal_in_eight_is_tried(bench: Bench) -> None:
    bench.executor.model("toy").latency.first[0].add(1.0)  # one bad moment
    for request_id in range(16):
        bench.submit(request_id, 500.0 + request_id)
    refused = bench.wait(14)
    assert {reply.status for reply in refused} == {Status.RESOURCE_EXHAUSTED}
    assert len(refused) == 14
    tried = bench.run(16)[14:]
    assert [reply.status for reply in tried] == [Status.OK, Status.OK]


def test_hopeless_requests_are_never_tried(bench: Bench) -> None:
    for request_id in range(40):
        bench.submit(request_id, 2.0)
    assert {reply.status for reply in bench.wait(40)} == {Status.RESOURCE_EXHAUSTED}


def test_earliest_deadline_first_then_priority_then_arrival(bench: Bench) -> None:
    bench.submit(1)
    bench.submit(2, priority=5)
    bench.submit(3, 900.0)
    bench.submit(4, 500.0)
    bench.submit(5, 900.0, priority=1)
    bench.submit(6)
    assert [reply.id for reply in bench.run(6)] == [4, 5, 3, 2, 1, 6]


def test_a_more_urgent_request_passes_between_two_segments_and_nothing_is_lost(bench: Bench) -> None:
    bench.submit(1)
    bench.at(6.5, lambda: bench.submit(2, 60.0))  # amid head2 of the first, which ends at 10 ms
    second, first = bench.run(2)
    assert (second.id, second.exit_id) == (2, "exit3")
    assert (first.id, first.exit_id) == (1, "exit3")
    assert bench.times_ms() == [EXIT2_MS + EXIT3_MS, 2 * EXIT3_MS]
    assert first.queued_s == pytest.approx(0.021)
    assert first.run_s == pytest.approx(0.021)
    assert bench.executor.model("toy").latency.step[2].p99_s == pytest.approx(0.011)


def test_a_segment_that_would_make_an_urgent_request_miss_is_stopped_and_run_again(bench: Bench) -> None:
    bench.submit(1)
    bench.at(15.5, lambda: bench.submit(2, 19.5))  # amid head3 of the first, which ends at 21 ms
    second, first = bench.run(2)
    assert (second.id, second.status, second.exit_id) == (2, Status.OK, "exit1")
    assert (first.id, first.status, first.exit_id) == (1, Status.OK, "exit3")
    assert bench.times_ms() == [18.5, 24.5]
    assert first.run_s == pytest.approx(0.021)
    assert first.queued_s == pytest.approx(0.0035)
    assert bench.executor.model("toy").latency.step[2].p99_s == pytest.approx(0.011)


def test_a_segment_is_not_stopped_where_the_urgent_request_can_wait(bench: Bench) -> None:
    bench.submit(1)
    bench.at(15.5, lambda: bench.submit(2, 24.5))
    first, second = bench.run(2)
    assert (first.id, second.id, second.exit_id) == (1, 2, "exit1")
    assert bench.times_ms() == [EXIT3_MS, 24.0]


def test_a_request_is_interrupted_a_few_times_at_most(bench: Bench) -> None:
    bench.submit(0)
    for turn in range(MAX_INTERRUPTIONS + 1):
        begin_ms = 15.5 + 3.5 * turn  # half a millisecond after head3 was begun anew
        bench.at(begin_ms, partial(bench.submit, 1 + turn, begin_ms + 4.0))
    replies = bench.run(MAX_INTERRUPTIONS + 2)
    assert [reply.status for reply in replies] == [Status.OK] * MAX_INTERRUPTIONS + [
        Status.RESOURCE_EXHAUSTED,
        Status.OK,
    ]
    assert "5.500 ms for what comes first" in replies[MAX_INTERRUPTIONS].message
    assert (replies[-1].id, bench.times_ms()[-1]) == (0, 15.0 + 3.5 * MAX_INTERRUPTIONS + 6.0)


def test_a_request_is_not_interrupted_when_it_would_miss_its_own_deadline(bench: Bench) -> None:
    bench.submit(1, 21.4)
    bench.at(15.5, lambda: bench.submit(2, 19.5))
    second, first = bench.run(2)
    assert (second.id, second.status) == (2, Status.RESOURCE_EXHAUSTED)
    assert (first.id, first.exit_id, bench.times_ms()[1]) == (1, "exit3", EXIT3_MS)


def test_a_less_urgent_request_waits(bench: Bench) -> None:
    bench.submit(1, 100.0)
    bench.at(2.0, lambda: bench.submit(2, 101.0))
    assert [reply.id for reply in bench.run(2)] == [1, 2]


def test_the_deadline_of_an_interrupted_request_is_kept(cold: Bench) -> None:
    cold.submit(1, 15.0)
    cold.at(0.5, lambda: cold.submit(2, 14.0))
    second, first = cold.run(2)
    assert (second.id, second.exit_id, first.id) == (2, "exit2", 1)
    assert first.status is Status.DEADLINE_EXCEEDED
    assert cold.times_ms() == [14.0, 15.0]


def test_a_waiting_request_is_answered_at_its_deadline_and_not_later(cold: Bench) -> None:
    cold.submit(1)
    cold.at(0.1, lambda: cold.submit(2, 0.5))
    second, first = cold.run(2)
    assert (second.id, second.status, first.status) == (2, Status.DEADLINE_EXCEEDED, Status.OK)
    assert second.message == "the deadline fell while the request waited for null:0"
    assert cold.times_ms() == [0.5, EXIT3_MS]


def test_of_two_with_one_deadline_the_second_is_not_begun_too_late(cold: Bench) -> None:
    cold.submit(1, 4.0, priority=1)
    cold.submit(2, 4.0)
    first, second = cold.run(2)
    assert (first.exit_id, second.status) == ("exit1", Status.DEADLINE_EXCEEDED)
    assert cold.times_ms() == [4.0, 4.0]


def test_what_waited_too_long_is_refused_when_its_turn_comes(bench: Bench) -> None:
    bench.submit(1, 23.0, priority=1)
    bench.submit(2, 23.0)
    first, second = bench.run(2)
    assert (first.exit_id, second.status) == ("exit3", Status.RESOURCE_EXHAUSTED)
    assert second.message.startswith("2.000 ms are left, but 3.000 ms are needed: 3.000 ms to exit 'exit1'")
    assert bench.times_ms() == [EXIT3_MS, EXIT3_MS]


def test_cancelling_what_waits(bench: Bench) -> None:
    bench.submit(1)
    bench.submit(2)
    assert bench.executor.cancel(1)
    assert not bench.executor.cancel(1)
    first, second = bench.run(2)
    assert (first.id, first.status, first.message) == (1, Status.CANCELLED, "the request was cancelled")
    assert (second.id, second.status) == (2, Status.OK)


def test_cancelling_what_runs_frees_the_device_at_once(bench: Bench) -> None:
    bench.submit(1)
    bench.submit(2)
    bench.at(12.0, lambda: bench.executor.cancel(1))
    first, second = bench.run(2)
    assert (first.id, first.status) == (1, Status.CANCELLED)
    assert (second.id, second.exit_id) == (2, "exit3")
    assert bench.times_ms() == [12.0, 12.0 + EXIT3_MS]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "tow"}, "model 'tow' is not loaded: loaded are ['toy 1']"),
        ({"version": "2"}, "model 'toy' version '2' is not loaded: loaded are ['toy 1']"),
        ({"least_exit": "exit9"}, "package 'toy' has no exit 'exit9': one of ['exit1', 'exit2', 'exit3']"),
        ({"inputs": {}}, "the input set lacks ['image']: must be ['image']"),
        (
            {"inputs": {"image": np.zeros((1, 3, 16, 16))}},
            "input 'image' has dtype float64: must be float32",
        ),
        (
            {"inputs": {"image": np.full((1, 3, 16, 16), np.nan, np.float32)}},
            "input 'image' holds nan at (0, 0, 0, 0): every value must be finite",
        ),
    ],
)
def test_a_wrong_request_is_invalid_and_the_rest_goes_on(bench: Bench, options: dict[str, Any], message: str) -> None:
    bench.submit(1, **options)
    bench.submit(2)
    first, second = bench.run(2)
    assert (first.id, first.status, first.message) == (1, Status.INVALID, message)
    assert second.status is Status.OK


def test_an_id_in_flight_cannot_be_used_again_until_it_is_answered(bench: Bench) -> None:
    bench.submit(1)
    bench.submit(1)
    assert bench.wait()[0].message == "request id 1 is in flight already"
    bench.run(2)
    bench.submit(1)
    assert bench.wait(3)[2].status is Status.OK


def test_a_full_queue_refuses(package: Package) -> None:
    bench = Bench(package, max_queue=2)
    for request_id in range(3):
        bench.submit(request_id)
    (reply,) = bench.wait()
    assert (reply.id, reply.status) == (2, Status.RESOURCE_EXHAUSTED)
    assert reply.message == "null:0 has 2 requests waiting: at most 2"
    assert bench.executor.stats().queued == {"null:0": 2}
    bench.executor.close()


def test_a_new_version_takes_over_while_old_requests_end_on_the_old(package: Package, tmp_path: Path) -> None:
    bench = Bench(package)
    bench.submit(1)
    bench.executor.load(write_exit_package(tmp_path / "toy2", version="2"))
    bench.submit(2)
    first, second = bench.run(2)
    assert (first.version, second.version) == ("1", "2")
    assert [model.package.version for model in bench.executor.models] == ["2"]
    bench.executor.close()


def test_versions_can_be_served_side_by_side(package: Package, tmp_path: Path) -> None:
    bench = Bench(package)
    bench.executor.load(write_exit_package(tmp_path / "toy2", version="2"), replace=False)
    bench.submit(1, version="1")
    bench.submit(2)
    assert [reply.version for reply in bench.run(2)] == ["1", "2"]
    bench.executor.unload("toy", "2")
    assert bench.executor.model("toy").package.version == "1"
    bench.executor.unload("toy")
    with pytest.raises(ModelNotFoundError, match=r"'toy' is not loaded: loaded are \[\]"):
        bench.executor.unload("toy")
    bench.executor.close()


def test_draining_ends_what_is_there_and_takes_nothing_new(bench: Bench) -> None:
    bench.submit(1)
    assert not bench.executor.drain(0.0)
    bench.submit(2)
    assert bench.wait()[0].status is Status.UNAVAILABLE
    bench.executor.start()
    assert bench.executor.drain(10.0)
    assert [reply.id for reply in bench.wait(2)] == [2, 1]


def test_closing_answers_everything_and_takes_nothing_more(bench: Bench) -> None:
    bench.submit(1)
    bench.submit(2)
    bench.executor.close()
    assert {(reply.id, reply.status) for reply in bench.wait(2)} == {(1, Status.UNAVAILABLE), (2, Status.UNAVAILABLE)}
    bench.executor.close()
    with pytest.raises(ClosedError, match="cannot take request 3"):
        bench.submit(3)
    with pytest.raises(ClosedError, match="cannot run request 3"):
        bench.executor.run_inline(bench.request(3))
    with pytest.raises(ClosedError, match="cannot load 'toy'"):
        bench.executor.load(bench.executor.model("toy").package)


def test_a_quick_model_runs_inline_when_the_device_is_idle(package: Package) -> None:
    bench = Bench(package, inline_limit_s=0.021)
    reply = bench.executor.run_inline(bench.request(1, 30.0))
    assert reply is not None
    assert reply.exit_id == "exit3"
    assert reply.time_left_s == pytest.approx(0.009)
    refused = bench.executor.run_inline(bench.request(2, 22.0))
    assert refused is not None
    assert refused.status is Status.RESOURCE_EXHAUSTED
    assert bench.executor.run_inline(bench.request(3, model="tow")) is None
    bench.submit(4)
    assert bench.executor.run_inline(bench.request(5)) is None
    bench.executor.close()


def test_a_slow_model_does_not_run_inline(bench: Bench) -> None:
    assert bench.executor.run_inline(bench.request(1)) is None


def test_a_broken_callback_does_not_take_the_device_down(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Reply) -> None:
        raise RuntimeError("nobody home")

    bench.executor.submit(bench.request(1), broken)
    bench.submit(2)
    assert bench.run()[0].id == 2
    assert "nobody home" in caplog.text


def test_replies_are_counted_by_status(bench: Bench) -> None:
    bench.submit(1)
    bench.submit(2, 1.0)
    bench.submit(3, model="tow")
    assert bench.executor.stats().in_flight == 1
    bench.run(3)
    stats = bench.executor.stats()
    assert stats.replies == {Status.OK: 1, Status.RESOURCE_EXHAUSTED: 1, Status.INVALID: 1}
    assert (stats.in_flight, stats.queued) == (0, {"null:0": 0})


def test_a_worker_is_pinned_where_asked(package: Package) -> None:
    core = max(os.sched_getaffinity(0))
    bench = Bench(package, core=core)
    seen: list[set[int]] = []
    bench.at(1.0, lambda: seen.append(os.sched_getaffinity(0)))
    before = os.sched_getaffinity(0)
    bench.submit(1)
    bench.run()
    assert seen == [{core}]
    assert os.sched_getaffinity(0) == before
    bench.executor.close()


def test_a_core_that_is_not_there_is_an_error(package: Package) -> None:
    with pytest.raises(BackendError, match=r"null:0: cannot pin to cores \[4095\]: open are"):
        Bench(package, core=4095)


def test_devices_need_names_of_their_own(package: Package) -> None:
    with pytest.raises(ValueError, match="each with a name of its own"):
        Executor([Device(NullBackend({})), Device(NullBackend({}))])
    bench = Bench(package)
    with pytest.raises(ValueError, match=r"device 'npu:7' is not one of \['null:0'\]"):
        bench.executor.load(package, device="npu:7")
    bench.executor.close()


deadlines_ms = st.one_of(st.none(), st.floats(0.5, 120.0))
requests = st.tuples(deadlines_ms, st.integers(-1, 1), st.floats(0.0, 60.0), st.sampled_from([None, "exit2"]))


@given(st.lists(requests, min_size=1, max_size=12), st.booleans())
def test_every_request_gets_one_reply_and_none_after_its_deadline(
    package: Package, asked: list[tuple[float | None, int, float, str | None]], warm: bool
) -> None:
    bench = Bench(package, warm_up_runs=4 if warm else 0)
    for index, (deadline_ms, priority, arrives_ms, least_exit) in enumerate(asked):
        options = {"priority": priority, "least_exit": least_exit}
        submit = partial(bench.submit, index, deadline_ms, **options)
        if arrives_ms < 10.0:
            submit()
        else:
            bench.at(arrives_ms, submit)
    extra = range(len(asked), len(asked) + 3)  # 63 ms of work, so that the clock goes on until all have arrived
    for index in extra:
        bench.submit(index)
    asked = asked + [(None, 0, 0.0, None)] * len(extra)
    replies = bench.run(len(asked))
    assert bench.executor.drain(10.0)
    bench.executor.close()
    assert sorted(str(reply.id) for reply in replies) == sorted(str(index) for index in range(len(asked)))
    for reply, time_ms in bench.replies:
        deadline_ms, _, _, least_exit = asked[int(str(reply.id))]
        if deadline_ms is None:
            assert (reply.status, reply.exit_id) == (Status.OK, "exit3")
        elif reply.status is Status.OK:
            assert time_ms <= deadline_ms + 1e-6
        if least_exit == "exit2":
            assert reply.exit_id != "exit1"
