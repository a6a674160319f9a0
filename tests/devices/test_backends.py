"""Every backend gives what onnxruntime gives, can be stopped in mid-run, and refuses what it cannot run."""

import importlib.util
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.backend import Backend, CancelToken
from devices.chain import Chain
from devices.errors import BackendError, RunCancelledError, SegmentError
from devices.open import OpenDevice, open_device
from devices.package import Package, load_package
from devices.tensor import Array
from tests.devices.driving import DRIVING, tensors
from tests.processes import PATIENCE_S, wait_for

pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
ROOT = Path(__file__).parents[2]
EXACT = ("cpu", "cpu+threads=2", "openvino:CPU", "torch:cpu")
TOLERANCE = {**dict.fromkeys(EXACT, 1e-3), "cpu+int8": 0.15, "torch:cpu+bf16": 0.1, "openvino:CPU+bf16": 0.1}


def opened(name: str) -> Backend:
    for backend, needs in (("openvino", ("openvino",)), ("torch", ("torch", "onnx2torch"))):
        if name.startswith(backend):
            for module in needs:
                if importlib.util.find_spec(module) is None:
                    pytest.skip(f"{module} is not installed")
    if name.endswith("openvino:CPU+bf16") and "bf16" not in _processor_flags():
        pytest.skip("this processor has no bf16")
    return open_device(name).backend


def _processor_flags() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return file.read()


@pytest.fixture(scope="module")
def package() -> Package:
    return load_package(DRIVING)


@pytest.fixture(scope="module")
def values(package: Package) -> Mapping[str, Array]:
    return tensors(package, batch=2)


@pytest.mark.parametrize("name", TOLERANCE)
def test_every_segment_gives_what_onnxruntime_gives(name: str, package: Package, values: Mapping[str, Array]) -> None:
    backend = opened(name)
    for segment in package.segments:
        loaded = backend.load(segment, package.model(segment.id))
        made = loaded.run({spec.name: backend.upload(values[spec.name]) for spec in segment.inputs}, CancelToken())
        assert made.keys() == {spec.name for spec in segment.outputs}
        for key, value in made.items():
            array = backend.download(value)
            assert array.dtype == values[key].dtype
            assert array.shape == values[key].shape
            scale = np.abs(values[key]).max()
            assert np.abs(array - values[key]).max() <= TOLERANCE[name] * scale + 1e-5, (segment.id, key)


@pytest.mark.parametrize("name", [name for name in EXACT if name != "cpu"])
def test_a_chain_answers_as_on_onnxruntime(name: str, package: Package, values: Mapping[str, Array]) -> None:
    result = Chain(package, opened(name)).run({"frame": values["frame"]})
    assert result.exit is not None
    assert result.exit.exit_id == package.exits[-1].id
    np.testing.assert_allclose(result.exit.answer, values[package.exits[-1].answer], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["cpu", "openvino:CPU", "torch:cpu"])
def test_a_run_is_stopped_midway_and_the_segment_lives_on(name: str, package: Package) -> None:
    backend = opened(name)
    segment = package.segment("trunk1")
    loaded = backend.load(segment, package.model("trunk1"))
    frames = np.zeros((192, 80, 160, 3), np.uint8)
    inputs = {"frame": backend.upload(frames)}
    token, said = CancelToken(), ""

    def is_stopped() -> bool:
        """Run it, and stop it amid its work; False where it was done before the stop came."""
        nonlocal token, said
        token, watching, spent_s = CancelToken(), threading.Event(), time.process_time()

        def stop() -> None:
            watching.set()
            wait_for(lambda: time.process_time() > spent_s + 0.05)
            token.cancel()

        stopper = threading.Thread(target=stop)
        stopper.start()
        assert watching.wait(PATIENCE_S)
        try:
            loaded.run(inputs, token)
        except RunCancelledError as error:
            said = str(error)
        finally:
            stopper.join()
        return bool(said)

    wait_for(is_stopped)
    assert re.search(r"trunk1.*was stopped on", said)
    with pytest.raises(RunCancelledError, match="stopped"):
        loaded.run(inputs, token)
    again = loaded.run({"frame": backend.upload(frames[:1])}, CancelToken())
    assert np.isfinite(backend.download(again["cut1"])).all()


@pytest.mark.parametrize("name", ["cpu", "cpu+int8", "openvino:CPU", "torch:cpu"])
@pytest.mark.parametrize("model", [b"", b"no model", bytes(1000)])
def test_what_is_no_model_is_refused(name: str, model: bytes, package: Package) -> None:
    with pytest.raises(BackendError, match="exit1"):
        opened(name).load(package.segment("exit1"), model)


@pytest.mark.parametrize("name", ["cpu", "openvino:CPU", "torch:cpu"])
def test_inputs_that_do_not_fit_fail_the_run_alone(name: str, package: Package, values: Mapping[str, Array]) -> None:
    backend = opened(name)
    loaded = backend.load(package.segment("trunk2"), package.model("trunk2"))
    wrong = np.zeros((1, 3, 10, 20), np.float32)
    with pytest.raises(SegmentError, match=f"trunk2.*failed on {name}"):
        loaded.run({"cut1": backend.upload(wrong)}, CancelToken())
    right = loaded.run({"cut1": backend.upload(values["cut1"])})
    np.testing.assert_allclose(backend.download(right["cut2"]), values["cut2"], rtol=1e-3, atol=1e-3)


def test_read_only_tensors_are_taken(package: Package, values: Mapping[str, Array]) -> None:
    cut = values["cut1"].copy()
    cut.flags.writeable = False
    for name in ("cpu", "openvino:CPU", "torch:cpu"):
        backend = opened(name)
        loaded = backend.load(package.segment("trunk2"), package.model("trunk2"))
        made = loaded.run({"cut1": backend.upload(cut)}, CancelToken())
        np.testing.assert_allclose(backend.download(made["cut2"]), values["cut2"], rtol=1e-3, atol=1e-3)


def test_a_conversion_that_computes_something_else_is_refused(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened("torch:cpu")
    import devices.backends.torch as module

    convert = module._converter()

    def wrong(model: object) -> object:
        made = convert(model)
        made.register_forward_hook(lambda _module, _inputs, output: output * 1.01)
        return made

    monkeypatch.setattr(module, "_converter", lambda: wrong)
    with pytest.raises(BackendError, match=r"trunk2.*converted to torch, 'cut2'.*is off by"):
        backend.load(package.segment("trunk2"), package.model("trunk2"))


def test_a_segment_is_compiled_for_few_shapes_at_a_time(package: Package) -> None:
    pytest.importorskip("openvino")
    from devices.backends.openvino import MAX_SHAPES, LoadedModel

    backend = opened("openvino:CPU")
    segment = replace(package.segment("exit1"))
    loaded = backend.load(segment, package.model("exit1"))
    assert isinstance(loaded, LoadedModel)
    shape = [1 if isinstance(size, str) else size for size in segment.inputs[0].shape]
    for batch in range(1, MAX_SHAPES + 3):
        made = loaded.run({segment.inputs[0].name: np.zeros((batch, *shape[1:]), np.float32)})
        assert len(made["answer1"]) == batch
    assert len(loaded._requests) == MAX_SHAPES


def test_a_device_name_gives_device_and_cores() -> None:
    core = min(os.sched_getaffinity(0))
    device = open_device(f"cpu:{core}")
    assert device == OpenDevice(f"cpu:{core}", device.backend, frozenset((core,)))
    assert device.backend.device == f"cpu:{core}"
    assert device.backend.name == "onnxruntime"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "begins with none of cpu, cuda, onnxruntime, openvino, torch, null"),
        ("tpu:0", "begins with none of"),
        ("openvino", "must be followed by a device"),
        ("null:", "must be followed by a profile"),
        ("cpu:x", "core 'x' must be a number"),
        ("cpu:-1", "core '-1' must be a number"),
        ("cpu:4096", "core 4096 is not open to this process"),
        ("cpu:0+threads=2", "2 threads don't fit on one core"),
        ("cpu+threads", "option 'threads' must be name=value"),
        ("cpu+threads=0", "must be a positive number"),
        ("cpu+int8=1", "option 'int8=1' must be a word"),
        ("cpu+bf16", "onnxruntime has no option 'bf16': it has f32, fallback, int8, threads"),
        ("cpu+f32+int8", "exclude each other"),
        ("onnxruntime:cuda:0+int8", "int8 is for the CPU"),
        ("cpu+", "option '' must be"),
        ("null:p.toml+unit", "option 'unit' must be name=value"),
        ("null:drive_px2", "needs the package"),
        ("onnxruntime:Quantum", "this onnxruntime has no Quantum"),
        ("openvino:TPU", "OpenVINO has no TPU here: it has"),
        ("torch:abacus", "torch knows no device 'abacus'"),
        ("torch:cuda:9", "CUDA devices"),
        ("torch:meta", "only cpu and cuda are supported, not meta"),
    ],
)
def test_a_name_that_makes_no_sense_is_refused_with_what_would(name: str, message: str) -> None:
    for backend in ("openvino", "torch"):
        if name.startswith(f"{backend}:"):
            pytest.importorskip(backend)
    with pytest.raises(BackendError, match=message):
        open_device(name)


PINNED = """
import os, sys, threading
from collections import Counter
import numpy as np
from devices.errors import BackendError
from devices.open import open_device
from devices.package import load_package

def spent():
    threads = os.listdir("/proc/self/task")
    return {int(t): int(open(f"/proc/self/task/{t}/schedstat").read().split()[0]) for t in threads}

core, package = int(sys.argv[1]), load_package(sys.argv[2])
mine = os.sched_getaffinity(0)

def load():
    global loaded
    backend = open_device(f"openvino:CPU:{core}").backend
    loaded = [backend.load(package.segment(name), package.model(name)) for name in ("exit1", "trunk1")][1]

if sys.argv[3] == "elsewhere":
    loader = threading.Thread(target=load)
    loader.start()
    loader.join()
else:
    load()
assert "openvino_telemetry" not in sys.modules  # it would tell OpenVINO's makers of each import
frames = np.zeros((256, 80, 160, 3), np.uint8)
loaded.run({"frame": frames})
before = spent()
del before[os.getpid()]
cores = {thread: Counter() for thread in before}

def go():
    for _ in range(3):
        loaded.run({"frame": frames})

runner = threading.Thread(target=go)
runner.start()
while runner.is_alive():
    for thread in before:
        cores[thread][tuple(sorted(os.sched_getaffinity(thread)))] += 1
    runner.join(0.001)
after = spent()
# Between runs it has other cores than while it computes, so what it has nearly always is what counts.
[(seen, _)] = cores[max(cores, key=lambda thread: after[thread] - before[thread])].most_common(1)
assert os.sched_getaffinity(0) == mine
print(list(seen))
for name in ("openvino:CPU", f"openvino:CPU:{min(mine - {core})}+bf16"):
    try:
        open_device(name)
    except BackendError as error:
        print(error)
"""


@pytest.mark.parametrize("loader", ["main thread", "elsewhere"])
def test_openvino_keeps_to_the_core_that_it_was_first_given(loader: str) -> None:
    pytest.importorskip("openvino")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core is all there is")
    command = [sys.executable, "-c", PINNED, str(cores[-1]), str(DRIVING), loader]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    seen, *refused = done.stdout.splitlines()
    assert seen == f"[{cores[-1]}]"
    has = f"OpenVINO keeps the cores that it was first used with, here core {cores[-1]}: it can't have"
    assert [f"{has} any core" in refused[0], f"{has} core {cores[0]} in" in refused[1]] == [True, True]


@pytest.mark.parametrize(
    ("module", "name", "extra"), [("openvino", "openvino:CPU", "openvino"), ("torch", "torch:cpu", "torch")]
)
def test_a_missing_library_is_told_with_its_extra(
    module: str, name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = importlib.import_module(f"devices.backends.{module}")
    if module == "openvino":
        monkeypatch.setattr(cached, "_USE", cached._Use())
    else:
        cached._torch.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=rf"pip install 'headway\[{extra}\]'"):
        open_device(name)
    if module == "torch":
        cached._torch.cache_clear()
