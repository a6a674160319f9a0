"""Parts of requests on an edge server: sent with the deadline, answered from here where it does not answer in time."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.clock import MonotonicClock
from devices.errors import BackendError
from devices.package import Package
from offload.client import ClientSettings, EdgeClient
from offload.link import EmulatedLink, LinkModel
from offload.link.distributions import Fixed
from runtime.execute.edge import EdgeDevice
from runtime.execute.edge_unit import edge_ranges
from runtime.execute.executor import Executor, ExecutorSettings
from runtime.execute.request import Ending, Reply, Request, Status
from runtime.execute.worker import Device
from tests.models import write_exit_package
from tests.processes import end, start, wait_for

IMAGE = {"image": np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)}
HEAD = {"trunk1": "here", "head1": "here"}
TAIL = dict.fromkeys(("trunk2", "head2", "trunk3", "head3"), "edge")
ALL = dict.fromkeys(("trunk1", "head1", "trunk2", "head2", "trunk3", "head3"), "edge")
PATIENCE_S = 10.0


class Server:
    """A real edge server."""

    def __init__(self, folder: Path) -> None:
        self.process = start("edge", "--package", str(folder))
        assert self.process.stdout is not None
        self.endpoint: str = json.loads(self.process.stdout.readline())["endpoint"]

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class Desk:
    """An executor of one device here and a server there."""

    def __init__(
        self, package: Package, endpoint: str, mbps: float | None = None, silence_s: float = PATIENCE_S
    ) -> None:
        link = None
        if mbps is not None:
            link = EmulatedLink(LinkModel(rate=Fixed(mbps * 1e6)), origin_s=MonotonicClock().now_s())
        self.package = package
        settings = ClientSettings(silence_s=silence_s, heartbeat_ms=round(500 * silence_s))
        self.edge = EdgeDevice("edge", EdgeClient(endpoint, settings, link=link))
        here = Device(OnnxRuntimeBackend("here"))
        self.executor = Executor([here], ExecutorSettings(warm_up_runs=2), edges=[self.edge])
        self.executor.start()
        self._replies: SimpleQueue[Reply] = SimpleQueue()
        assert self.edge.await_connected(PATIENCE_S)

    def load(self, placement: dict[str, str], **more: Any) -> None:
        self.executor.serve(self.executor.prepare(self.package, placement=placement, **more))

    def ask(self, in_s: float | None = None, act: Callable[[], None] = lambda: None, **more: Any) -> Reply:
        deadline_ns = None if in_s is None else MonotonicClock().now_ns() + round(in_s * 1e9)
        self.executor.submit(Request(1, self.package.name, IMAGE, deadline_ns, **more), self._replies.put)
        act()
        return self._replies.get(timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_exit_package(tmp_path_factory.mktemp("m") / "toy")


@pytest.fixture(scope="module")
def server(package: Package) -> Iterator[Server]:
    """An edge server for every test; who freezes it thaws it."""
    made = Server(package.folder)
    yield made
    end(made.process)


@pytest.fixture
def desk(package: Package, server: Server) -> Iterator[Desk]:
    made = Desk(package, server.endpoint)
    yield made
    made.executor.close()


@pytest.fixture
def early_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have spares begin early enough for a busy machine."""
    monkeypatch.setattr("runtime.execute.edge_unit._HAND_OVER_S", 1.5)


def ran(reply: Reply) -> dict[str, str]:
    return {time.segment_id: time.device for time in reply.segments}


def right(package: Package, reply: Reply) -> None:
    alone = Chain(package, OnnxRuntimeBackend()).run(IMAGE, least_exit=reply.exit_id, on_exit=lambda _: True).exit
    assert alone is not None
    np.testing.assert_allclose(reply.outputs[f"answer{alone.index + 1}"], alone.answer, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("placement", [HEAD | TAIL, ALL, dict.fromkeys(ALL, "here") | {"trunk2": "edge"}])
def test_a_tail_all_or_a_middle_part_runs_on_the_server(desk: Desk, placement: dict[str, str]) -> None:
    desk.load(placement)
    reply = desk.ask(5.0)
    assert (reply.status, reply.ending, reply.exit_id) == (Status.OK, Ending.COMPLETE, "exit3")
    assert ran(reply) == placement
    right(desk.package, reply)


def test_nothing_is_sent_where_an_exit_here_is_sure(tmp_path: Path) -> None:
    package = write_exit_package(tmp_path / "sure", thresholds=(0.0, 2.0, 0.0))
    server = Server(package.folder)
    desk = Desk(package, server.endpoint)
    try:
        desk.load(HEAD | TAIL)
        used_s = desk.edge.used_s
        reply = desk.ask(5.0)
        assert (reply.ending, reply.exit_id) == (Ending.CONFIDENT, "exit1")
        assert desk.edge.used_s == used_s
        assert desk.ask(5.0, least_exit="exit2").exit_id == "exit3"
        assert desk.edge.used_s > used_s
    finally:
        desk.executor.close()
        end(server.process)


@pytest.mark.parametrize("placement", [HEAD | TAIL, ALL])
def test_a_server_that_freezes_amid_a_request_is_answered_for_from_here_in_time(
    package: Package, server: Server, placement: dict[str, str], early_spare: None
) -> None:
    desk = Desk(package, server.endpoint)
    try:
        desk.load(placement)
        assert desk.ask(5.0).ending is Ending.COMPLETE
        server.freeze()
        reply = desk.ask(2.0)  # sooner than the silence is noticed
        assert (reply.status, reply.exit_id) == (Status.OK, "exit3")
        assert ran(reply)["head3"] == "here"
        assert reply.time_left_s is not None
        assert reply.time_left_s > 0.0
        right(desk.package, reply)
    finally:
        server.thaw()
        desk.executor.close()


def test_what_may_not_leave_the_board_runs_here(desk: Desk) -> None:
    for placement in (HEAD | TAIL, ALL):
        desk.load(placement)
        used_s = desk.edge.used_s
        reply = desk.ask(None, here=True)
        assert (reply.status, reply.exit_id, set(ran(reply).values())) == (Status.OK, "exit3", {"here"})
        assert desk.edge.used_s == used_s


@pytest.fixture
def doomed(package: Package) -> Iterator[Server]:
    made = Server(package.folder)
    yield made
    end(made.process)


def test_a_server_that_dies_amid_a_request_without_a_deadline(package: Package, doomed: Server) -> None:
    desk = Desk(package, doomed.endpoint, silence_s=0.2)
    try:
        desk.load(dict.fromkeys(ALL, "here") | {"trunk2": "edge"})
        doomed.freeze()
        reply = desk.ask(None, doomed.process.kill)
        assert (reply.status, reply.exit_id) == (Status.OK, "exit3")
        assert set(ran(reply).values()) == {"here"}
        right(desk.package, reply)
        assert desk.edge.lost is not None
        assert desk.executor.lost.keys() == {"edge"}
    finally:
        desk.executor.close()


def test_a_link_too_slow_is_answered_for_from_here_and_its_rate_known(
    package: Package, server: Server, early_spare: None
) -> None:
    desk = Desk(package, server.endpoint, mbps=0.03)  # 8 KB take 2.2 s
    try:
        desk.load(HEAD | TAIL)
        for _ in range(2):
            reply = desk.ask(2.0)
            assert (reply.status, reply.exit_id) == (Status.OK, "exit3")
            assert set(ran(reply).values()) == {"here"}
        wait_for(lambda: desk.edge.link().at_most_bps < 1e6)
    finally:
        desk.executor.close()


def test_the_link_and_the_server_are_measured(package: Package, server: Server) -> None:
    desk = Desk(package, server.endpoint, mbps=0.1)  # 8 KB take 0.7 s: what a busy machine adds is less
    try:
        desk.load(HEAD | TAIL)
        for _ in range(5):
            desk.ask(5.0)
        assert desk.edge.link().rate_bps == pytest.approx(1e5, rel=0.5)
        runs = desk.edge.runs()
        assert [run.segment_ids for run in runs] == [tuple(TAIL)] * 5
        assert all(run.compute_s > 0.0 for run in runs)
        desk.edge.probe(package, tuple(TAIL), {}, MonotonicClock().now_s() + 5.0)
        probed: list[Any] = []

        def is_in() -> bool:
            probed.extend(desk.edge.runs())
            return bool(probed)

        wait_for(is_in)
        assert len(probed) == 1
    finally:
        desk.executor.close()


def test_a_run_may_end_at_an_earlier_exit_unless_more_is_asked_for(desk: Desk) -> None:
    for placement in (dict.fromkeys(ALL, "here"), HEAD | TAIL):
        desk.load(placement, last_exit="exit2")
        assert desk.ask(5.0).exit_id == ("exit2" if placement["head2"] == "here" else "exit3")
        assert desk.ask(5.0, least_exit="exit3").exit_id == "exit3"
    with pytest.raises(ValueError, match="no exit 'exit9'"):
        desk.load(HEAD | TAIL, last_exit="exit9")


def test_a_server_of_another_version_is_refused(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.execute.edge_run._LOADING_S", PATIENCE_S)
    desk = Desk(write_exit_package(tmp_path / "two", version="2"), server.endpoint)
    try:
        with pytest.raises(BackendError, match=r"backend of edge failed.*version"):
            desk.load(HEAD | TAIL)
    finally:
        desk.executor.close()


def test_a_tensor_that_would_cross_twice_is_refused(desk: Desk) -> None:
    placement = dict.fromkeys(ALL, "edge") | {"head2": "here"}
    with pytest.raises(ValueError, match="tensor 'f2' would cross the link twice"):
        edge_ranges(desk.package, placement, "edge")
    with pytest.raises(ValueError, match="cross the link twice"):
        desk.load(placement)
    with pytest.raises(ValueError, match="spare = 'edge': must be a device of this board"):
        desk.load(HEAD | TAIL, spare="edge")


def test_a_worker_that_dies_ends_its_requests_and_takes_no_more(tmp_path: Path) -> None:
    class Dying(OnnxRuntimeBackend):
        dead = False

        def upload(self, array: Any) -> Any:
            if self.dead:
                raise SystemExit("the driver took the thread along")
            return super().upload(array)

    package = write_exit_package(tmp_path / "m")
    backend = Dying("dying")
    executor = Executor([Device(backend)], ExecutorSettings(warm_up_runs=1))
    executor.start()
    try:
        executor.load(package)
        replies: SimpleQueue[Reply] = SimpleQueue()
        backend.dead = True
        for number in range(2):
            executor.submit(Request(number, package.name, IMAGE), replies.put)
            reply = replies.get(timeout=PATIENCE_S)
            assert (reply.status, "dying" in reply.message) == (Status.UNAVAILABLE, True)
        assert "the worker of dying has died" in executor.lost["dying"]
    finally:
        executor.close()


def test_a_device_that_does_not_stop_is_lost_until_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, go_on = threading.Event(), threading.Event()

    class Stubborn(OnnxRuntimeBackend):
        stubborn = False

        def upload(self, array: Any) -> Any:
            if self.stubborn:
                running.set()
                assert go_on.wait(PATIENCE_S)
            return super().upload(array)

    monkeypatch.setattr("runtime.execute.worker._STUCK_S", 0.0)
    package = write_exit_package(tmp_path / "m")
    backend = Stubborn("stubborn")
    executor = Executor([Device(backend)], ExecutorSettings(warm_up_runs=1))
    executor.start()
    try:
        executor.load(package)
        backend.stubborn = True
        replies: SimpleQueue[Reply] = SimpleQueue()
        executor.submit(Request(1, package.name, IMAGE), replies.put)
        assert running.wait(PATIENCE_S)
        assert executor.lost == {}
        executor.cancel(1)
        assert "does not stop what it runs for a request that has ended" in executor.lost["stubborn"]
        executor.submit(Request(2, package.name, IMAGE), replies.put)
        assert [replies.get(timeout=PATIENCE_S).status for _ in range(2)] == [Status.CANCELLED, Status.UNAVAILABLE]
        go_on.set()
        wait_for(lambda: not executor.lost)
    finally:
        go_on.set()
        executor.close()
