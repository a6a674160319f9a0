"""Fixtures every test may use."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

# CARLA's wheel ends a process without a home; onnxruntime warns where it cannot write there.
os.environ.setdefault("HOME", tempfile.gettempdir())
if not os.access("/run", os.W_OK):
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # where sockets are looked for by default
settings.register_profile(
    "headway", deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "mutation", settings.get_profile("headway"), max_examples=15, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("headway")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The published figures and tables, kept beside the repository; skips where they are absent."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip(f"the published reference data is not at {folder}")
    return folder
