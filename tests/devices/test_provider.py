"""The execution provider that was asked for is the one that runs, node by node, or loading fails."""

import onnxruntime
import pytest

from devices.backends.onnxruntime import CPU, OnnxRuntimeBackend
from devices.errors import BackendError
from devices.package import Package, load_package
from tests.devices.driving import DRIVING

AZURE = "AzureExecutionProvider"  # in every wheel, lists itself as the session's provider, and runs no node of ours


@pytest.fixture(scope="module")
def package() -> Package:
    return load_package(DRIVING)


def test_a_provider_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(BackendError, match=r"no CUDAExecutionProvider: it has \[.*CPUExecutionProvider"):
        OnnxRuntimeBackend("cuda:0", provider="CUDAExecutionProvider")


@pytest.mark.skipif(AZURE not in onnxruntime.get_available_providers(), reason="this onnxruntime has one provider")
def test_nodes_that_fall_back_silently_are_refused_or_told(package: Package) -> None:
    segment = package.segment("exit1")
    with pytest.raises(BackendError, match=r"exit1.*fallback to CPU EP has been explicitly disabled"):
        OnnxRuntimeBackend("far", provider=AZURE).load(segment, package.model("exit1"))
    allowed = OnnxRuntimeBackend("far", provider=AZURE, allow_fallback=True).load(segment, package.model("exit1"))
    assert allowed.placed.keys() == {CPU}
    assert allowed.placed[CPU] > 3
