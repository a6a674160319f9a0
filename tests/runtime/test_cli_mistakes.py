"""What a user gets wrong is told with its value and what would be right; no traceback, and the fitting exit code."""

from pathlib import Path

import numpy as np
import pytest

import carla_bridge
from tests.processes import run

LONG = "/tmp/" + 150 * "x"
ROAD = 'about = "A road."\ntarget_speed_mps = 9.0\nsections = [{ length_m = 80.0, curvature_1pm = 0.0 }]\n'


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("status", "--socket", LONG), 69, f"cannot connect to {LONG}: File name too long"),
        (("guard", "--socket", "/proc/x.sock"), 78, "the socket /proc/x.sock cannot be made"),
        (("guard", "--proposal-max-age-s", "-1"), 2, "--proposal-max-age-s"),
        (("serve", "--policy", "fast"), 78, "= 'fast': must be one of local, eager, uniform, adaptive"),
        (("serve", "--max-wait-windows", "0"), 78, "at `$.offload.max_wait_windows` = 0"),
        (("replay", "{folder}"), 78, "there is no flight log in {folder}"),
        (("replay", "{folder}/model.onnx"), 78, "model.onnx is no flight log"),
        (("serve", "--config", "{folder}/latin.toml"), 78, "latin.toml is not TOML"),
        (
            ("infer", "{folder}", "--input", "{folder}/x.npz"),
            78,
            "for the plain model there, name the file {folder}/model",
        ),
        (("scenarios", "{folder}/odd.toml"), 78, "nope"),
        (("record", "{folder}", "--file-mb", "-1"), 2, "--file-mb"),
        (("demo", "--duration-s", "-1"), 2, "--duration-s"),
        (("drive", "--world", "mujoco", "--daemon", "d.sock"), 2, "--daemon"),
        (("drive", "--no-shield"), 2, "--no-shield"),
        (("calibrate", "--out", "{folder}/absent/x.toml"), 2, "must be a file in a folder that exists"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, arguments: tuple[str, ...], code: int, told: str) -> None:
    (tmp_path / "model.onnx").write_bytes(100 * b"no log")
    (tmp_path / "latin.toml").write_bytes("[serve]\n# \xe9\n".encode("latin-1"))
    (tmp_path / "odd.toml").write_text('name = "odd"\nvehicle = "nope"\n' + ROAD)
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    done = run(*(argument.format(folder=tmp_path) for argument in arguments))
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    assert told.format(folder=tmp_path) in done.stderr


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    segment = Path(carla_bridge.__file__).parent / "models" / "driving" / "1" / "trunk1.onnx"
    (tmp_path / "file").write_text("")
    done = run("pack", str(segment), "--out", str(tmp_path / "file" / "package"))
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stderr) == (78, f"headway: {tmp_path / 'file'}: File exists\n")
