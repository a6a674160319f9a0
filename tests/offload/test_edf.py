"""The deadline queue: order, and who gets a job."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from offload.server.job import Job
from offload.server.queue import DeadlineQueue
from offload.wire import Request


def job(number: int, deadline_s: float = 1.0, priority: int = 5) -> Job:
    request = Request(id=number, model="m", time_left_us=0, priority=priority)
    return Job(b"client", request, {}, 0, 0.0, deadline_s)


def drained(queue: DeadlineQueue) -> list[Job]:
    queue.close()
    taken = []
    while (items := queue.take()) is not None:
        taken += items
    return taken


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans()), max_size=30))
def test_jobs_come_by_deadline_then_priority_then_arrival(script: list[tuple[int, int, bool]]) -> None:
    queue = DeadlineQueue()
    jobs = [job(number + 1, float(deadline), priority) for number, (deadline, priority, _) in enumerate(script)]
    for item in jobs:
        queue.put(item)
    for item, (_, _, gone) in zip(jobs, script, strict=True):
        if gone:
            assert queue.discard(item)
            assert not queue.discard(item)
    left = [item for item, (_, _, gone) in zip(jobs, script, strict=True) if not gone]
    assert len(queue) == len(left)
    assert drained(queue) == sorted(left, key=lambda item: (item.deadline_s, item.request.priority, item.request.id))
    assert len(queue) == 0


def test_a_taken_job_cannot_be_discarded() -> None:
    queue = DeadlineQueue()
    item = job(1)
    queue.put(item)
    assert queue.take() == [item]
    assert not queue.discard(item)


def test_a_job_that_was_never_put_does_not_count() -> None:
    queue = DeadlineQueue()
    assert queue.discard(job(1))
    assert len(queue) == 0


def test_a_worker_waits_for_a_job_and_leaves_when_closed() -> None:
    queue = DeadlineQueue()
    taken: list[list[Job] | None] = []

    def work() -> None:
        while True:
            taken.append(queue.take())
            if taken[-1] is None:
                return

    worker = threading.Thread(target=work)
    worker.start()
    item = job(1)
    queue.put(item)
    queue.close()
    worker.join(10.0)
    assert taken == [[item], None]


def test_every_worker_leaves_when_closed() -> None:
    queue = DeadlineQueue()
    queue.put(job(1))
    queue.close()
    assert queue.take() is not None
    assert [queue.take() for _ in range(3)] == [None, None, None]


def test_a_discarded_job_is_discarded_once() -> None:
    queue = DeadlineQueue()
    parked, waiting = job(1), job(2)
    queue.put(waiting)
    assert queue.discard(parked)
    assert not queue.discard(parked)
    assert queue.discard(waiting)
    assert not queue.discard(waiting)
    assert len(queue) == 0


def test_what_is_put_after_closing_is_taken_before_anybody_leaves() -> None:
    queue = DeadlineQueue()
    queue.close()
    item = job(1)
    queue.put(item)
    assert [queue.take() for _ in range(3)] == [[item], None, None]
