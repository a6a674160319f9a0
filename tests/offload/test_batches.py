"""Jobs that run together: which, how many, with what answers; and fair shares of the queue."""

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from devices.backend import CancelToken
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.clock import MonotonicClock
from devices.package import Exit, Package, SegmentSource, TensorSpec, write_package
from offload.server import ranges
from offload.server.job import Job
from offload.server.queue import ROUND_US, DeadlineQueue
from offload.server.ranges import ServedRange
from offload.server.times import BatchTimes
from offload.wire import Cancel, Code, Reply, Request, encode, encode_with
from tests.offload.conftest import Packages, Peer, Served, model
from tests.processes import wait_for

Serve = Callable[..., Served]


def served_range(package: Package, **options: Any) -> ServedRange:
    order = [segment.id for segment in package.segments]
    plain: dict[str, Any] = {"clock": MonotonicClock(), "batch": True}
    return ServedRange(package, order, [OnnxRuntimeBackend()], **(plain | options))


@given(rows=st.lists(st.integers(1, 3), min_size=1, max_size=5), seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_answers_together_are_those_of_each_alone(packages: Packages, rows: list[int], seed: int) -> None:
    served = RANGES.setdefault(packages.driver.name, served_range(packages.driver))
    rng = np.random.default_rng(seed)
    many = [{"x": rng.standard_normal((count, 4)).astype(np.float32)} for count in rows]
    together = served.run_together(0, many, CancelToken())
    for inputs, mine in zip(many, together, strict=True):
        alone = served.run(0, inputs, CancelToken())
        assert mine.exit_id == alone.exit_id == "final"
        assert np.allclose(mine.outputs["answer"], alone.outputs["answer"])


RANGES: dict[str, ServedRange] = {}


def test_a_model_that_mixes_its_rows_is_not_run_in_batches(tmp_path: Any) -> None:
    mean = model(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "m"], ["y"]),
        ],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
    )
    package = write_package(
        tmp_path / "mean",
        name="mean",
        version="1",
        segments=[SegmentSource("all", mean)],
        exits=[Exit("final", "all", "y")],
        inputs=[TensorSpec("x", "float32", ("N", 4))],
    )
    assert served_range(package).batch_sizes == ()


def test_a_model_whose_time_depends_on_its_input_is_not_run_in_batches(packages: Packages) -> None:
    assert served_range(packages.slow).batch_sizes == ()


class ProcessorClock:
    """Tells the processor time that the calling thread has taken, to which other processes add nothing."""

    def now_s(self) -> float:
        return time.thread_time()

    def now_ns(self) -> int:
        return time.thread_time_ns()


def test_a_wide_layer_is_worth_running_in_batches(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_LEAST_TRIAL_S", 30.0)  # a stall is not to end the trial
    weights = np.random.default_rng(0).standard_normal((1024, 2048)).astype(np.float32)
    wide = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": ["N", 1024]},
        {"y": ["N", 2048]},
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )
    package = write_package(
        tmp_path / "wide",
        name="wide",
        version="1",
        segments=[SegmentSource("all", wide)],
        exits=[Exit("final", "all", "y")],
        inputs=[TensorSpec("x", "float32", ("N", 1024))],
    )
    assert served_range(package, batch=False).batch_sizes == ()
    assert served_range(package, clock=ProcessorClock()).batch_sizes[:1] == (2,)


def test_a_batch_is_as_large_as_its_most_urgent_job_allows() -> None:
    times = BatchTimes()
    for size, time_s in ((1, 0.01), (2, 0.012), (4, 0.02), (8, 0.09)):
        times.of(size).add(time_s)
    assert times.limit((2, 4, 8), left_s=1.0) == 4  # eight cost more each
    assert times.limit((2, 4, 8), left_s=0.015) == 2
    assert times.limit((2, 4, 8), left_s=0.011) == 1
    assert times.limit((2, 4, 8), left_s=-math.inf) == 1
    assert times.limit((), left_s=1.0) == 1


NUMBERS = itertools.count(1)


def job(served: Any, deadline_s: float = 1.0, client: bytes = b"client", columns: int = 4, cost_us: int = 0) -> Job:
    request = Request(id=next(NUMBERS), model="m", time_left_us=0)
    inputs = {"x": np.zeros((1, columns), np.float32)}
    return Job(client, request, inputs, 0, 0.0, deadline_s, served=served, expected_us=cost_us)


@given(
    script=st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.sampled_from([4, 5])), max_size=30),
    limit=st.integers(1, 5),
)
def test_a_batch_is_one_run_of_the_queue(script: list[tuple[int, str, int]], limit: int) -> None:
    ranges: dict[str, Any] = {"a": object(), "b": object()}
    queue = DeadlineQueue(lambda first: limit)
    jobs = [job(ranges[name], float(deadline), columns=columns) for deadline, name, columns in script]
    for item in jobs:
        queue.put(item)
    queue.close()
    order = sorted(jobs, key=lambda item: (item.deadline_s, item.request.id))
    while (together := queue.take()) is not None:
        assert 1 <= len(together) <= limit
        assert together == order[: len(together)]
        assert len({(id(item.served), item.inputs["x"].shape) for item in together}) == 1
        order = order[len(together) :]
        if order and len(together) < limit:
            following = order[0]
            assert (following.served, following.inputs["x"].shape) != (
                together[0].served,
                together[0].inputs["x"].shape,
            )
    assert order == []


def test_a_flood_of_urgent_work_takes_one_share() -> None:
    queue = DeadlineQueue()
    cost_us = ROUND_US // 5
    flood = [job(None, 1.0, b"flood", cost_us=cost_us) for _ in range(50)]
    polite = [job(None, 9.0, b"polite", cost_us=cost_us) for _ in range(10)]
    for item in (*flood, *polite):
        queue.put(item)
    queue.close()
    taken: list[bytes] = []
    while (items := queue.take()) is not None:
        taken += [item.client for item in items]
    assert len(taken) == 60
    # Five of the flood make a round; each of the polite client's ten is done by the end of the second.
    assert taken[:20].count(b"polite") == 10
    assert taken[:5] == [b"flood"] * 5


def test_a_client_alone_keeps_the_order_of_deadlines() -> None:
    queue = DeadlineQueue()
    jobs = [job(None, float(deadline), cost_us=10**9) for deadline in (3, 1, 2, 5, 4)]
    for item in jobs:
        queue.put(item)
    queue.close()
    taken = []
    while (items := queue.take()) is not None:
        taken += items
    assert [item.deadline_s for item in taken] == [1.0, 2.0, 3.0, 4.0, 5.0]


def ask(peer: Peer, number: int, value: float, left_s: float) -> None:
    request = Request(id=number, model="driver", time_left_us=int(1e6 * left_s))
    peer.send(encode_with(request, {"x": np.full((1, 4), value, np.float32)}))


def batched(serve: Serve) -> Served:
    """Return a server that believes that four of its model are quicker together."""
    served = serve()
    (chain,) = served.server._desk.models["driver"]._ranges.values()
    for size in (2, 4):
        chain.times.of(size).add(1e-9)
    chain.batch_sizes = (2, 4)
    return served


def replies(peer: Peer, count: int) -> dict[int, Reply]:
    found = {}
    for _ in range(count):
        message, _ = peer.receive()
        assert isinstance(message, Reply)
        found[message.id] = message
    return found


def test_a_server_runs_together_what_waits(serve: Serve, peer: Callable[[str], Peer]) -> None:
    served = batched(serve)
    connected = peer(served.server.endpoint)
    ask(connected, 1, 1.0, 100.0)
    assert served.gate.entered.acquire(timeout=15.0)
    for number in (2, 3, 4):
        ask(connected, number, 5.0, 100.0)
    wait_for(lambda: served.server.waiting == 3)
    served.gate.open.set()
    found = replies(connected, 4)
    assert {reply.code for reply in found.values()} == {Code.OK}
    assert served.server.tally.batches == {1: 1, 3: 1}
    assert served.gate.ran == [1.0, 5.0]


@pytest.mark.parametrize("why", ["deadline", "cancelled by all"])
def test_a_batch_is_stopped_and_those_with_time_run_again(serve: Serve, peer: Callable[[str], Peer], why: str) -> None:
    served = batched(serve)
    connected = peer(served.server.endpoint)
    ask(connected, 1, 1.0, 100.0)
    assert served.gate.entered.acquire(timeout=15.0)
    ask(connected, 2, 5.0, 3.0 if why == "deadline" else 100.0)
    ask(connected, 3, 5.0, 100.0)
    wait_for(lambda: served.server.waiting == 2)
    connected.send(encode(Cancel(id=1)))  # stops it and leaves the gate closed
    assert replies(connected, 1)[1].code is Code.CANCELLED
    assert served.gate.entered.acquire(timeout=15.0)
    if why == "deadline":
        assert replies(connected, 1)[2].code is Code.DEADLINE_EXCEEDED
        assert served.gate.entered.acquire(timeout=15.0)
        served.gate.open.set()
        assert replies(connected, 1)[3].code is Code.OK
        assert served.server.tally.rerun == 1
    else:
        connected.send(encode(Cancel(id=2)))
        connected.send(encode(Cancel(id=3)))
        assert {reply.code for reply in replies(connected, 2).values()} == {Code.CANCELLED}


def test_a_job_that_the_model_has_no_time_left_for_is_not_begun(serve: Serve, peer: Callable[[str], Peer]) -> None:
    served = serve()
    (model,) = served.server._desk.models.values()
    (whole,) = model._ranges.values()
    whole._exits = 1  # with a shallower exit it would be begun all the same
    connected = peer(served.server.endpoint)
    ask(connected, 1, 0.0, 100.0)
    assert replies(connected, 1)[1].code is Code.OK  # it has just run, and must not be tried for a second
    whole.times.alone.p50_s = 60.0
    whole.ran_s += 60.0  # however long this thread is held up now
    ask(connected, 2, 0.0, 30.0)
    refused = replies(connected, 1)[2]
    assert refused.code is Code.DEADLINE_EXCEEDED
    assert "too few for this model" in refused.message
    whole.ran_s = -math.inf
    ask(connected, 3, 0.0, 30.0)
    assert replies(connected, 1)[3].code is Code.OK  # tried again: it may have become quicker
