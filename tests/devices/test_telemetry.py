"""Nothing is told to the makers of a library: it would be told from the vehicle."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.devices.driving import DRIVING

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import sys
import numpy as np
from devices.open import open_device
from devices.package import load_package
package = load_package(sys.argv[1])
loaded = open_device("cpu:1").backend.load(package.segment("trunk1"), package.model("trunk1"))
loaded.run({"frame": np.zeros((1, 80, 160, 3), np.uint8)})
"""


@pytest.mark.parametrize(
    "program", [RUN, "import runtime.pack.cut_check", "import devices.doctor", "import devices.backends.cuda"]
)
def test_onnxruntime_keeps_no_record_of_its_use(program: str, tmp_path: Path) -> None:
    dropped = ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in dropped} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", program, str(DRIVING)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.rglob("*onnxruntime*")] == []
