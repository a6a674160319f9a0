"""What this board has and what is wrong with it: every device opened and run, the host looked over.

A device passes when it opens, loads a small network and gives the numbers that plain arithmetic gives.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from devices import host
from devices.backend import CancelToken
from devices.errors import DeviceError, MeterError
from devices.meters import Ina3221Meter, NvmlMeter, PowercapMeter
from devices.open import open_device
from devices.package.graph import Segment
from devices.tensor import TensorSpec

DEVICES = (
    "cpu",
    "cpu+int8",
    "cuda:0",
    "openvino:CPU",
    "openvino:GPU",
    "openvino:NPU",
    "torch:cpu",
    "torch:cuda:0",
)
_NO_DEVICE = ("CPUExecutionProvider", "CUDAExecutionProvider", "AzureExecutionProvider")
TOLERANCE = 0.02
ENOUGH_LOCKED = 64 * 2**20
ENOUGH_MEMORY = 512 * 2**20
TOO_NEAR_C = 5.0


class Verdict(StrEnum):
    """What a check came to."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    NONE = "none"  # the board has nothing of the kind, and nothing needs it


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: What.
        verdict: How it is.
        reason: What was found.
        fix: What to do about it, "" where nothing.
        needed: Whether Headway can't do without it.
    """

    name: str
    verdict: Verdict
    reason: str
    fix: str = ""
    needed: bool = False


def known_devices() -> tuple[str, ...]:
    """Return the devices worth trying: one of each kind, and every further execution provider of this onnxruntime."""
    providers = onnxruntime.get_available_providers()
    return (*DEVICES, *(f"onnxruntime:{name}" for name in providers if name not in _NO_DEVICE))


def examine(names: tuple[str, ...] | None = None, root: Path = host.ROOT) -> Iterator[Check]:
    """Look at every device and at the host, one check after the other.

    Args:
        names: Devices to try; None: `known_devices`.
        root: Where the host's files are.
    """
    for name in known_devices() if names is None else names:
        yield check_device(name)
    yield from _meters()
    yield from check_host(root)


def check_device(name: str) -> Check:
    """Open a device and run a small network on it."""
    try:
        backend = open_device(name).backend
        loaded = backend.load(*_network())
        given = np.linspace(-1.0, 1.0, 4 * 64, dtype=np.float32).reshape(4, 64)
        inputs = {"x": backend.upload(given)}
        loaded.run(inputs, CancelToken())
        began_s = time.perf_counter()
        made = backend.download(loaded.run(inputs, CancelToken())["y"])
        took_us = 1e6 * (time.perf_counter() - began_s)
    except DeviceError as error:
        return Check(name, Verdict.FAIL, str(error), _fix(name, str(error)), needed=name == "cpu")
    right = np.maximum(given @ _weights(), 0.0)
    worst = float(np.abs(made - right).max())
    if worst > TOLERANCE * float(right.max()):
        return Check(name, Verdict.FAIL, f"computes wrong numbers: off by {worst:g}", "don't use it", name == "cpu")
    return Check(name, Verdict.PASS, f"{backend.name}: right to {worst:.1g}, a small network in {took_us:.0f} us")


def check_host(root: Path = host.ROOT) -> Iterator[Check]:
    """Look at processor, clocks, temperature, memory and permissions."""
    yield Check("processor", Verdict.PASS, host.processor(root))
    yield _clocks(host.clocks(root))
    yield _temperature(host.zones(root))
    yield _memory(host.memory(root))
    if host.may_run_realtime():
        yield Check("real-time priority", Verdict.PASS, "this process may take one")
    else:
        fix = "LimitRTPRIO=1 in the service, or `@group - rtprio 1` in /etc/security/limits.conf"
        yield Check("real-time priority", Verdict.FAIL, "the guard may be late beside other work", fix)
    yield _locking(host.lockable_bytes())


def _clocks(clocks: tuple[host.Clock, ...]) -> Check:
    if not clocks:
        return Check("clocks", Verdict.NONE, "the kernel shows no clocks, as in a virtual machine")
    governors = sorted({clock.governor for clock in clocks})
    now = [clock.now_hz * 1e-6 for clock in clocks]
    greatest = max(clock.greatest_hz for clock in clocks) * 1e-6
    found = f"{min(now):.0f} to {max(now):.0f} of {greatest:.0f} MHz, governor {', '.join(governors)}"
    if governors == ["performance"]:
        return Check("clocks", Verdict.PASS, found)
    return Check("clocks", Verdict.FAIL, f"{found}: times will vary", "`cpupower frequency-set -g performance` as root")


def _temperature(zones: tuple[host.Zone, ...]) -> Check:
    if not zones:
        return Check("temperature", Verdict.NONE, "the kernel shows no thermal zones")
    left_c, worst = min(((z.limit_c or 95.0) - z.temperature_c, z) for z in zones)
    found = f"{worst.name} at {worst.temperature_c:.0f} degC, limit {worst.limit_c or 95.0:.0f}"
    if left_c > TOO_NEAR_C:
        return Check("temperature", Verdict.PASS, found)
    return Check(
        "temperature", Verdict.FAIL, f"{found}: it slows down or will", "cool the board or lower its power mode"
    )


def _memory(memory: host.Memory | None) -> Check:
    if memory is None:
        return Check("memory", Verdict.NONE, "the kernel does not tell")
    found = f"{memory.available / 2**20:.0f} of {memory.total / 2**20:.0f} MiB available"
    if memory.available >= ENOUGH_MEMORY:
        return Check("memory", Verdict.PASS, found)
    return Check("memory", Verdict.FAIL, found, f"free {ENOUGH_MEMORY / 2**20:.0f} MiB")


def _locking(lockable: int | None) -> Check:
    if lockable is None or lockable >= ENOUGH_LOCKED:
        allowed = "all its memory" if lockable is None else f"{lockable / 2**20:.0f} MiB"
        return Check("locked memory", Verdict.PASS, f"this process may lock {allowed}")
    found = f"this process may lock {lockable / 2**20:.0f} MiB: the guard's pages may be swapped out"
    return Check("locked memory", Verdict.FAIL, found, "LimitMEMLOCK=infinity in the service, or limits.conf")


def _meters() -> Iterator[Check]:
    meters: dict[str, Callable[[], Any]] = {"RAPL": PowercapMeter, "NVML": NvmlMeter, "INA3221": Ina3221Meter}
    for name, make in meters.items():
        try:
            meter = make()
        except MeterError as error:
            locked = "may not be read" in str(error)
            fix = "grant the permission" if locked else ""
            yield Check(f"energy by {name}", Verdict.FAIL if locked else Verdict.NONE, str(error), fix)
        else:
            meter.close()
            yield Check(f"energy by {name}", Verdict.PASS, meter.name)


def _fix(name: str, reason: str) -> str:
    """Return what to do about a device that did not open."""
    if "pip install" in reason:
        return reason[reason.index("pip install") :]
    if name.startswith("cuda"):
        return "pip install 'onnxruntime-gpu[cuda,cudnn]' in place of onnxruntime, on a machine with an NVIDIA driver"
    if name.startswith("torch:cuda"):
        return "a torch built for CUDA, on a machine with an NVIDIA driver"
    if name.startswith("openvino"):
        return "Intel's driver for it, if the board has one"
    return ""


def _weights() -> Any:
    return np.random.default_rng(1).normal(size=(64, 32)).astype(np.float32)


def _network() -> tuple[Segment, bytes]:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])],
        "check",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 32])],
        [numpy_helper.from_array(_weights(), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inputs, outputs = (TensorSpec("x", "float32", ("N", 64)),), (TensorSpec("y", "float32", ("N", 32)),)
    return Segment("check", Path("check.onnx"), "", inputs, outputs), model.SerializeToString()
