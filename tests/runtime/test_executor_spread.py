"""Segments of one request on several devices: at the same time, exits in turn, everything stopped together."""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from onnx import helper

from devices.backend import CancelToken, Value
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.clock import MonotonicClock, Timers, VirtualClock
from devices.errors import RunCancelledError, SegmentError
from devices.package import Exit, Package, SegmentSource, write_package
from devices.package.graph import Segment
from runtime.execute.executor import Executor, ExecutorSettings
from runtime.execute.request import Ending, Reply, Request, Status
from runtime.execute.spread import chains_of_one
from runtime.execute.spread_run import JobTaker
from runtime.execute.worker import Device
from tests.models import conv_nodes, head_nodes, model, write_exit_package

IMAGE = {"image": np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)}
EXITS = ("trunk1", "head1", "trunk2", "head2", "trunk3", "head3")
PATIENCE_S = 10.0
FAR_S = 1e4


def write_branches(folder: Path) -> Package:
    """Write two branches on one image and a join."""
    segments = []
    for name in ("left", "right"):
        nodes, weights = conv_nodes("image", name, 3, seed=len(name))
        made = [(name, ("N", 8, 16, 16))]
        segments.append(SegmentSource(name, model(nodes, [("image", ("N", 3, 16, 16))], made, weights)))
    nodes, weights = head_nodes("sum", "answer", "confidence", seed=3)
    joined = [helper.make_node("Add", ["left", "right"], ["sum"]), *nodes]
    reads = [("left", ("N", 8, 16, 16)), ("right", ("N", 8, 16, 16))]
    segments.append(
        SegmentSource("join", model(joined, reads, [("answer", ("N", 4)), ("confidence", ("N", 1))], weights))
    )
    exits = [Exit("final", "join", "answer", "confidence", threshold=0.0)]
    return write_package(folder, name="branches", version="1", segments=segments, exits=exits, origin="test")


class Scripted:
    """A device whose segments do what they are told before they compute."""

    name = "scripted"
    merges = False

    def __init__(self, device: str, before: Mapping[str, Callable[[CancelToken], None]]) -> None:
        self.device = device
        self.before = before
        self.uploads: list[Any] = []
        self.downloads = 0
        self._inner = OnnxRuntimeBackend(device)

    def load(self, segment: Segment, model: bytes) -> "ScriptedSegment":
        return ScriptedSegment(self._inner.load(segment, model), self.before.get(segment.id))

    def upload(self, array: Any) -> Value:
        self.uploads.append(array)
        return array

    def download(self, value: Value) -> Any:
        self.downloads += 1
        return value


class ScriptedSegment:
    """One segment that does something first."""

    def __init__(self, inner: Any, before: Callable[[CancelToken], None] | None) -> None:
        self._inner = inner
        self._before = before

    def run(self, inputs: Mapping[str, Value], cancel: CancelToken | None = None) -> dict[str, Value]:
        token = cancel or CancelToken()
        if self._before is not None:
            self._before(token)
        if token.cancelled:
            raise RunCancelledError("stopped")
        outputs: dict[str, Value] = self._inner.run(inputs, token)
        return outputs


class Desk:
    """An executor of two scripted devices that knows nothing of any model's times."""

    def __init__(
        self, before: Mapping[str, Callable[[CancelToken], None]] | None = None, timers: Timers | None = None
    ) -> None:
        self.devices = [Scripted(name, before or {}) for name in ("a", "b")]
        settings = ExecutorSettings(warm_up_runs=0)
        self.executor = Executor([Device(each) for each in self.devices], settings, timers=timers)
        self.executor.start()
        self._replies: SimpleQueue[Reply] = SimpleQueue()

    def load(self, package: Package, placement: Mapping[str, str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("runtime.execute.executor.measure_spread", lambda *_: None)
            self.executor.load(package, placement=placement)

    def submit(self, package: Package, in_s: float | None = None, **more: Any) -> None:
        deadline_ns = None if in_s is None else MonotonicClock().now_ns() + round(in_s * 1e9)
        self.executor.submit(Request(1, package.name, IMAGE, deadline_ns, **more), self._replies.put)

    def reply(self) -> Reply:
        return self._replies.get(timeout=PATIENCE_S)


@pytest.fixture
def desks() -> Iterator[list[Desk]]:
    made: list[Desk] = []
    yield made
    for desk in made:
        desk.executor.close()


def meet(others: threading.Barrier) -> None:
    others.wait()


def await_event(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S)


def until_stopped(token: CancelToken) -> None:
    stopped = threading.Event()
    token.bind(stopped.set)
    assert stopped.wait(PATIENCE_S)


def test_branches_on_two_devices_run_at_the_same_time(tmp_path: Path, desks: list[Desk]) -> None:
    both = threading.Barrier(2, timeout=PATIENCE_S)  # breaks unless both are there at once
    desk = Desk({"left": lambda _: meet(both), "right": lambda _: meet(both)})
    desks.append(desk)
    package = write_branches(tmp_path / "m")
    desk.load(package, {"right": "b"})
    desk.submit(package)
    reply = desk.reply()
    assert (reply.status, reply.ending, reply.message) == (Status.OK, Ending.COMPLETE, "")
    assert {time.segment_id: time.device for time in reply.segments} == {"left": "a", "right": "b", "join": "a"}
    alone = Chain(package, OnnxRuntimeBackend()).run(IMAGE).exit
    assert alone is not None
    np.testing.assert_allclose(reply.outputs["answer"], alone.answer, rtol=1e-5)


@pytest.mark.parametrize("where", list(itertools.product("ab", repeat=3)))
def test_wherever_segments_run_the_answers_are_the_models(
    tmp_path: Path, desks: list[Desk], where: tuple[str, ...]
) -> None:
    desk = Desk()
    desks.append(desk)
    package = write_exit_package(tmp_path / "m")
    placement = dict(zip(EXITS, (where[0], where[1], where[1], where[2], where[0], where[2]), strict=True))
    desk.load(package, placement)
    desk.submit(package)
    reply = desk.reply()
    alone = Chain(package, OnnxRuntimeBackend()).run(IMAGE).exit
    assert alone is not None
    assert (reply.status, reply.exit_id) == (Status.OK, "exit3")
    np.testing.assert_allclose(reply.outputs["answer3"], alone.answer, rtol=1e-5)
    assert {time.segment_id: time.device for time in reply.segments}.items() <= placement.items()


def test_a_tensor_crosses_once_to_a_device_that_reads_it_twice(tmp_path: Path, desks: list[Desk]) -> None:
    desk = Desk()
    desks.append(desk)
    package = write_exit_package(tmp_path / "m")
    desk.load(package, {"trunk1": "a", **dict.fromkeys(EXITS[1:], "b")})
    desk.submit(package)
    assert desk.reply().status is Status.OK
    a, b = desk.devices
    assert [array.shape for array in a.uploads] == [(2, 3, 16, 16)]
    assert [array.shape for array in b.uploads] == [(2, 8, 16, 16)]
    assert a.downloads == 1


def test_an_exit_out_of_turn_waits_for_the_shallower_one(tmp_path: Path, desks: list[Desk]) -> None:
    second = threading.Event()
    desk = Desk({"head1": lambda _: await_event(second), "head3": until_stopped})
    desks.append(desk)
    package = write_exit_package(tmp_path / "m", thresholds=(0.0, 0.0, 0.0))
    desk.load(package, {"head1": "b"})
    offered: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        plain = JobTaker.offer

        def offer(self: JobTaker, answer: Any) -> None:
            plain(self, answer)
            offered.append(answer.exit_id)
            if answer.exit_id == "exit2":
                second.set()

        patch.setattr(JobTaker, "offer", offer)
        desk.submit(package)
        reply = desk.reply()
    assert offered[0] == "exit2"
    assert (reply.exit_id, reply.ending) == ("exit1", Ending.CONFIDENT)
    assert set(reply.outputs) == {"answer1", "confidence1"}


def test_at_the_deadline_an_exit_out_of_turn_answers(tmp_path: Path, desks: list[Desk]) -> None:
    timers, second = VirtualClock(), threading.Event()
    desk = Desk({"head1": until_stopped, "head3": until_stopped}, timers)
    desks.append(desk)
    package = write_exit_package(tmp_path / "m")
    desk.load(package, {"head1": "b"})
    with pytest.MonkeyPatch.context() as patch:
        plain = JobTaker.offer

        def offer(self: JobTaker, answer: Any) -> None:
            plain(self, answer)
            second.set()

        patch.setattr(JobTaker, "offer", offer)
        desk.submit(package, FAR_S)
        await_event(second)
        timers.advance(MonotonicClock().now_s() + FAR_S)  # the deadline falls, however long it took to get here
        reply = desk.reply()
    assert (reply.status, reply.exit_id, reply.ending) == (Status.OK, "exit2", Ending.DEADLINE)
    assert desk.executor.drain(PATIENCE_S)


def test_cancelling_reaches_every_device(tmp_path: Path, desks: list[Desk]) -> None:
    both, freed = threading.Barrier(3, timeout=PATIENCE_S), threading.Semaphore(0)

    def hang(token: CancelToken) -> None:
        both.wait()
        until_stopped(token)
        freed.release()

    desk = Desk({"left": hang, "right": hang})
    desks.append(desk)
    package = write_branches(tmp_path / "m")
    desk.load(package, {"right": "b"})
    desk.submit(package)
    both.wait()
    assert desk.executor.cancel(1)
    assert desk.reply().status is Status.CANCELLED
    assert freed.acquire(timeout=PATIENCE_S)
    assert freed.acquire(timeout=PATIENCE_S)


def _break(_: CancelToken) -> None:
    raise SegmentError("segment 'x' failed on b: broken")


@pytest.mark.parametrize(
    ("broken", "status", "exit_id"),
    [("head2", Status.OK, "exit1"), ("trunk2", Status.OK, "exit1"), ("trunk1", Status.UNAVAILABLE, None)],
)
def test_behind_a_failure_the_exits_before_it_answer(
    tmp_path: Path, desks: list[Desk], broken: str, status: Status, exit_id: str | None
) -> None:
    failed = threading.Event()

    def fail(token: CancelToken) -> None:
        failed.set()
        _break(token)

    late = {"trunk3": until_stopped} if broken == "head2" else {}
    waits: dict[str, Callable[[CancelToken], None]] = {"head1": lambda _: await_event(failed)}
    desk = Desk({**waits, **late, broken: fail})
    desks.append(desk)
    package = write_exit_package(tmp_path / "m")
    desk.load(package, {"head1": "b", "trunk3": "b", "head3": "b"} | ({"head2": "a"}))
    desk.submit(package)
    reply = desk.reply()
    assert (reply.status, reply.exit_id) == (status, exit_id)
    assert "broken" in reply.message


def test_the_deadline_orders_every_devices_queue(tmp_path: Path, desks: list[Desk]) -> None:
    order: list[int] = []
    package = write_branches(tmp_path / "m")
    devices = [Scripted(name, {}) for name in "ab"]
    executor = Executor([Device(each) for each in devices], ExecutorSettings(warm_up_runs=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime.execute.executor.measure_spread", lambda *_: None)
        executor.load(package, placement={"right": "b"})
    now_ns, ended = MonotonicClock().now_ns(), threading.Semaphore(0)

    def take(reply: Reply) -> None:
        order.append(int(str(reply.id)))
        ended.release()

    for request_id, in_s in ((1, 300.0), (2, 200.0), (3, 100.0)):
        executor.submit(Request(request_id, package.name, IMAGE, now_ns + round(in_s * 1e9)), take)
    with executor:
        for _ in range(3):
            assert ended.acquire(timeout=PATIENCE_S)
    assert order == [3, 2, 1]


def test_a_warm_spread_model_refuses_with_numbers(tmp_path: Path) -> None:
    package = write_branches(tmp_path / "m")
    replies: list[Reply] = []
    with Executor([Device(OnnxRuntimeBackend(name)) for name in ("a", "b")]) as executor:
        served = executor.load(package, placement={"right": "b"})
        assert served.devices == ("a", "b")
        assert served.latency.first[0].count == 8
        deadline_ns = MonotonicClock().now_ns() + 60_000
        executor.submit(Request(1, package.name, IMAGE, deadline_ns), replies.append)
    assert replies[0].status in (Status.RESOURCE_EXHAUSTED, Status.DEADLINE_EXCEEDED)


@pytest.mark.parametrize("placement", [{"middle": "a"}, {"left": "c"}])
def test_a_placement_of_the_unknown_is_an_error(tmp_path: Path, desks: list[Desk], placement: dict[str, str]) -> None:
    desk = Desk()
    desks.append(desk)
    with pytest.raises(ValueError, match=r"middle|'c'"):
        desk.executor.load(write_branches(tmp_path / "m"), placement=placement)


def test_only_plain_chains_of_one_device_become_one(tmp_path: Path) -> None:
    package = write_exit_package(tmp_path / "m")
    backends = {name: OnnxRuntimeBackend(name) for name in "ab"}
    everywhere = chains_of_one(package, dict.fromkeys(EXITS, "a"), backends)
    assert ("trunk3", "head3") in everywhere
    assert sum(map(len, everywhere)) == len(EXITS)
    assert ("trunk3", "head3") not in chains_of_one(package, {**dict.fromkeys(EXITS, "a"), "head3": "b"}, backends)
