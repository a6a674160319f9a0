"""An NVIDIA GPU, where there is one, by torch and by onnxruntime: the same answers, runs that stop, energy, memory."""

import threading

import numpy as np
import onnxruntime
import pytest

from devices.backend import CancelToken
from devices.backends.cuda import CUDA, BoundSession
from devices.doctor import Verdict, check_device
from devices.errors import MeterError, RunCancelledError
from devices.meters import NvmlMeter
from devices.open import open_device
from devices.package import load_package
from devices.profiler import ProfilerSettings, measure
from devices.samples import sample_inputs
from tests.devices.driving import DRIVING, tensors

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")]


@pytest.fixture(params=["torch:cuda:0", "cuda:0"])
def name(request: pytest.FixtureRequest) -> str:
    try:
        NvmlMeter().close()
    except MeterError as error:
        pytest.skip(str(error))
    check = check_device(request.param)
    if check.verdict is not Verdict.PASS:
        pytest.skip(check.reason)
    return str(request.param)


def test_every_segment_gives_what_onnxruntime_gives(name: str) -> None:
    package = load_package(DRIVING)
    values = tensors(package, batch=2)
    backend = open_device(name).backend
    for segment in package.segments:
        loaded = backend.load(segment, package.model(segment.id))
        made = loaded.run({spec.name: backend.upload(values[spec.name]) for spec in segment.inputs}, CancelToken())
        for key, value in made.items():
            assert np.abs(backend.download(value) - values[key]).max() <= 1e-3 * np.abs(values[key]).max() + 1e-5


def test_a_run_is_stopped_midway_and_the_segment_lives_on(name: str) -> None:
    package = load_package(DRIVING)
    backend = open_device(name).backend
    loaded = backend.load(package.segment("trunk1"), package.model("trunk1"))
    inputs = {"frame": backend.upload(np.zeros((64, 80, 160, 3), np.uint8))}
    token = CancelToken()
    timer = threading.Timer(0.02, token.cancel)
    timer.start()
    runs = iter(lambda: loaded.run(inputs, token), None)
    with pytest.raises(RunCancelledError, match=f"was stopped (before it began )?on {name}"):
        for _ in runs:
            pass
    timer.join()
    assert backend.download(loaded.run(inputs)["cut1"]).shape[0] == 64


def test_every_node_runs_on_the_gpu_and_tensors_stay_there() -> None:
    if check_device("cuda:0").verdict is not Verdict.PASS:
        pytest.skip(check_device("cuda:0").reason)
    package = load_package(DRIVING)
    backend = open_device("cuda:0").backend
    for segment in package.segments:
        loaded = backend.load(segment, package.model(segment.id))
        assert isinstance(loaded, BoundSession)
        assert loaded.placed.keys() == {CUDA}
        values = {spec.name: backend.upload(sample_inputs([spec])[spec.name]) for spec in segment.inputs}
        assert {value.device_name() for value in loaded.run(values).values()} == {"cuda"}


def test_tensorrt_without_its_libraries_is_refused_by_their_name() -> None:
    if "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no TensorRT")
    check = check_device("onnxruntime:TensorRT")
    assert check.verdict is Verdict.PASS or "libnvinfer" in check.reason


def test_energy_and_memory_are_the_gpus(name: str) -> None:
    package = load_package(DRIVING)
    settings = ProfilerSettings(repeats=10, budget_s=0.05, idle_runs=0, load=False, energy_s=0.3)
    for entry in measure(package, [name], settings).segments:
        assert entry.energy is not None
        assert "nvml 0" in entry.energy.source.cite
        assert 0.0 < entry.energy_error_j < entry.energy.value
        assert entry.memory is not None
        assert entry.memory.value < 100 * 2**20  # not the libraries' hundreds of MiB in the process
