"""A thousand clients of one edge server: is anything lost, does its memory grow, does anything spin?

Each client is a TCP connection of its own with 5 requests a second of 1 000 bytes, spread evenly, timed from when
each was due (no coordinated omission). Server and load share the machine's cores. The server's memory is printed
every minute, and its slope after the first two: until then it grows by design, as the two queues of every connection
in libzmq run once through the three pieces of 16 KiB that each keeps for itself. Afterwards the clients fall silent:
a server that spins would still take processor time. Then a server that may open few files gets more clients than it
can take, ten at a time: each must be answered or told RESOURCE_EXHAUSTED.

    python benchmarks/bench_offload_clients.py [--clients 1000] [--rate 5] [--seconds 600] [--json FILE]
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from edge_load import Load, Server, edge_server
from machine import keep, line, machine, spread
from onnx import TensorProto, helper

from devices.package import Exit, SegmentSource, TensorSpec, write_package

SIZE = 250
TIME_LEFT_S = 5.0
FEW_FILES = 300
SAMPLE_S = 5.0
SETTLED_S = 120.0


def write_model(folder: Path) -> None:
    """Write a package that doubles 1 000 bytes."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", SIZE]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    write_package(
        folder,
        name="double",
        version="1",
        segments=[SegmentSource("all", model)],
        exits=[Exit("final", "all", "y")],
        inputs=[TensorSpec("x", "float32", ("N", SIZE))],
    )


def inputs() -> dict[str, Any]:
    """Return what each request sends."""
    return {"x": np.ones((1, SIZE), np.float32)}


def steady(server: Server, clients: int, rate: float, seconds: float) -> dict[str, Any]:
    """Return what became of the requests of so many clients, and the server's memory and processor time."""
    load = Load(server.endpoint, clients, "double", inputs(), TIME_LEFT_S)
    for client in load.clients:  # everybody is connected before the clock starts
        load.send(client)
    end_s = time.monotonic() + 30.0
    while load.unanswered and time.monotonic() < end_s:
        load.receive(0.1)
    not_connected = load.forget()
    load.seen.latencies_s.clear()
    load.seen.codes.clear()
    cpu_s, began_s = server.cpu_s(), time.monotonic()
    period_s = 1.0 / (clients * rate)
    count = int(seconds * clients * rate)
    memory, next_s = [(0.0, server.rss_bytes())], SAMPLE_S
    for number in range(count):
        due_s = began_s + number * period_s
        while (left_s := due_s - time.monotonic()) > 0.0:
            load.receive(left_s)
        load.send(load.clients[number % clients], due_s)
        if due_s - began_s >= next_s:
            memory.append((due_s - began_s, server.rss_bytes()))
            if round(next_s) % 60 == 0:
                print(f"minute {round(next_s / 60):2d}  {memory[-1][1] / 2**20:6.1f} MiB", flush=True)
            next_s += SAMPLE_S
    end_s = time.monotonic() + TIME_LEFT_S
    while load.unanswered and time.monotonic() < end_s:
        load.receive(0.1)
    took_s = time.monotonic() - began_s
    busy = (server.cpu_s() - cpu_s) / took_s
    memory.append((took_s, server.rss_bytes()))
    cpu_s, began_s = server.cpu_s(), time.monotonic()
    time.sleep(3.0)
    idle = (server.cpu_s() - cpu_s) / (time.monotonic() - began_s)
    lost = load.forget()
    seen = load.seen
    load.close()
    return {
        "sent": count,
        "answered": seen.codes["OK"],
        "lost": lost + not_connected,
        "codes": dict(seen.codes),
        "per_s": count / took_s,
        **spread(seen.latencies_s),
        "server_cores_busy": busy,
        "server_cores_idle": idle,
        "memory_mib": [round(size / 2**20, 1) for at_s, size in memory if round(at_s) % 60 == 0 or at_s == took_s],
        **slope([item for item in memory if item[0] >= SETTLED_S]),
    }


def slope(memory: list[tuple[float, int]]) -> dict[str, float]:
    """Return how memory grows [MiB a minute] by least squares, and the standard error of that; nothing for too few."""
    if len(memory) < 4:
        return {}
    at_min, size_mib = (np.array(column, float) for column in zip(*memory, strict=True))
    at_min, size_mib = at_min / 60.0, size_mib / 2**20
    off = at_min - at_min.mean()
    growth = float(off @ size_mib / (off @ off))
    rest = size_mib - size_mib.mean() - growth * off
    error = float(np.sqrt(rest @ rest / (len(rest) - 2) / (off @ off)))
    return {"growth_mib_per_min": growth, "standard_error": error}


def crowded(folder: Path) -> dict[str, Any]:
    """Return what became of as many clients as a server may open files: more than it can take."""

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))

    with edge_server("--package", str(folder), before=few_files) as server:
        loads = []
        for _ in range(FEW_FILES // 10):  # they come, ask and stay
            load = Load(server.endpoint, 10, "double", inputs(), TIME_LEFT_S)
            for client in load.clients:
                load.send(client)
            end_s = time.monotonic() + 3.0
            while load.unanswered and time.monotonic() < end_s:
                load.receive(0.1)
            loads.append(load)
        codes: dict[str, int] = {}
        for load in loads:
            for code, number in load.seen.codes.items():
                codes[str(code)] = codes.get(str(code), 0) + number
        silent = sum(load.unanswered for load in loads)
        cpu_s, began_s = server.cpu_s(), time.monotonic()
        time.sleep(3.0)
        busy = (server.cpu_s() - cpu_s) / (time.monotonic() - began_s)
        for load in loads:
            load.close()
    return {"files": FEW_FILES, "clients": FEW_FILES, "codes": codes, "without_a_word": silent, "server_cores": busy}


def main() -> None:
    """Measure, print, keep the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=5.0, help="requests a second and client")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    where = machine("onnxruntime", "pyzmq", "msgspec")
    print(line("machine", where))
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "double"
        write_model(folder)
        with edge_server("--package", str(folder)) as server:
            results = {"steady": steady(server, arguments.clients, arguments.rate, arguments.seconds)}
        print(line(f"{arguments.clients} clients", results["steady"]))
        results["crowded"] = crowded(folder)
        print(line("more clients than files", results["crowded"]))
    keep(arguments.json, where, results)


if __name__ == "__main__":
    main()
