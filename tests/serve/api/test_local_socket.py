"""The local socket of a real daemon: questions, models, events, quotas, TCP, and clients that come back."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from onnx import helper

import headway
from devices.package import Exit, SegmentSource, write_package
from tests.models import model
from tests.observe.drives import free_port
from tests.processes import end, end_owner, run, start, wait_for

SIZE = 20_000
ONES = np.ones((1, SIZE), np.float32)


def write_model(folder: Path, name: str, version: str, factor: float, weight: int = 1) -> None:
    """Write a model that multiplies by `factor`, held as `weight` equal numbers."""
    nodes = [helper.make_node("Mul", ["x", "f"], ["y"])]
    weights = {"f": np.full(weight, factor, np.float32)}
    proto = model(nodes, [("x", [1, SIZE])], [("y", [1, SIZE])], weights)
    segment = SegmentSource("all", proto)
    write_package(
        folder / name / version, name=name, version=version, segments=[segment], exits=[Exit("out", "all", "y")]
    )


@contextlib.contextmanager
def serving(folder: Path, *extra: str) -> Iterator[Path]:
    socket = folder / "d.sock"
    process = start("serve", "--socket", str(socket), *extra)
    try:
        await_ready(socket)
        yield socket
    finally:
        end(process)
        end_owner(folder / "headway-guard.sock")


def await_ready(socket: Path) -> None:
    def ready() -> bool:
        with contextlib.suppress(headway.HeadwayError), headway.Client(socket, timeout_s=1.0) as client:
            return bool(client.status()["ready"])
        return False

    wait_for(ready)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("d")
    write_model(made / "models", "times", "1", 2.0)
    write_model(made / "models", "times", "2", 3.0)
    write_model(made / "models", "other", "1", 5.0)
    write_model(made / "models", "drives", "1", 7.0)
    return made


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def socket(folder: Path, port: int) -> Iterator[Path]:
    config = folder / "headway.toml"
    config.write_text(
        f'[serve]\nrepository = "{folder / "models"}"\ntcp = "127.0.0.1:{port}"\nclient_requests = 4\nguarded = []\n'
        f'packages = ["{folder / "models" / "drives" / "1"}"]\nmemory_mb = 900\n'
    )
    with serving(folder, "--config", str(config)) as path:
        yield path


@pytest.fixture
def client(socket: Path) -> Iterator[headway.Client]:
    with headway.Client(socket, timeout_s=10.0) as opened:
        yield opened


def test_the_newest_version_serves_and_another_takes_its_place(client: headway.Client) -> None:
    assert client.infer("times", {"x": ONES}).outputs["y"][0, 0] == 3.0
    assert client.load("times", "1") == "1"
    answer = client.infer("times", {"x": ONES})
    assert (answer.model, answer.version, answer.outputs["y"][0, 0]) == ("times", "1", 2.0)
    assert client.load("times") == "2"
    listed = {(each["name"], each["version"]): each["ready"] for each in client.models(every=True)}
    assert listed[("times", "2")]
    assert not listed[("times", "1")]


def test_what_was_unloaded_is_not_found_until_it_is_loaded_again(client: headway.Client) -> None:
    client.unload("other")
    with pytest.raises(headway.RequestError, match="'other' is not loaded"):
        client.infer("other", {"x": ONES})
    with pytest.raises(headway.RequestError, match="not loaded") as caught:
        client.unload("other")
    assert caught.value.code == "NOT_FOUND"
    client.load("other")
    assert client.infer("other", {"x": ONES}).outputs["y"][0, -1] == 5.0


@pytest.mark.parametrize("name", ["../models/times", "/etc", "times/1", "absent"])
def test_only_the_repository_s_models_can_be_loaded(client: headway.Client, name: str) -> None:
    with pytest.raises(headway.RequestError, match="is not in") as caught:
        client.load(name)
    assert caught.value.code == "NOT_FOUND"


def test_requests_go_on_while_a_model_is_replaced(socket: Path, client: headway.Client) -> None:
    seen: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        with headway.Client(socket, timeout_s=10.0) as other:
            while not stop.is_set():
                seen.append(float(other.infer("times", {"x": ONES}).outputs["y"][0, 0]))

    asking = threading.Thread(target=ask)
    asking.start()
    for version in ("1", "2", "1", "2"):
        client.load("times", version)
    stop.set()
    asking.join()
    assert set(seen) <= {2.0, 3.0}


def test_the_shield_answers_how_long_and_which_slip_angle(client: headway.Client) -> None:
    obstacle = headway.Obstacle(30.0, 0.0, 1.0)
    near = client.deadline(headway.Pose(0.0, 0.0, 0.0, 0.0, 10.0), [obstacle])
    far = client.deadline(headway.Pose(-20.0, 0.0, 0.0, 0.0, 10.0), [obstacle])
    assert 0.0 < near.deadline_s < far.deadline_s
    admitted = client.filter(headway.Pose(0.0, 0.0, 0.0, 0.1, 10.0), [])
    assert (admitted.status, admitted.beta_rad) == ("nominal", 0.1)
    with pytest.raises(headway.RequestError, match="finite"):
        client.deadline(headway.Pose(float("nan"), 0.0, 0.0), [obstacle])


def test_a_step_with_obstacles_is_answered_by_the_guard_s_decision(socket: Path) -> None:
    import time

    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{socket}")
        where = {"x_m": 0.0, "y_m": 0.0, "heading_rad": 0.0, "beta_rad": 0.0, "speed_mps": 0.0}
        step = {"kind": "step/1", "stamp_ns": time.monotonic_ns(), "obstacles": [(20.0, 0.0, 1.0, 0.0)], **where}
        dealer.send(msgpack.packb(step))
        assert dealer.poll(10_000)
        decision = msgpack.unpackb(dealer.recv())
    assert (decision["kind"], decision["stamp_ns"]) == ("decision/1", step["stamp_ns"])


def test_events_tell_of_requests_and_models_until_unsubscribed(client: headway.Client, socket: Path) -> None:
    events = client.events("request", "model", timeout_s=10.0)
    with headway.Client(socket, timeout_s=10.0) as other:
        other.infer("times", {"x": ONES}, priority=2)
        other.load("other")
    first, second = next(events), next(events)
    assert (first.topic, first.data["model"], first.data["priority"]) == ("request", "times", 2)
    assert (second.topic, second.data["what"], second.data["model"]) == ("model", "loaded", "other")
    assert second.number > first.number
    events.close()  # type: ignore[attr-defined]
    assert client.infer("times", {"x": ONES}).status == "OK"


def test_a_client_has_so_many_requests_in_flight_and_no_more(socket: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{socket}")
        for number in range(1, 30):
            question = {"kind": "deadline/1", "id": number, "x_m": 0.0, "y_m": 0.0, "heading_rad": 0.0, "beta_rad": 0.0}
            discs = [(30.0 + n, 20.0, 1.0, 3.0) for n in range(200)]
            dealer.send(msgpack.packb({**question, "speed_mps": 9.0, "obstacles": discs}))
        replies = []
        for _ in range(29):
            assert dealer.poll(10_000)
            replies.append(msgpack.unpackb(dealer.recv()))
    refused = [reply for reply in replies if reply["kind"] == "error/1"]
    assert refused
    assert all("in flight: at most 4" in reply["error"] for reply in refused)
    assert any(reply["kind"] == "tolerable/1" for reply in replies)


@pytest.mark.usefixtures("socket")
def test_by_tcp_come_requests_and_nothing_that_loads_or_drives(port: int) -> None:
    with headway.Client(f"tcp://127.0.0.1:{port}", timeout_s=10.0) as client:
        assert client.infer("times", {"x": ONES}).status == "OK"
        with pytest.raises(headway.RequestError, match="on the unix socket alone") as caught:
            client.load("other")
        assert caught.value.code == "PERMISSION_DENIED"


@pytest.mark.parametrize("address", ["0.0.0.0:5570", "nowhere", "127.0.0.1:99999"])
def test_tcp_beyond_loopback_is_refused(folder: Path, tmp_path: Path, address: str) -> None:
    config = tmp_path / "headway.toml"
    config.write_text(f'[serve]\nrepository = "{folder / "models"}"\ntcp = "{address}"\n')
    ended = run("serve", "--config", str(config), "--socket", str(tmp_path / "d.sock"))
    assert ended.returncode == 78
    assert "serve.tcp" in ended.stderr


def test_the_asyncio_client_has_many_requests_under_way(socket: Path) -> None:
    async def ask() -> list[Any]:
        async with headway.AsyncClient(socket, timeout_s=10.0) as client:
            answers = await asyncio.gather(*(client.infer("times", {"x": k * ONES}) for k in range(4)))
            assert (await client.status())["ready"]
            assert (await client.filter(headway.Pose(0.0, 0.0, 0.0), [])).status == "nominal"
            return [float(answer.outputs["y"][0, 0]) for answer in answers]

    assert asyncio.run(ask()) == [0.0, 3.0, 6.0, 9.0]


def test_asyncio_events_and_refusals(socket: Path) -> None:
    async def ask() -> headway.Event:
        async with headway.AsyncClient(socket, timeout_s=10.0) as client:
            with pytest.raises(headway.RequestError, match="not loaded"):
                await client.infer("absent", {"x": ONES})
            events = client.events("request")
            waiting = asyncio.ensure_future(events.__anext__())
            while not waiting.done():  # the first ones may come before the subscription
                await client.infer("times", {"x": ONES})
            await events.aclose()  # type: ignore[attr-defined]
            return waiting.result()

    assert asyncio.run(ask()).data["model"] == "times"


def test_a_restarted_daemon_is_found_again(folder: Path, tmp_path: Path) -> None:
    socket = tmp_path / "d.sock"
    extra = ("--repository", str(folder / "models"))
    with headway.Client(socket, timeout_s=10.0) as client:
        with pytest.raises(headway.UnavailableError, match="nobody listens"):
            client.infer("times", {"x": ONES}, timeout_s=0.05)
        for _ in range(2):
            with serving(tmp_path, *extra):
                for _ in range(3):
                    assert client.infer("times", {"x": ONES}).outputs["y"][0, 0] == 3.0
