"""The daemon as a real process: answers, bad input, second daemons, death and the guard that outlives it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

import carla_bridge
import headway
from tests.processes import PATIENCE_S, end, end_owner, run, start, wait_for

PACKAGE = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
FRAME = np.full((1, 80, 160, 3), 90, np.uint8)
_START_S = 60.0  # a daemon imports for seconds where others keep the machine busy


@contextlib.contextmanager
def running(folder: Path, *extra: str) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    socket = folder / "d.sock"
    process = start("serve", "--socket", str(socket), "--package", str(PACKAGE), *extra)
    try:
        await_ready(socket)
        yield socket, process
    finally:
        end(process)
        end_owner(folder / "headway-guard.sock")


def await_ready(socket: Path) -> None:
    def ready() -> bool:
        with contextlib.suppress(headway.HeadwayError), headway.Client(socket, timeout_s=1.0) as client:
            return bool(client.status()["ready"])
        return False

    wait_for(ready, _START_S)


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with running(tmp_path_factory.mktemp("d")) as (path, _):
        yield path


@pytest.fixture
def client(socket: Path) -> Iterator[headway.Client]:
    with headway.Client(socket, timeout_s=PATIENCE_S) as opened:
        yield opened


def send_raw(socket: Path, *frames: bytes) -> Any:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{socket}")
        dealer.send_multipart(list(frames))
        assert dealer.poll(round(1e3 * PATIENCE_S))
        return msgpack.unpackb(dealer.recv_multipart()[0])


def test_the_whole_model_answers_and_tells_where_it_ran(client: headway.Client) -> None:
    answer = client.infer("driving", {"frame": FRAME}, least_exit="exit3")
    assert answer.exit_id == "exit3"
    assert answer.outputs["answer3"].shape == (1, 6)
    assert [part["segment"] for part in answer.parts] == ["trunk1", "trunk2", "trunk3", "exit3"]
    assert {part["device"] for part in answer.parts} == {"cpu"}
    assert answer.time_left_s is None


def test_an_early_exit_runs_no_more_than_it_needs(client: headway.Client) -> None:
    answers = [client.infer("driving", {"frame": np.full_like(FRAME, shade)}) for shade in (0, 90, 255)]
    for answer in answers:
        deepest = int(answer.exit_id[-1])
        ran = {part["segment"] for part in answer.parts}
        assert f"trunk{deepest + 1}" not in ran


def test_a_deadline_that_cannot_be_met_is_refused_with_numbers(client: headway.Client) -> None:
    with pytest.raises(headway.RequestError, match="ms") as caught:
        client.infer("driving", {"frame": FRAME}, deadline_s=20e-6)
    assert caught.value.code in ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        ("flying", {"frame": FRAME}, "'flying' is not loaded: loaded are .*driving"),
        ("driving", {"frame": FRAME[:, :40]}, r"shape \(1, 40, 160, 3\): must be"),
        ("driving", {"frame": FRAME.astype(np.float32)}, "dtype float32: must be uint8"),
        ("driving", {"picture": FRAME}, r"lacks \['frame'\]"),
        ("driving", {}, r"lacks \['frame'\]"),
    ],
    ids=["unknown model", "wrong shape", "wrong dtype", "wrong name", "no input"],
)
def test_a_wrong_request_is_told_what_would_be_right(
    client: headway.Client, model: str, inputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(headway.RequestError, match=message) as caught:
        client.infer(model, inputs)
    assert caught.value.code == "INVALID"


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([b""], "cannot be read"),
        ([b"\xc1\xc1"], "cannot be read"),
        ([msgpack.packb({"kind": "infer/2", "id": 1})], "speaks version 1"),
        ([msgpack.packb({"kind": "infer/1", "id": 1})], "model"),
        ([msgpack.packb({"kind": "status/1", "id": 1, "extra": 2})], "extra"),
        ([msgpack.packb({"kind": "status/1", "id": 1}), b"more"], "1 tensor frames follow"),
        ([bytes(100_000)], "100000 bytes: at most"),
        (
            [
                msgpack.packb(
                    {
                        "kind": "infer/1",
                        "id": 7,
                        "model": "driving",
                        "tensors": [{"name": "frame", "dtype": "uint8", "shape": [1, 80, 160, 3]}],
                    }
                ),
                b"short",
            ],
            "has 5 bytes: must have 38400",
        ),
    ],
    ids=["empty", "no msgpack", "other version", "no model", "unknown field", "stray frame", "oversized", "truncated"],
)
def test_damage_is_answered_to_its_sender_and_the_rest_go_on(
    socket: Path, client: headway.Client, frames: list[bytes], message: str
) -> None:
    answer = send_raw(socket, *frames)
    assert (answer["kind"], answer["code"]) == ("error/1", "INVALID")
    assert message in answer["error"]
    assert client.infer("driving", {"frame": FRAME}).status == "OK"


def test_odometry_that_is_no_number_is_refused(socket: Path) -> None:
    step = {"kind": "step/1", "stamp_ns": 1, "x_m": float("nan"), "y_m": 0.0, "heading_rad": 0.0, "beta_rad": 0.0}
    tensor = {"name": "frame", "dtype": "uint8", "shape": [80, 160, 3]}
    answer = send_raw(socket, msgpack.packb({**step, "speed_mps": 0.0, "tensors": [tensor]}), FRAME.tobytes())
    assert "every value must be finite" in answer["error"]


def test_a_cancelled_request_ends_as_cancelled_or_answered_and_harms_nobody(
    socket: Path, client: headway.Client
) -> None:
    daemon = int(Path(f"{socket}.lock").read_text())
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{socket}")
        tensor = {"name": "frame", "dtype": "uint8", "shape": [64, 80, 160, 3]}
        infer = {"kind": "infer/1", "id": 5, "model": "driving", "least_exit": "exit3", "tensors": [tensor]}
        os.kill(daemon, signal.SIGSTOP)  # until both are on their way, however long that takes
        try:
            dealer.send_multipart([msgpack.packb(infer), bytes(64 * 38400)])
            dealer.send(msgpack.packb({"kind": "cancel/1", "id": 5}))
        finally:
            os.kill(daemon, signal.SIGCONT)
        assert dealer.poll(round(1e3 * PATIENCE_S))
        answer = msgpack.unpackb(dealer.recv_multipart()[0])
        assert answer["id"] == 5
        assert answer.get("code") == "CANCELLED"
    assert client.infer("driving", {"frame": FRAME}).status == "OK"


def test_models_and_status_from_the_command_line(socket: Path) -> None:
    listed = json.loads(run("models", "--socket", str(socket), "--json").stdout)
    assert [exit_["id"] for exit_ in listed[0]["exits"]] == ["exit1", "exit2", "exit3"]
    status = json.loads(run("status", "--socket", str(socket), "--json").stdout)
    assert status["guard"]["vehicle"] == "demo"


def test_a_second_daemon_is_told_who_owns_the_socket(socket: Path) -> None:
    second = run("serve", "--socket", str(socket), "--package", str(PACKAGE))
    assert second.returncode == 69
    assert "belongs to the running process" in second.stderr


def test_a_killed_daemon_leaves_its_guard_and_the_next_one_adopts_it(tmp_path: Path) -> None:
    with running(tmp_path) as (socket, first):
        with headway.Client(socket, timeout_s=PATIENCE_S) as client:
            guard_pid = client.status()["guard"]["pid"]
        first.kill()
        first.wait()
        assert socket.exists(), "a dead socket file is what the next daemon has to cope with"
        os.kill(guard_pid, 0)
        with running(tmp_path) as (again, _), headway.Client(again, timeout_s=PATIENCE_S) as client:
            guard = client.status()["guard"]
    assert guard["pid"] == guard_pid
    assert guard["adopted"]


def test_sigterm_drains_and_ends_with_0(tmp_path: Path) -> None:
    with running(tmp_path) as (socket, process):
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert not socket.exists()


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "driving"
    shutil.copytree(PACKAGE, broken)
    (broken / "trunk2.onnx").unlink()
    ended = run("serve", "--socket", str(tmp_path / "d.sock"), "--package", str(broken))
    assert ended.returncode == 78
    assert "trunk2.onnx" in ended.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [("[serve]\nsokket = 'x'\n", "serve.sokket is not one of"), ("[offload]\npolicy = 'fast'\n", "fast")],
)
def test_a_wrong_configuration_ends_with_78(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "headway.toml"
    path.write_text(text)
    ended = run("serve", "--config", str(path), "--package", str(PACKAGE))
    assert ended.returncode == 78
    assert message in ended.stderr


def test_a_silent_client_does_not_hold_up_others(socket: Path, client: headway.Client) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as deaf:
        deaf.setsockopt(zmq.LINGER, 0)
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.connect(f"ipc://{socket}")
        for number in range(1, 200):
            deaf.send(msgpack.packb({"kind": "models/1", "id": number}))
        assert client.infer("driving", {"frame": FRAME}).status == "OK"


def test_a_vehicle_that_no_certificate_covers_is_refused_unless_told_so(tmp_path: Path) -> None:
    vehicle = tmp_path / "vehicle.toml"
    vehicle.write_text('name = "mine"\nl_r_m = 1.5\nbeta_max_rad = 0.5\nv_max_mps = 9.0\ndeceleration_mps2 = 5.0\n')
    arguments = ("--socket", str(tmp_path / "d.sock"), "--package", str(PACKAGE), "--vehicle", str(vehicle))
    ended = run("serve", *arguments)
    assert ended.returncode == 78
    assert "no shipped certificate covers vehicle 'mine'" in ended.stderr
    with (
        running(tmp_path, "--vehicle", str(vehicle), "--uncertified") as (socket, _),
        headway.Client(socket, timeout_s=PATIENCE_S) as client,
    ):
        assert client.status()["guard"]["certificate"] is None


def test_a_shipped_vehicle_s_certificate_stands_in_the_status(client: headway.Client) -> None:
    assert len(client.status()["guard"]["certificate"]) == 64
