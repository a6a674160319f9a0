"""`headway infer`: a package on disk, and a model of a running daemon."""

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import headway as client
from tests.models import write_exit_package
from tests.processes import end, end_owner, run, start, wait_for
from tests.runtime.pack.commands import Commands
from tests.runtime.pack.nets import residual

IMAGE = np.random.default_rng(3).normal(size=(2, 3, 16, 16)).astype(np.float32)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    np.savez(tmp_path / "x.npz", image=IMAGE)
    return tmp_path / "x.npz"


def test_a_package_on_disk_answers(headway: Commands, image: Path, tmp_path: Path) -> None:
    write_exit_package(tmp_path / "toy")
    answer = headway.json("infer", tmp_path / "toy", "--input", image, "--output", tmp_path / "y.npz")
    assert (answer["model"], answer["version"], answer["exit"], answer["ending"]) == ("toy", "1", "exit3", "complete")
    assert np.array(answer["outputs"]["answer3"]).shape == (2, 4)
    with np.load(tmp_path / "y.npz") as written:
        np.testing.assert_allclose(written["answer3"], answer["outputs"]["answer3"], rtol=1e-6)
    assert answer["parts"][0]["segment"] == "trunk1"
    assert answer["time_left_s"] is None
    assert 0.0 <= answer["confidence"] <= 1.0


def test_words_tell_the_same(headway: Commands, image: Path, tmp_path: Path) -> None:
    write_exit_package(tmp_path / "toy")
    assert headway("infer", tmp_path / "toy", "--input", image, "--deadline-ms", "60000") == 0
    first, *lines = headway.out.splitlines()
    assert first.startswith("toy version 1: exit exit3, confidence ")
    assert first.endswith("ms left")
    assert any(line.startswith("  trunk3+head3 on cpu: ") for line in lines)
    assert any(line.startswith("  answer3 float32[2, 4]: [") for line in lines)


def test_segments_run_on_the_devices_they_were_given(headway: Commands, image: Path, tmp_path: Path) -> None:
    write_exit_package(tmp_path / "toy")
    usual = headway.json("infer", tmp_path / "toy", "--input", image)
    placed = headway.json(
        "infer",
        tmp_path / "toy",
        "--input",
        image,
        "--device",
        "cpu:0",
        "--place",
        "trunk2=cpu:1",
        "--place",
        "trunk3=cpu:1",
    )
    where = {part["segment"]: part["device"] for part in placed["parts"]}
    assert {name for name, device in where.items() if device == "cpu:1"} == {"trunk2", "trunk3"}
    np.testing.assert_allclose(placed["outputs"]["answer3"], usual["outputs"]["answer3"], rtol=1e-5)


def test_a_plain_onnx_file_answers(headway: Commands, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.zeros((1, 6, 8, 8), np.float32))
    answer = headway.json("infer", residual(tmp_path / "net.onnx"), "--input", tmp_path / "x.npz")
    assert answer["exit"] == "final"
    assert answer["outputs"]["y"] == [[0.0, 0.0, 0.0]]
    assert answer["confidence"] is None


def test_numbers_that_json_lacks_are_null(headway: Commands, tmp_path: Path) -> None:
    from runtime.cli.infer import _plain

    assert json.dumps(_plain(np.array([1.5, np.nan, np.inf], np.float32))) == "[1.5, null, null]"
    assert _plain(np.array([[True], [False]])) == [[True], [False]]


def test_a_deadline_that_cannot_be_met_is_refused_with_numbers(headway: Commands, image: Path, tmp_path: Path) -> None:
    write_exit_package(tmp_path / "toy")
    assert headway("infer", tmp_path / "toy", "--input", image, "--deadline-ms", "0.001") == 1
    assert "ms" in headway.error


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["toy", "--input", "absent.npz"], 78, "cannot read absent.npz"),
        (["toy", "--input", "other.npz"], 78, "lacks ['image'] and has unknown ['other']"),
        (["toy", "--input", "small.npz"], 78, "has shape (1, 3, 2, 2)"),
        (["toy", "--input", "x.npz", "--deadline-ms", "0"], 2, "must be above 0"),
        (["toy", "--input", "x.npz", "--deadline-ms", "nan"], 2, "must be above 0"),
        (["toy", "--input", "x.npz", "--least-exit", "exit9"], 78, "has no exit 'exit9'"),
        (["toy", "--input", "x.npz", "--socket", "s"], 2, "--socket is for a model's name"),
        (["./absent", "--input", "x.npz"], 78, "absent does not exist"),
        (["toy", "--input", "x.npz", "--output", "no/y.npz"], 78, "cannot write no/y.npz"),
        (["toy"], 2, "--input"),
        (["nobody", "--input", "x.npz", "--socket", "s"], 69, "nobody listens at s"),
        (["toi", "--input", "x.npz", "--socket", "s"], 69, "there is no file or folder 'toi', and no daemon to ask"),
        (["nobody", "--input", "x.npz", "--device", "cpu"], 2, "its daemon has its devices"),
        (["toy", "--input", "x.npz", "--device", "cpu:99999"], 78, "core 99999 is not open"),
        (["toy", "--input", "x.npz", "--device", "gpu"], 78, "begins with none of cpu"),
        (["toy", "--input", "x.npz", "--place", "head2"], 2, "each must be SEGMENT=DEVICE"),
        (["toy", "--input", "x.npz", "--place", "head9=cpu"], 78, "placement names segments ['head9']"),
    ],
)
def test_what_is_wrong_is_said_once(
    headway: Commands,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_exit_package(tmp_path / "toy")
    np.savez(tmp_path / "other.npz", other=IMAGE)
    np.savez(tmp_path / "small.npz", image=np.zeros((1, 3, 2, 2), np.float32))
    assert headway("infer", *arguments) == code
    assert message in headway.error
    assert "Traceback" not in headway.error


def is_ready(socket: Path) -> bool:
    with contextlib.suppress(client.HeadwayError), client.Client(socket, timeout_s=1.0) as asking:
        return bool(asking.status()["ready"])
    return False


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[Path]:
    """Run a daemon until it is no longer used, and end the guard that it started."""
    socket = folder / "d.sock"
    process = start("serve", "--socket", str(socket), *arguments)
    try:
        wait_for(lambda: is_ready(socket))
        yield socket
    finally:
        end(process)
        end_owner(folder / "headway-guard.sock")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("d")
    write_exit_package(folder / "toy")
    with served(folder, "--package", str(folder / "toy")) as socket:
        yield socket


def test_a_running_daemon_gives_the_answer_that_the_package_gives(
    headway: Commands, image: Path, tmp_path: Path, daemon: Path
) -> None:
    write_exit_package(tmp_path / "toy")
    here = headway.json("infer", tmp_path / "toy", "--input", image)
    there = headway.json("infer", "toy", "--input", image, "--socket", daemon, "--deadline-ms", "10000")
    assert there["outputs"] == here["outputs"]
    assert (there["model"], there["version"], there["exit"]) == ("toy", "1", "exit3")
    assert [part["segment"] for part in there["parts"]] == [part["segment"] for part in here["parts"]]
    assert there["time_left_s"] > 0.0


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("two")
    cores = sorted(os.sched_getaffinity(0))
    write_exit_package(folder / "toy")
    residual(folder / "net.onnx")
    (folder / "headway.toml").write_text(
        f'[serve]\npackages = ["{folder}/toy", "{folder}/net.onnx"]\n'
        f'devices = ["cpu:{cores[0]}", "cpu:{cores[-1]}+threads=1"]\n[serve.placement]\n'
        f'net = "cpu:{cores[-1]}+threads=1"\n'
        f'toy = {{ trunk3 = "cpu:{cores[-1]}+threads=1" }}\n'
    )
    with served(folder, "--config", str(folder / "headway.toml")) as socket:
        yield socket


def test_a_daemon_runs_segments_and_packages_where_its_configuration_says(
    headway: Commands, image: Path, tmp_path: Path, two_devices: Path
) -> None:
    cores = sorted(os.sched_getaffinity(0))
    first, second = f"cpu:{cores[0]}", f"cpu:{cores[-1]}+threads=1"
    write_exit_package(tmp_path / "toy")
    here = headway.json("infer", tmp_path / "toy", "--input", image)
    there = headway.json("infer", "toy", "--input", image, "--socket", two_devices)
    np.testing.assert_allclose(there["outputs"]["answer3"], here["outputs"]["answer3"], rtol=1e-5)
    where = {part["segment"]: part["device"] for part in there["parts"]}
    assert {name for name, device in where.items() if device == second} == {"trunk3"}
    assert set(where.values()) == {first, second}
    np.savez(tmp_path / "net.npz", image=np.zeros((1, 6, 8, 8), np.float32))
    net = headway.json("infer", "net", "--input", tmp_path / "net.npz", "--socket", two_devices)
    assert {part["device"] for part in net["parts"]} == {second}
    assert net["confidence"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('placement = { boat = "cpu" }', "serve.placement names packages ['boat']: served are ['toy']"),
        ('placement = { toy = "cuda:0" }', "serve.placement.toy names device 'cuda:0': serve.devices are ['cpu']"),
        ('placement = { toy = { wing = "cpu" } }', "serve.placement.toy names segments ['wing']"),
        ('devices = ["cpu", "cpu"]', "serve.devices = ['cpu', 'cpu']: each must"),
        ('devices = ["warp:9"]', "device 'warp:9': begins with none of"),
    ],
)
def test_devices_and_placements_that_cannot_be_are_named(tmp_path: Path, text: str, message: str) -> None:
    write_exit_package(tmp_path / "toy")
    (tmp_path / "headway.toml").write_text(f'[serve]\npackages = ["{tmp_path}/toy"]\n{text}\n')
    try:
        ended = run("serve", "--socket", str(tmp_path / "d.sock"), "--config", str(tmp_path / "headway.toml"))
    finally:
        end_owner(tmp_path / "headway-guard.sock")
    assert ended.returncode == 78, ended.stderr
    assert message in ended.stderr


def test_what_the_daemon_refuses_is_told(headway: Commands, image: Path, tmp_path: Path, daemon: Path) -> None:
    assert headway("infer", "boat", "--input", image, "--socket", daemon) == 78
    assert "boat" in headway.error
    np.savez(tmp_path / "odd.npz", image=np.zeros(3, np.complex64))
    assert headway("infer", "toy", "--input", tmp_path / "odd.npz", "--socket", daemon) == 78
    assert "complex64" in headway.error
