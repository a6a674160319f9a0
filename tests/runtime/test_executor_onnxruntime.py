"""The executor on real onnxruntime sessions: what is stopped is really stopped, and the device is free afterwards."""

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from onnx import helper

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.clock import MonotonicClock, Timers, VirtualClock
from devices.package import Exit, Package, SegmentSource, load_package, write_package
from runtime.execute.executor import Executor, ExecutorSettings
from runtime.execute.request import Ending, Reply, Request, Status
from runtime.execute.worker import Device
from tests.models import model, write_endless_package, write_exit_package
from tests.threads import wait_until_computing

S = 1_000_000_000
FAR_S = 1e4
EYE = {"x": np.eye(64, dtype=np.float32)}
IMAGE = {"image": np.ones((1, 3, 16, 16), np.float32)}


class Desk:
    """An executor of one or two CPU devices, and the replies as they come."""

    def __init__(self, *names: str, timers: Timers | None = None) -> None:
        devices = [Device(OnnxRuntimeBackend(name)) for name in names or ("cpu:0",)]
        self.executor = Executor(devices, ExecutorSettings(warm_up_runs=0), timers=timers)
        self.executor.start()
        self._replies: SimpleQueue[Reply] = SimpleQueue()

    def submit(self, request_id: int, model: str, inputs: Any, in_s: float | None = None) -> None:
        deadline_ns = None if in_s is None else MonotonicClock().now_ns() + round(in_s * S)
        self.executor.submit(Request(request_id, model, inputs, deadline_ns), self._replies.put)

    def reply(self) -> Reply:
        return self._replies.get(timeout=15.0)

    def tell_loops(self) -> "SimpleQueue[int]":
        """Return where the thread that begins with the endless segment is told from now on."""
        running: SimpleQueue[int] = SimpleQueue()
        segments = self.executor.model("endless").chain._loaded
        loaded = segments["loop"]

        class Telling:
            def run(self, *arguments: Any) -> Any:
                running.put(threading.get_ident())
                return loaded.run(*arguments)

        segments["loop"] = Telling()
        return running


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk()
    made.executor.load(write_exit_package(tmp_path / "toy"))
    load_endless(made.executor, write_endless_package(tmp_path / "endless"))
    yield made
    made.executor.close()


def load_endless(executor: Executor, package: Package, device: str | None = None) -> None:
    """Load a package that cannot be warmed up to its end: warm up to the exit that answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime.execute.model.ServedModel.measure", lambda *_, **__: None)
        executor.load(package, device=device)


def test_the_answers_are_the_models(desk: Desk) -> None:
    desk.submit(1, "toy", IMAGE)
    reply = desk.reply()
    assert (reply.status, reply.exit_id, reply.ending) == (Status.OK, "exit3", Ending.COMPLETE)
    chain = desk.executor.model("toy").chain
    expected = chain.run(IMAGE).exit
    assert expected is not None
    np.testing.assert_array_equal(reply.outputs["answer3"], expected.answer)


def test_at_the_deadline_the_finished_exit_answers_and_the_device_is_free_again(tmp_path: Path) -> None:
    timers = VirtualClock()
    desk = Desk(timers=timers)
    desk.executor.load(write_exit_package(tmp_path / "toy"))
    load_endless(desk.executor, write_endless_package(tmp_path / "endless"))
    running = desk.tell_loops()
    desk.submit(1, "endless", EYE, in_s=FAR_S)
    wait_until_computing(running.get(timeout=10.0))
    timers.advance(MonotonicClock().now_s() + FAR_S)  # the deadline falls, however long it took to get here
    first = desk.reply()
    assert (first.status, first.exit_id, first.ending) == (Status.OK, "quick", Ending.DEADLINE)
    np.testing.assert_array_equal(first.outputs["answer1"], EYE["x"])
    desk.submit(2, "toy", IMAGE)
    second = desk.reply()
    assert (second.id, second.status, second.exit_id) == (2, Status.OK, "exit3")
    desk.executor.close()


def test_cancelling_stops_the_segment_in_the_middle(desk: Desk) -> None:
    running = desk.tell_loops()
    desk.submit(1, "endless", EYE)
    wait_until_computing(running.get(timeout=10.0))
    assert desk.executor.cancel(1)
    assert (desk.reply().status, desk.executor.stats().in_flight) == (Status.CANCELLED, 0)
    desk.submit(2, "toy", IMAGE)
    assert desk.reply().status is Status.OK


def test_closing_stops_what_runs(tmp_path: Path) -> None:
    desk = Desk()
    load_endless(desk.executor, write_endless_package(tmp_path / "endless"))
    desk.submit(1, "endless", EYE)
    desk.executor.close()  # would never return if the loop went on
    assert desk.reply().status is Status.UNAVAILABLE


def test_one_device_goes_on_while_another_is_busy(tmp_path: Path) -> None:
    desk = Desk("cpu:0", "cpu:1")
    load_endless(desk.executor, write_endless_package(tmp_path / "endless"), "cpu:0")
    desk.executor.load(write_exit_package(tmp_path / "toy"), device="cpu:1")
    desk.submit(1, "endless", EYE)
    desk.submit(2, "toy", IMAGE)
    reply = desk.reply()
    assert (reply.id, {time.device for time in reply.segments}) == (2, {"cpu:1"})
    desk.executor.close()
    assert desk.reply().id == 1


def test_a_failing_segment_leaves_the_finished_exit_to_answer(tmp_path: Path) -> None:
    first = model(
        [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Identity", ["x"], ["f"])],
        [("x", (1, 1))],
        [("a", (1, 1)), ("f", (1, 1))],
    )
    gather = model(
        [helper.make_node("Cast", ["f"], ["i"], to=7), helper.make_node("Gather", ["w", "i"], ["y"])],
        [("f", (1, 1))],
        [("y", (1, 1))],
        {"w": np.zeros(4, np.float32)},
    )
    for name, exits in (
        ("two", [Exit("shallow", "first", "a", "a", threshold=99.0), Exit("deep", "gather", "y")]),
        ("one", [Exit("deep", "gather", "y")]),
    ):
        negate = model([helper.make_node("Neg", ["x"], ["f"])], [("x", (1, 1))], [("f", (1, 1))])
        parts = first if name == "two" else negate
        write_package(
            tmp_path / name,
            name=name,
            version="1",
            segments=[SegmentSource("first", parts), SegmentSource("gather", gather)],
            exits=exits,
        )
    desk = Desk()
    desk.executor.load(load_package(tmp_path / "two"))
    desk.executor.load(load_package(tmp_path / "one"))
    desk.submit(1, "two", {"x": np.full((1, 1), 7.0, np.float32)})
    shallow = desk.reply()
    assert (shallow.status, shallow.exit_id, shallow.ending) == (Status.OK, "shallow", Ending.FAILURE)
    assert "segment 'gather' failed on cpu:0" in shallow.message
    desk.submit(2, "one", {"x": np.full((1, 1), -7.0, np.float32)})
    failed = desk.reply()
    assert (failed.status, failed.outputs) == (Status.UNAVAILABLE, {})
    assert "segment 'first+gather' failed on cpu:0" in failed.message
    desk.executor.close()


def test_a_requests_tensors_are_let_go_without_the_garbage_collector(desk: Desk) -> None:
    image = IMAGE["image"].copy()
    alive = weakref.ref(image)
    desk.submit(1, "toy", {"image": image}, in_s=60.0)
    del image
    gc.disable()
    try:
        assert desk.reply().status is Status.OK
        desk.submit(2, "toy", IMAGE)  # once it is answered, nothing of the first is in anybody's hands
        desk.reply()
        assert alive() is None
    finally:
        gc.enable()
