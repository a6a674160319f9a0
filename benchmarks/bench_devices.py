"""Every backend on the package that ships: the same answers, how long it takes, how fast it stops, what it uses.

    python benchmarks/bench_devices.py [--cuda] [--devices cpu,openvino:CPU] [--batches 1,8] [--rounds 200] [--json OUT]

Answers are compared with onnxruntime's on the CPU, the worst tensor of any segment. Devices take turns in an order that
is shuffled anew for each round. A stop is timed from `cancel` to the thread that ran being free again, at a random
moment of a run at the largest batch. With --cuda the devices are those of an NVIDIA GPU, and NVML counts their energy.
"""

import argparse
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import keep, line, machine, spread

from devices.backend import Backend, CancelToken
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.doctor import check_device
from devices.errors import BackendError
from devices.meters import MeterError, Reading, find_meter
from devices.open import open_device
from devices.package import Package, load_package
from devices.samples import sample_inputs
from devices.tensor import Array

DRIVING = Path(__file__).parent.parent / "carla_bridge" / "models" / "driving" / "1"
DEVICES = ("cpu", "cpu+int8", "openvino:CPU", "openvino:CPU+bf16", "torch:cpu")
CUDA_DEVICES = ("cpu", "torch:cpu", "cuda:0", "torch:cuda:0", "torch:cuda:0+f16", "torch:cuda:0+bf16")
STOPS = 100
ENERGY_S = 3.0


def worst_difference(package: Package, backend: Backend) -> float:
    """Return the greatest difference of any tensor from onnxruntime's, relative to the tensor's greatest entry."""
    right = OnnxRuntimeBackend("cpu")
    values: dict[str, Array] = dict(sample_inputs(package.inputs, 2))
    worst = 0.0
    for segment in package.segments:
        model = package.model(segment.id)
        inputs = {spec.name: values[spec.name] for spec in segment.inputs}
        made = backend.load(segment, model).run({name: backend.upload(array) for name, array in inputs.items()})
        for name, array in right.load(segment, model).run(inputs).items():
            values[name] = array
            worst = max(worst, float(np.abs(backend.download(made[name]) - array).max() / np.abs(array).max()))
    return worst


def take_turns(chains: dict[str, Chain], batch: int, rounds: int) -> dict[str, list[float]]:
    """Time whole runs to the last exit, all devices in each round, in shuffled order [s]."""
    order, rng = list(chains), random.Random(0)
    inputs = {name: sample_inputs(chain.inputs, batch) for name, chain in chains.items()}
    times: dict[str, list[float]] = {name: [] for name in chains}
    for place in range(rounds + 3):
        rng.shuffle(order)
        for name in order:
            began_s = time.perf_counter()
            chains[name].run(inputs[name])
            if place >= 3:
                times[name].append(time.perf_counter() - began_s)
    return times


def stop_times(chain: Chain, batch: int, typical_s: float) -> list[float]:
    """Stop runs at random moments; return the times from `cancel` to the end of the run [s]."""
    inputs, rng = sample_inputs(chain.inputs, batch), random.Random(0)
    times: list[float] = []
    for _ in range(STOPS):
        token, asked = CancelToken(), [0.0]

        def stop(token: CancelToken = token, asked: list[float] = asked) -> None:
            asked[0] = time.perf_counter()
            token.cancel()

        timer = threading.Timer(rng.uniform(0.05, 0.9) * typical_s, stop)
        timer.start()
        result = chain.run(inputs, cancel=token, least_exit=chain.package.exits[-1].id)
        ended_s = time.perf_counter()
        timer.cancel()
        timer.join()
        if result.cancelled and asked[0]:
            times.append(ended_s - asked[0])
    return times


def energy(name: str, chain: Chain, batch: int) -> dict[str, Any]:
    """Return the energy of a run and of an idle device beside it, where there is a meter."""
    meter, _ = find_meter(name)
    if meter is None:
        return {}
    try:
        idle = _over(meter.read, lambda: time.sleep(0.1))
        inputs = sample_inputs(chain.inputs, batch)
        busy = _over(meter.read, lambda: chain.run(inputs))
    except MeterError as error:
        return {"energy": f"none: {error}"}
    finally:
        meter.close()
    return {
        "meter": meter.name,
        "mj_a_run": 1e3 * busy[0].energy_j / busy[2],
        "error_mj": 1e3 * busy[0].error_j / busy[2],
        "busy_w": busy[0].energy_j / busy[1],
        "idle_w": idle[0].energy_j / idle[1],
    }


def _over(read: Callable[[], Reading], work: Callable[[], object]) -> tuple[Reading, float, int]:
    """Do `work` again and again; return the energy, the time [s] and how often."""
    first, began_s, times = read(), time.perf_counter(), 0
    while time.perf_counter() - began_s < ENERGY_S:
        work()
        times += 1
    return read().since(first), time.perf_counter() - began_s, times


def bench(names: Sequence[str], batches: Sequence[int], rounds: int) -> dict[str, Any]:
    """Print and return everything about the devices that open."""
    package = load_package(DRIVING)
    results: dict[str, Any] = {}
    chains: dict[str, Chain] = {}
    for name in names:
        check = check_device(name)
        results[f"doctor: {name}"] = {"verdict": check.verdict, "reason": check.reason}
        print(line(f"doctor: {name}", results[f"doctor: {name}"]))
        try:
            backend = open_device(name).backend
            began_s = time.perf_counter()
            chains[name] = Chain(package, backend)
            figures = {"load_s": time.perf_counter() - began_s, "worst": worst_difference(package, backend)}
        except BackendError as error:
            results[name] = {"refused": str(error)}
        else:
            results[name] = figures
        print(line(name, results[name]))
    for batch in batches:
        for name, times_s in take_turns(chains, batch, rounds).items():
            key = f"{name}, batch {batch}"
            results[key] = spread(times_s) | energy(name, chains[name], batch)
            print(line(key, results[key]))
            if batch == max(batches):
                stops_s = stop_times(chains[name], batch, float(np.median(times_s)))
                results[f"{name}, stopped"] = spread(stops_s) | {"stops": len(stops_s)} if stops_s else {"stops": 0}
                print(line(f"{name}, stopped, batch {batch}", results[f"{name}, stopped"]))
    return results


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", action="store_true", help="the devices of an NVIDIA GPU")
    parser.add_argument("--devices", help="devices, separated by commas")
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.devices.split(",") if options.devices else CUDA_DEVICES if options.cuda else DEVICES
    where = machine("onnxruntime", "openvino", "torch", "onnx2torch", "nvidia-ml-py")
    print(line("machine", where))
    keep(options.json, where, bench(names, [int(batch) for batch in options.batches.split(",")], options.rounds))


if __name__ == "__main__":
    main()
