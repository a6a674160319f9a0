"""The queue, the timers and the latency windows under the executor."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.backends.null import NullBackend
from devices.clock import VirtualClock
from runtime.execute.alarm import AlarmThread
from runtime.execute.executor import Executor, ExecutorSettings
from runtime.execute.latency import WINDOW, LatencyWindow, ModelLatency
from runtime.execute.queue import EdfQueue, Entry, urgency
from runtime.execute.request import Reply, Request
from runtime.execute.reserve import Reserve
from runtime.execute.worker import Device
from tests.models import write_exit_package

deadlines = st.one_of(st.none(), st.integers(0, 5))
priorities = st.integers(-2, 2)


@given(st.lists(st.tuples(deadlines, priorities)), st.sets(st.integers(0, 20)))
def test_what_comes_out_is_ordered_by_deadline_priority_and_arrival(
    pushed: list[tuple[int | None, int]], removed: set[int]
) -> None:
    queue: EdfQueue[int] = EdfQueue()
    entries = [queue.push(urgency(*key), index) for index, key in enumerate(pushed)]
    for index in removed & set(range(len(entries))):
        assert queue.remove(entries[index])
        assert not queue.remove(entries[index])
    left = [index for index in range(len(pushed)) if index not in removed]
    assert len(queue) == len(left)
    queue.close()
    popped = iter(queue.pop, None)
    far = 10**9
    assert list(popped) == sorted(left, key=lambda i: (far if pushed[i][0] is None else pushed[i][0], -pushed[i][1], i))
    assert len(queue) == 0


@given(st.lists(st.tuples(deadlines, priorities), min_size=1), deadlines, priorities)
def test_only_what_is_more_urgent_is_let_past(
    pushed: list[tuple[int | None, int]], deadline_ns: int | None, priority: int
) -> None:
    queue: EdfQueue[tuple[int | None, int]] = EdfQueue()
    for key in pushed:
        queue.push(urgency(*key), key)
    running = urgency(deadline_ns, priority)
    past = list(iter(lambda: queue.pop_before(running), None))
    assert sorted(urgency(*key) for key in past) == sorted(urgency(*k) for k in pushed if urgency(*k) < running)


@given(st.lists(st.tuples(deadlines, priorities, st.integers(0, 100))), deadlines, priorities)
def test_the_cost_ahead_is_that_of_what_is_at_least_as_urgent(
    pushed: list[tuple[int | None, int, int]], deadline_ns: int | None, priority: int
) -> None:
    queue: EdfQueue[int] = EdfQueue()
    gone: list[Entry[int]] = []
    for index, (deadline, rank, cost) in enumerate(pushed):
        entry = queue.push(urgency(deadline, rank), index, float(cost))
        gone += [entry] if index % 3 == 0 else []
    for entry in gone:
        queue.remove(entry)
    mine = urgency(deadline_ns, priority)
    expected = sum(c for i, (d, p, c) in enumerate(pushed) if i % 3 != 0 and urgency(d, p) <= mine)
    assert queue.cost_before(mine) == expected


def test_a_closed_queue_gives_out_what_it_holds_and_then_none_for_ever() -> None:
    queue: EdfQueue[str] = EdfQueue()
    queue.push(urgency(None, 0), "last words")
    queue.close()
    assert [queue.pop(), queue.pop(), queue.pop()] == ["last words", None, None]


def test_a_waiting_worker_is_woken_by_a_push() -> None:
    queue: EdfQueue[str] = EdfQueue()
    got: list[str | None] = []
    worker = threading.Thread(target=lambda: got.append(queue.pop()))
    worker.start()
    queue.push(urgency(3, 0), "work")
    worker.join()
    assert got == ["work"]


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=64))
def test_p99_is_the_nearest_rank(samples: list[float]) -> None:
    window = LatencyWindow()
    for sample in samples:
        window.add(sample)
    assert window.p99_s == np.percentile(samples, 99, method="inverted_cdf")
    assert window.median_s == np.percentile(samples, 50, method="inverted_cdf")
    assert window.least_s == min(samples)
    assert window.count == len(samples)


def test_the_window_forgets_what_is_old() -> None:
    window = LatencyWindow()
    window.add(9.0)
    for _ in range(WINDOW):
        window.add(1.0)
    assert (window.p99_s, window.count) == (1.0, WINDOW)


@pytest.mark.parametrize(("samples", "disturbed"), [(8, 2), (128, 12)])
def test_what_busy_neighbours_do_to_a_tenth_of_the_runs_is_not_usual(samples: int, disturbed: int) -> None:
    window = LatencyWindow()
    for number in range(samples):
        window.add(1.0 if number < disturbed else 0.001)
    assert window.usual_s == 0.001
    for _ in range(samples // 4):
        window.add(1.0)
    assert window.usual_s == 1.0


def test_a_run_to_the_end_is_estimated_by_its_parts() -> None:
    latency = ModelLatency(3)
    for windows in (latency.first, latency.step):
        for k, window in enumerate(windows):
            window.add(10.0**k)
    assert latency.complete_p99_s() == 111.0
    assert latency.complete_p99_s(first_exit=1) == 110.0
    assert latency.complete_usual_s() == 111.0
    assert latency.complete_usual_s(last_exit=1) == 11.0


def test_alarms_go_off_in_order_and_cancelled_ones_do_not() -> None:
    alarm, fired, done = AlarmThread(), list[str](), threading.Event()
    ready = threading.Event()

    def hold() -> None:
        ready.wait()

    alarm.call_at(0, hold)  # the thread waits here until everything is set
    alarm.call_at(2, lambda: fired.append("second"))
    alarm.call_at(1, lambda: fired.append("first"))
    alarm.call_at(2, lambda: pytest.fail("it was cancelled")).cancel()
    alarm.call_at(4, done.set)
    ready.set()
    assert done.wait(10.0)
    alarm.close()
    assert fired == ["first", "second"]


def test_an_alarm_in_future_does_not_go_off_and_close_does_not_wait_for_it() -> None:
    alarm, early = AlarmThread(), list[bool]()
    alarm.call_at(2**62, lambda: early.append(True))
    for _ in range(50):
        passed = threading.Event()
        alarm.call_at(0, passed.set)
        assert passed.wait(10.0)
    alarm.close()
    alarm.close()
    assert early == []


def test_a_failing_action_is_logged_and_the_next_goes_off(caplog: pytest.LogCaptureFixture) -> None:
    alarm, done = AlarmThread(), threading.Event()

    def fail() -> None:
        raise RuntimeError("no such bell")

    alarm.call_at(0, fail)
    alarm.call_at(1, done.set)
    assert done.wait(10.0)
    alarm.close()
    assert "no such bell" in caplog.text


def test_an_alarm_may_close_its_own_thread() -> None:
    alarm, done = AlarmThread(), threading.Event()

    def close() -> None:
        alarm.close()
        done.set()

    alarm.call_at(0, close)
    assert done.wait(10.0)


@given(st.lists(st.floats(0.0, 0.01), max_size=40), st.lists(st.floats(0.0, 0.01), max_size=40), st.floats(0.0, 0.001))
def test_the_reserve_is_a_floor_and_the_p99s_of_what_was_seen(
    woke: list[float], left: list[float], least_s: float
) -> None:
    reserve = Reserve(least_s, 0.005)
    for late_s in woke:
        reserve.woke(late_s)
    for took_s in left:
        reserve.left(took_s)
    seen_s = max(woke, default=0.0) + max(left, default=0.0)
    assert reserve.total_s == pytest.approx(min(0.005, least_s + seen_s))
    assert reserve.total_ns == round(reserve.total_s * 1e9)


def test_a_reply_that_takes_long_to_leave_makes_later_ones_earlier(tmp_path: Path) -> None:
    clock = VirtualClock()
    package = write_exit_package(tmp_path / "m")
    times = {segment.id: 0.001 for segment in package.segments}
    replies: list[Reply] = []
    image = {"image": np.zeros((1, 3, 16, 16), np.float32)}
    device = Device(NullBackend(times, clock=clock))
    with Executor([device], ExecutorSettings(reserve_s=0.0), clock=clock, timers=clock) as executor:
        executor.load(package)
        for number in range(2):
            done = threading.Event()
            request = Request(number, package.name, image, clock.now_ns() + 5_500_000)

            def take(reply: Reply, done: threading.Event = done) -> None:
                replies.append(reply)
                done.set()

            executor.submit(request, take)
            assert done.wait(10.0)
            clock.advance(0.002)
            executor.delivered(request, replies[-1])
    assert [reply.exit_id for reply in replies] == ["exit2", "exit1"]
