"""HTTP and gRPC beside other servers: one client, back to back, a 150 KB identity model, each pair in turns.

    python benchmarks/bench_http_grpc.py [--peer NAME ..] [--rounds 20] [--block 40] [--json FILE]

Every peer is installed by this script into an environment of its own (--cache), pinned to the version below, and runs
alone beside Headway. Each is asked in the fastest way that its documentation has for a tensor:

    pytriton   the unmodified tritonclient over HTTP and over gRPC, as Headway is
    litserve   an uploaded file over HTTP, raw bytes back, its fast queue; asked with http.client
    bentoml    raw bytes over HTTP both ways, on its event loop; asked with http.client
    mlserver   the unmodified tritonclient over gRPC, no worker processes

In each round every side answers a block of requests, the sides in another order each time; the first of each block are
not counted. `ratio_p50` is the peer's p50 by Headway's over the same transport by the same client library,
`ratio_tritonclient` that by the faster of Headway's two transports asked by tritonclient. A peer that can't be
installed or started is skipped with the reason.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tritonclient.grpc
import tritonclient.http
from machine import keep, line, machine, spread
from onnx import TensorProto, helper

SHAPE = (1, 3, 112, 112)
X = np.random.default_rng(0).random(SHAPE, np.float32)
HERE = Path(__file__).resolve().parent
UNCOUNTED = 5
PATIENCE_S = 90.0
Side = Callable[[], object]


class SkippedError(Exception):
    """A peer cannot take part; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare with.

    Args:
        requirements: What its environment holds.
        command: Returns its command line and its further environment, by the environment's folder, a scratch folder and
            two free ports.
        sides: Returns ways to ask it, by the kind of client, for the two ports.
    """

    requirements: Sequence[str]
    command: Callable[[Path, Path, int, int], tuple[list[str], dict[str, str]]]
    sides: Callable[[int, int], dict[str, Side]]


# Clients


def triton(module: Any, port: int) -> Side:
    """Return a request by tritonclient; the first answer is compared with what was sent."""
    client = module.InferenceServerClient(f"127.0.0.1:{port}")
    given = module.InferInput("x", SHAPE, "FP32")
    given.set_data_from_numpy(X)
    np.testing.assert_array_equal(client.infer("identity", [given]).as_numpy("y"), X)
    return lambda: client.infer("identity", [given]).as_numpy("y")


def plain(port: int, path: str, body: bytes, headers: dict[str, str]) -> Side:
    """Return a request by http.client, whose answer ends with the tensor's bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)

    def ask() -> bytes:
        connection.request("POST", path, body, headers)
        return connection.getresponse().read()

    if not ask().endswith(X.tobytes()):
        raise SkippedError(f"{path} answered something else than the tensor")
    return ask


def plain_headway(port: int) -> Side:
    """Return the same request to Headway as tritonclient makes, by http.client."""
    tensor = {"name": "x", "shape": SHAPE, "datatype": "FP32", "parameters": {"binary_data_size": X.nbytes}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    return plain(port, "/v2/models/identity/infer", text + X.tobytes(), headers)


def upload(port: int) -> Side:
    """Return a request that uploads the tensor as a file of a form."""
    head = (
        b'--b\r\nContent-Disposition: form-data; name="x"; filename="x"\r\nContent-Type: application/octet-stream\r\n'
    )
    body = head + b"\r\n" + X.tobytes() + b"\r\n--b--\r\n"
    return plain(port, "/predict", body, {"Content-Type": "multipart/form-data; boundary=b"})


# Servers


def pytriton(environment: Path, scratch: Path, first: int, second: int) -> tuple[list[str], dict[str, str]]:
    """Return how pytriton is started; its server wants this interpreter's library."""
    command = [str(environment / "bin/python"), str(HERE / "peers/pytriton_identity.py"), str(first), str(second)]
    return command, {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")), "PYTRITON_HOME": str(scratch)}


def litserve(environment: Path, scratch: Path, first: int, second: int) -> tuple[list[str], dict[str, str]]:
    """Return how LitServe is started."""
    return [str(environment / "bin/python"), str(HERE / "peers/litserve_identity.py"), str(first)], {}


def bentoml(environment: Path, scratch: Path, first: int, second: int) -> tuple[list[str], dict[str, str]]:
    """Return how BentoML is started."""
    command = [str(environment / "bin/bentoml"), "serve", "bentoml_identity:Identity", "--working-dir"]
    command += [str(HERE / "peers"), "--host", "127.0.0.1", "--port", str(first)]
    return command, {"BENTOML_DO_NOT_TRACK": "1", "BENTOML_HOME": str(scratch), "BENTOML_CONFIG_OPTIONS": QUIET_BENTO}


QUIET_BENTO = "api_server.logging.access.enabled=false"


def mlserver(environment: Path, scratch: Path, first: int, second: int) -> tuple[list[str], dict[str, str]]:
    """Return how MLServer is started, on a folder with its settings."""
    settings = {"host": "127.0.0.1", "http_port": first, "grpc_port": second, "metrics_endpoint": None}
    settings |= {"parallel_workers": 0, "debug": False}
    (scratch / "settings.json").write_text(json.dumps(settings))
    model = {"name": "identity", "implementation": "mlserver_identity.Identity"}
    (scratch / "model-settings.json").write_text(json.dumps(model))
    return [str(environment / "bin/mlserver"), "start", str(scratch)], {"PYTHONPATH": str(HERE / "peers")}


PEERS = {
    "pytriton": Peer(
        ["nvidia-pytriton==0.7.0"],
        pytriton,
        lambda first, second: {
            "http by tritonclient": triton(tritonclient.http, first),
            "grpc by tritonclient": triton(tritonclient.grpc, second),
        },
    ),
    "litserve": Peer(
        ["litserve==0.2.19", "python-multipart==0.0.34", "numpy"],
        litserve,
        lambda first, second: {"http by http.client": upload(first)},
    ),
    "bentoml": Peer(
        ["bentoml==1.4.39", "numpy"],
        bentoml,
        lambda first, second: {
            "http by http.client": plain(first, "/identity", X.tobytes(), {"Content-Type": "application/octet-stream"})
        },
    ),
    "mlserver": Peer(
        ["mlserver==1.7.1"],
        mlserver,
        lambda first, second: {"grpc by tritonclient": triton(tritonclient.grpc, second)},
    ),
}


def installed(name: str, peer: Peer, cache: Path) -> Path:
    """Return a peer's environment, made where there is none.

    Raises:
        SkippedError: It cannot be installed.
    """
    environment = cache / name
    stamp = environment / "requirements"
    wanted = "\n".join(peer.requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return environment
    print(f"installing {' '.join(peer.requirements)} into {environment}", file=sys.stderr)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(environment)],
        [str(environment / "bin/python"), "-m", "pip", "install", "-q", *peer.requirements],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=900.0)
        except (subprocess.SubprocessError, OSError) as error:
            told = str(getattr(error, "stderr", "") or error).strip().splitlines()
            raise SkippedError(f"cannot be installed: {told[-1] if told else error}") from error
    stamp.write_text(wanted)
    return environment


@contextlib.contextmanager
def started(name: str, command: list[str], extra: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server in a process group of its own, and end all of that."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    path = f"{Path(command[0]).parent}{os.pathsep}{kept.get('PATH', '')}"
    with log.open("wb") as told:
        process = subprocess.Popen(
            command, env={**kept, "PATH": path, **extra}, stdout=told, stderr=told, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15.0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def when_up(
    name: str, process: "subprocess.Popen[bytes]", log: Path, sides: Callable[[], dict[str, Side]]
) -> dict[str, Side]:
    """Return the ways to ask a server once it answers.

    Raises:
        SkippedError: It ended, or does not answer in time.
    """
    until_s = time.monotonic() + PATIENCE_S
    why: Exception | None = None
    while time.monotonic() < until_s and process.poll() is None:
        try:
            return sides()
        except (OSError, http.client.HTTPException, SkippedError, tritonclient.http.InferenceServerException) as error:
            why = error
            time.sleep(0.5)
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise SkippedError(f"{name} does not answer: {why or f'it ended with {process.returncode}'} {last}")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def headway(scratch: Path) -> Iterator[dict[str, Side]]:
    """Serve the identity model as a plain file."""
    value = helper.make_tensor_value_info
    given, made = value("x", TensorProto.FLOAT, SHAPE), value("y", TensorProto.FLOAT, SHAPE)
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [given], [made])
    folder = scratch / "models/identity/1"
    folder.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "model.onnx")
    http_port, grpc_port = free_ports(2)
    command = [sys.executable, "-m", "runtime.cli.main", "serve", "--repository", str(scratch / "models")]
    command += ["--socket", str(scratch / "d.sock"), "--http", f"127.0.0.1:{http_port}"]
    command += ["--grpc", f"127.0.0.1:{grpc_port}"]
    log = scratch / "headway.log"
    with started("headway", command, {"PYTHONPATH": str(HERE.parent)}, log) as process:
        try:
            yield when_up(
                "headway",
                process,
                log,
                lambda: {
                    "http by tritonclient": triton(tritonclient.http, http_port),
                    "grpc by tritonclient": triton(tritonclient.grpc, grpc_port),
                    "http by http.client": plain_headway(http_port),
                },
            )
        finally:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((scratch / "headway-guard.sock.lock").read_text()), signal.SIGTERM)


def in_turns(sides: dict[str, Side], rounds: int, block: int) -> dict[str, list[float]]:
    """Return the times [s] of every side: in each round a block of each, in another order."""
    rng, times = random.Random(0), {name: list[float]() for name in sides}
    for _ in range(rounds):
        for name in rng.sample(list(sides), len(sides)):
            ask = sides[name]
            for _ in range(UNCOUNTED):
                ask()
            for _ in range(block):
                began = time.perf_counter()
                ask()
                times[name].append(time.perf_counter() - began)
    return times


def compare(name: str, ours: dict[str, Side], theirs: dict[str, Side], rounds: int, block: int) -> dict[str, Any]:
    """Time a peer and Headway, each kind of client against its like, and print it."""
    kinds = {f"headway {kind}": side for kind, side in ours.items()}
    times = in_turns({**kinds, **{f"{name} {kind}": side for kind, side in theirs.items()}}, rounds, block)
    figures: dict[str, Any] = {side: spread(samples) for side, samples in times.items()}
    ours_by_tritonclient = min(figures[side]["p50_ms"] for side in kinds if side.endswith("tritonclient"))
    for kind in theirs:
        peer, like = figures[f"{name} {kind}"], figures[f"headway {kind}"]
        peer["ratio_p50"] = peer["p50_ms"] / like["p50_ms"]
        peer["ratio_p99"] = peer["p99_ms"] / like["p99_ms"]
        peer["ratio_tritonclient"] = peer["p50_ms"] / ours_by_tritonclient
    for side, values in figures.items():
        print(line(side, values), flush=True)
    return figures


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "headway-peers"
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="only this one; may be given again")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--block", type=int, default=40)
    parser.add_argument("--cache", type=Path, default=cache, help="where the peers' environments lie")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    where = machine("tritonclient", "uvicorn", "uvloop", "httptools", "grpcio", "onnxruntime", "numpy")
    print(line("machine", where))
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, headway(Path(folder)) as ours:
        for name in arguments.peer or PEERS:
            peer, scratch = PEERS[name], Path(folder) / name
            scratch.mkdir()
            ports = free_ports(2)
            log = scratch / "log"
            try:
                command, extra = peer.command(installed(name, peer, arguments.cache), scratch, *ports)
                print(f"-- {' '.join(peer.requirements)}")
                with started(name, command, extra, log) as process:
                    theirs = when_up(name, process, log, lambda peer=peer, ports=ports: peer.sides(*ports))  # type: ignore[misc]
                    results[name] = compare(name, ours, theirs, arguments.rounds, arguments.block)
            except SkippedError as error:
                print(f"{name} is skipped: {error}")
                results[name] = {"skipped": str(error)}
    keep(arguments.json, where, results)


if __name__ == "__main__":
    main()
