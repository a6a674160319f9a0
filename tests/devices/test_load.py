"""Loading from files: the same answers, and nothing but the file that was checked."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.backends.onnxruntime import LoadedSession, OnnxRuntimeBackend
from devices.chain import Chain
from devices.errors import PackageError
from devices.package import Package
from devices.package.graph import Segment
from tests.models import write_exit_package

IMAGE = {"image": np.random.default_rng(1).normal(size=(2, 3, 16, 16)).astype(np.float32)}


class Watched(OnnxRuntimeBackend):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[str] = []

    def load(self, segment: Segment, model: bytes) -> LoadedSession:
        self.given.append(f"{segment.id}: bytes")
        return super().load(segment, model)

    def load_file(self, segment: Segment, path: Path) -> LoadedSession:
        self.given.append(f"{segment.id}: {path.name if path == segment.path else 'temporary file'}")
        return super().load_file(segment, path)


class FromBytes(Watched):
    """Reads no files."""

    reads_files = False


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return write_exit_package(tmp_path / "toy")


def answer(package: Package, backend: OnnxRuntimeBackend) -> Any:
    result = Chain(package, backend).run(IMAGE)
    assert result.exit is not None
    return result.exit.answer


def test_files_and_bytes_give_the_same_answers(package: Package) -> None:
    files, held = Watched(), FromBytes()
    np.testing.assert_array_equal(answer(package, files), answer(package, held))
    assert "trunk1: trunk1.onnx" in files.given
    assert "trunk3+head3: temporary file" in files.given
    assert all(given.endswith(": bytes") for given in held.given)


def test_a_merged_model_is_held_in_memory_where_no_file_can_be_written(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("devices.load.NamedTemporaryFile", refuse)
    backend = Watched()
    assert answer(package, backend).shape == (2, 4)
    assert "trunk3+head3: bytes" in backend.given


def test_a_file_exchanged_while_it_is_loaded_is_refused(package: Package) -> None:
    class Exchanging(OnnxRuntimeBackend):
        def load_file(self, segment: Segment, path: Path) -> LoadedSession:
            other = path.with_suffix(".new")
            other.write_bytes(path.read_bytes())
            os.replace(other, path)
            return super().load_file(segment, path)

    with pytest.raises(PackageError, match="was exchanged while it was loaded"):
        Chain(package, Exchanging())


def test_a_damaged_file_is_refused_before_the_backend_sees_it(package: Package) -> None:
    package.segment("trunk1").path.write_bytes(b"other")
    backend = Watched()
    with pytest.raises(PackageError, match="SHA-256"):
        Chain(package, backend)
    assert "trunk1: trunk1.onnx" not in backend.given
