"""Write a model package: the ONNX files, their hashes and package.toml, checked by loading what was written.

The folder is built beside its place and moved there when complete, so a reader never sees half a package.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from devices.errors import PackageError
from devices.package.file import FILE_NAME, FORMAT
from devices.package.graph import Exit, Package
from devices.package.macs import count_macs
from devices.package.onnx_header import read_header
from devices.package.read import load_package
from devices.package.toml import dump_toml
from devices.tensor import TensorSpec


@dataclass(frozen=True, slots=True)
class SegmentSource:
    """A segment to be written.

    Args:
        id: Name within the package; the file is named after it.
        model: The ONNX model: an onnx.ModelProto, its bytes, or the path of a file. Its inputs' and outputs' names are
            the package's tensor names.
        macs: Multiply-accumulates at batch 1; None counts them.
    """

    id: str
    model: Any
    macs: int | None = None

    def data(self) -> bytes:
        """Return the ONNX file's bytes."""
        if isinstance(self.model, bytes):
            return self.model
        if isinstance(self.model, str | Path):
            return Path(self.model).read_bytes()
        if isinstance(self.model, onnx.ModelProto):
            return bytes(self.model.SerializeToString(deterministic=True))
        raise TypeError(
            f"segment {self.id!r}: model is a {type(self.model).__name__}: must be bytes, path or ModelProto"
        )


def write_package(
    folder: str | Path,
    *,
    name: str,
    version: str,
    segments: Sequence[SegmentSource],
    exits: Sequence[Exit],
    inputs: Sequence[TensorSpec] | None = None,
    license: str = "unknown",
    origin: str = "unknown",
    description: str = "",
    answer_names: Sequence[str] = (),
    calibration: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    check: Callable[[Package], None] | None = None,
) -> Package:
    """Write a package and return it as loaded back.

    Args:
        folder: Where it shall lie; replaced if there is a package already.
        inputs: Package inputs; None takes what segments read and none produces, as the ONNX files declare it.
    Raises:
        PackageError: The parts don't make a sound package (nothing is left behind), or `folder` holds something else.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / FILE_NAME).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise PackageError(f"{folder} exists and is no model package: choose another place")
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        files = [_write_segment(building, source) for source in segments]
        specs = _free_inputs(building, files) if inputs is None else tuple(inputs)
        head = {"format": FORMAT, "name": name, "version": version, "license": license, "origin": origin}
        tables = {
            **head,
            "description": description,
            "inputs": [{"name": s.name, "dtype": s.dtype, "shape": list(s.shape)} for s in specs],
            "segments": files,
            "exits": [_exit_table(item) for item in exits],
            "answer": {"names": list(answer_names)},
            "calibration": dict(calibration or {}),
            "card": dict(card or {}),
        }
        (building / FILE_NAME).write_text(dump_toml({key: value for key, value in tables.items() if value != {}}))
        built = load_package(building)
        if check is not None:
            check(built)
        building.chmod(0o755)
        _replace(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return load_package(folder)


def _write_segment(folder: Path, source: SegmentSource) -> dict[str, Any]:
    data = source.data()
    file = f"{source.id}.onnx"
    model, inputs, outputs = read_header(f"segment {source.id!r}", data)
    path = folder / file
    if path.name != file or path.exists():
        raise PackageError(
            f"segment id {source.id!r} is taken or makes no file name: use letters, digits, '.', '_', '-'"
        )
    path.write_bytes(data)
    return {
        "id": source.id,
        "file": file,
        "sha256": hashlib.sha256(data).hexdigest(),
        "inputs": [spec.name for spec in inputs],
        "outputs": [spec.name for spec in outputs],
        "macs": count_macs(model) if source.macs is None else source.macs,
    }


def _free_inputs(folder: Path, files: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    produced = {name for table in files for name in table["outputs"]}
    free: dict[str, TensorSpec] = {}
    for table in files:
        _, inputs, _ = read_header(table["file"], (folder / table["file"]).read_bytes())
        for spec in inputs:
            if spec.name not in produced:
                free.setdefault(spec.name, spec)
    return tuple(free.values())


def _exit_table(item: Exit) -> dict[str, Any]:
    table: dict[str, Any] = {"id": item.id, "segment": item.segment, "answer": item.answer, "kind": str(item.kind)}
    if item.confidence is not None:
        table["confidence"] = item.confidence
    if item.threshold is not None:
        table["threshold"] = float(item.threshold)
    return table


def _replace(building: Path, folder: Path) -> None:
    """Move a built package into place, an older one aside and away; rename works only over an empty folder."""
    if not folder.exists():
        os.replace(building, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    os.replace(folder, old)
    os.replace(building, folder)
    shutil.rmtree(old)
