"""`headway infer`: run a model once, from a package on disk or by a running daemon."""

import json
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from devices.tensor import Array
from runtime.errors import ConfigurationError, RunError, UnavailableError

_SHOWN = 12
_PATIENCE_S = 60.0


def infer(
    package: Annotated[str, typer.Argument(help="A package's folder, an ONNX file, or a model's name at the daemon")],
    inputs: Annotated[Path, typer.Option("--input", help="The input tensors by name, .npz")],
    deadline_ms: Annotated[float | None, typer.Option(help="Time allowed [ms]; default: as long as it takes")] = None,
    least_exit: Annotated[str | None, typer.Option(help="Shallowest exit whose answer is of use")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the output tensors here, .npz")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Device, as cpu:1; may be given again")] = None,
    place: Annotated[list[str] | None, typer.Option(help="SEGMENT=DEVICE; other segments: the first device")] = None,
    socket: Annotated[Path | None, typer.Option(help="The daemon's unix socket")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Answer one request: the deepest exit that has finished when the deadline falls, or the first confident one.

    What is a folder or a file is loaded, warmed up and run in this process; anything else is a model's name at the
    daemon, which has devices of its own. The time allowed counts from when the request is sent.
    """
    if deadline_ms is not None and not 0.0 < deadline_ms < 3.6e6:
        raise typer.BadParameter(f"{deadline_ms}: must be above 0 and below 3600000", param_hint="--deadline-ms")
    from runtime.cli.tensors import read_npz, write_npz

    deadline_s = None if deadline_ms is None else deadline_ms / 1e3
    tensors = read_npz(inputs)
    if is_path(package):
        if socket is not None:
            raise typer.BadParameter(
                f"{package} means a place on disk: --socket is for a model's name", param_hint="--socket"
            )
        answer, outputs = _on_disk(Path(package), tensors, deadline_s, least_exit, device or ["cpu"], place or [])
    else:
        if device or place:
            hint = "--device" if device else "--place"
            raise typer.BadParameter(f"{package} is a model's name: its daemon has its devices", param_hint=hint)
        answer, outputs = _at_daemon(package, tensors, deadline_s, least_exit, socket)
    if output is not None:
        write_npz(output, outputs)
    if as_json:
        typer.echo(json.dumps({**answer, "outputs": {name: _plain(array) for name, array in outputs.items()}}))
        return
    _print(answer, outputs)


def is_path(package: str) -> bool:
    """Whether the argument means something on disk and not a model's name."""
    return "/" in package or package.endswith(".onnx") or package in (".", "..") or Path(package).exists()


def _on_disk(
    path: Path,
    tensors: dict[str, Array],
    deadline_s: float | None,
    least_exit: str | None,
    devices: list[str],
    places: list[str],
) -> tuple[dict[str, Any], dict[str, Array]]:
    from devices.open import open_device
    from devices.package import load_package
    from runtime.execute.executor import Executor
    from runtime.execute.request import Reply, Request, Status
    from runtime.execute.worker import Device

    pairs = [text.partition("=") for text in places]
    if not all(segment and name for segment, _, name in pairs):
        raise typer.BadParameter(f"{places}: each must be SEGMENT=DEVICE", param_hint="--place")
    placement = {segment: name for segment, _, name in pairs}
    package = load_package(path)
    opened = [open_device(name, package) for name in dict.fromkeys([*devices, *placement.values()])]
    replies: list[Reply] = []
    done = threading.Event()

    def take(reply: Reply) -> None:
        replies.append(reply)
        done.set()

    with Executor([Device(each.backend, each.cores) for each in opened]) as executor:
        try:
            executor.load(package, placement=placement)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        deadline_ns = None if deadline_s is None else time.monotonic_ns() + round(deadline_s * 1e9)
        executor.submit(Request(0, package.name, tensors, deadline_ns, least_exit=least_exit), take)
        done.wait()
    (reply,) = replies
    if reply.status is not Status.OK:
        raise _refused(reply.status, f"{reply.status}: {reply.message}")
    answer = {
        "model": reply.model,
        "version": reply.version,
        "exit": reply.exit_id,
        "confidence": reply.confidence,
        "ending": reply.ending,
        "time_left_s": reply.time_left_s,
        "parts": [
            {"segment": part.segment_id, "device": part.device, "begin_s": part.begin_s, "run_s": part.elapsed_s}
            for part in reply.segments
        ],
    }
    return answer, dict(reply.outputs)


def _at_daemon(
    model: str,
    tensors: dict[str, Array],
    deadline_s: float | None,
    least_exit: str | None,
    socket: Path | None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    import headway
    from runtime.cli.ask import daemon_at

    with daemon_at(socket) as client:
        try:
            version = next((item["version"] for item in client.models() if item["name"] == model), "")
            timeout_s = _PATIENCE_S + (deadline_s or 0.0)
            got = client.infer(model, tensors, deadline_s, least_exit=least_exit, timeout_s=timeout_s)
        except headway.RequestError as error:
            raise _refused(error.code, str(error)) from error
        except TypeError as error:
            raise ConfigurationError(str(error)) from error
        except (headway.UnavailableError, headway.NoAnswerError) as error:
            raise UnavailableError(f"there is no file or folder {model!r}, and no daemon to ask: {error}") from error
    answer = {
        "model": model,
        "version": version,
        "exit": got.exit_id,
        "confidence": got.confidence,
        "time_left_s": got.time_left_s,
        "parts": [
            {
                "segment": part["segment"],
                "device": part["device"],
                "begin_s": part["begin_us"] * 1e-6,
                "run_s": part["run_us"] * 1e-6,
            }
            for part in got.parts
        ],
    }
    return answer, got.outputs


def _refused(code: str, message: str) -> RunError:
    return ConfigurationError(message) if code == "INVALID" else RunError(message)


def _plain(array: Array) -> Any:
    """Return nested lists; what JSON has no number for is None."""
    if array.dtype.kind != "f":
        return array.tolist()
    values = array.astype(object)
    values[~np.isfinite(array)] = None
    return values.tolist()


def _print(answer: dict[str, Any], outputs: dict[str, Array]) -> None:
    confidence = "" if answer["confidence"] is None else f", confidence {answer['confidence']:.3f}"
    left = "" if answer["time_left_s"] is None else f", {answer['time_left_s'] * 1e3:.2f} ms left"
    typer.echo(f"{answer['model']} version {answer['version']}: exit {answer['exit']}{confidence}{left}")
    merged: list[str] = []
    for part in answer["parts"]:
        merged.append(part["segment"])
        if part["run_s"] > 0.0:
            typer.echo(f"  {'+'.join(merged)} on {part['device']}: {part['run_s'] * 1e3:.3f} ms")
            merged = []
    for name, array in outputs.items():
        shown = np.array2string(array.ravel()[:_SHOWN], precision=5, separator=", ", max_line_width=120)
        rest = f" and {array.size - _SHOWN} more" if array.size > _SHOWN else ""
        typer.echo(f"  {name} {array.dtype}{list(array.shape)}: {shown}{rest}")
