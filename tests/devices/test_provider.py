"""The execution provider that was asked for is the one that runs, node by node, or loading fails."""

import numpy as np
import onnxruntime
import pytest

from devices.backend import CancelToken
from devices.backends.cuda import CudaBackend
from devices.backends.onnxruntime import CPU, OnnxRuntimeBackend
from devices.errors import BackendError, RunCancelledError, SegmentError
from devices.open import open_device
from devices.package import Package, load_package
from tests.devices.driving import DRIVING, tensors

AZURE = "AzureExecutionProvider"  # in every wheel, lists itself as the session's provider, and runs no node of ours


@pytest.fixture(scope="module")
def package() -> Package:
    return load_package(DRIVING)


def test_a_provider_that_is_not_there_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [AZURE, CPU])
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


@pytest.mark.parametrize("name", ["cuda:0", "onnxruntime:TensorRT"])
def test_a_provider_whose_libraries_are_missing_is_refused_with_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = ["TensorrtExecutionProvider", "CUDAExecutionProvider", CPU]
    if listed[1] in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has them")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    with pytest.raises(BackendError, match=rf"^{name}: onnxruntime can't load its \w+: .*\.so.*pip install"):
        open_device(name)


def test_options_that_mean_nothing_on_a_gpu_are_refused() -> None:
    with pytest.raises(BackendError, match="has no option 'threads': it has f32, fallback"):
        open_device("cuda:0+threads=2")


def test_tensors_that_stay_where_they_are_computed_give_the_same(package: Package) -> None:
    """What a GPU does with its own memory, done with the CPU's."""
    backend = CudaBackend("bound", provider=CPU, memory="cpu")
    values = tensors(package, batch=2)
    kept = {"frame": backend.upload(values["frame"])}
    for segment in package.segments:
        loaded = backend.load(segment, package.model(segment.id))
        kept |= loaded.run({spec.name: kept[spec.name] for spec in segment.inputs}, CancelToken())
    for key, value in kept.items():
        np.testing.assert_allclose(backend.download(value), values[key], rtol=1e-3, atol=1e-4)


def test_a_bound_run_is_stopped_and_a_wrong_one_fails_alone(package: Package) -> None:
    backend = CudaBackend("bound", provider=CPU, memory="cpu")
    loaded = backend.load(package.segment("trunk2"), package.model("trunk2"))
    token = CancelToken()
    token.cancel()
    values = {"cut1": backend.upload(tensors(package)["cut1"])}
    with pytest.raises(RunCancelledError, match=r"trunk2.*stopped.*on bound"):
        loaded.run(values, token)
    with pytest.raises(SegmentError, match=r"trunk2.*failed on bound"):
        loaded.run({"cut1": backend.upload(np.zeros((1, 3, 10, 20), np.float32))})
    assert loaded.run(values).keys() == {"cut2"}
