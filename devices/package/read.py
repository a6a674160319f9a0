"""Load a model package, refusing every damage before anything of it runs.

In this order: the package file's format and keys, paths, hashes, what each ONNX file declares, the graph, the exits.
"""

import hashlib
import stat
from pathlib import Path

from devices.errors import PackageError
from devices.package import file as tables
from devices.package.graph import Exit, ExitKind, Package, Segment, check_exits, check_hash, order_segments
from devices.package.onnx_header import check_spec, read_header
from devices.tensor import TensorSpec

MAX_FILE_BYTES = 2**31 - 1  # protobuf's own limit
MAX_TABLE_BYTES = 4 * 2**20


def load_package(path: str | Path) -> Package:
    """Return the checked package at `path`.

    Args:
        path: A folder that holds package.toml, or a plain .onnx file, which is a package of one segment and one exit.
    Raises:
        PackageError: Anything is missing, damaged, inconsistent or of an unknown format; the message says what.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    if path.suffix == ".onnx" and path.exists():
        return _load_onnx(path)
    if path.exists():
        raise PackageError(f"{path} is no model package: must be a folder with {tables.FILE_NAME}, or a .onnx file")
    raise PackageError(f"{path} does not exist: must be a folder with {tables.FILE_NAME}, or a .onnx file")


def _load_folder(folder: Path) -> Package:
    what = str(folder / tables.FILE_NAME)
    data = _read(inside(folder, tables.FILE_NAME), what, MAX_TABLE_BYTES)
    parsed = tables.parse(what, data)
    inputs = tuple(TensorSpec(table.name, table.dtype, tuple(table.shape)) for table in parsed.inputs)
    for spec in inputs:
        check_spec(what, spec)
    for kind, ids in (("segments", [s.id for s in parsed.segments]), ("exits", [e.id for e in parsed.exits])):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise PackageError(f"{what}: {kind} {twice} are listed twice: ids must differ")
    segments = order_segments(inputs, [_load_segment(folder, table) for table in parsed.segments])
    package = Package(
        name=parsed.name,
        version=parsed.version,
        folder=folder,
        inputs=inputs,
        segments=segments,
        exits=tuple(_exit(table) for table in parsed.exits),
        license=parsed.license,
        origin=parsed.origin,
        description=parsed.description,
        answer_names=tuple(parsed.answer.names),
        calibration=parsed.calibration,
        card=parsed.card,
        digest=hashlib.sha256(data).hexdigest(),
    )
    check_exits(package)
    return package


def inside(folder: Path, file: str) -> Path:
    """Return the path of a package's file.

    Raises:
        PackageError: The path is absolute, climbs out of the folder, or is a link that leads out of it.
    """
    relative = Path(file)
    if relative.is_absolute() or ".." in relative.parts or "\\" in file or "\0" in file:
        raise PackageError(f"{folder}: file {file!r} must be a relative path inside the package")
    path = folder / relative
    try:
        leads_out = not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:
        raise PackageError(f"{folder}: file {file!r} cannot be followed: {error}") from error
    if leads_out:
        raise PackageError(f"{folder}: file {file!r} is a link to {path.resolve()}: must lie inside the package")
    return path


def _read(path: Path, what: str, limit: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise PackageError(f"{what} is not a regular file")
        if status.st_size > limit:
            raise PackageError(f"{what} has {status.st_size} bytes: must be at most {limit}")
        return path.read_bytes()
    except FileNotFoundError as error:
        beside = sorted(path.parent.glob("*.onnx")) if path.name == tables.FILE_NAME else []
        hint = f": for the plain model there, name the file {beside[0]}" if beside else ""
        raise PackageError(f"{what} is missing{hint}") from error
    except OSError as error:
        raise PackageError(f"{what} cannot be read: {error.strerror}") from error


def _load_segment(folder: Path, table: tables.SegmentTable) -> Segment:
    what = f"segment {table.id!r}: {table.file}"
    path = inside(folder, table.file)
    data = _read(path, what, MAX_FILE_BYTES)
    check_hash(table.id, table.file, data, table.sha256)
    _, inputs, outputs = read_header(what, data)
    return Segment(
        id=table.id,
        path=path,
        sha256=table.sha256,
        inputs=_listed(what, "inputs", table.inputs, inputs),
        outputs=_listed(what, "outputs", table.outputs, outputs),
        macs=table.macs,
    )


def _listed(what: str, role: str, names: list[str], specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    by_name = {spec.name: spec for spec in specs}
    if len(by_name) != len(specs) or sorted(by_name) != sorted(names):
        raise PackageError(
            f"{what} has {role} {[spec.name for spec in specs]}, the package file lists {names}: must be the same names"
        )
    return tuple(by_name[name] for name in names)


def _exit(table: tables.ExitTable) -> Exit:
    try:
        kind = ExitKind(table.kind)
    except ValueError as error:
        kinds = [kind.value for kind in ExitKind]
        raise PackageError(f"exit {table.id!r}: kind is {table.kind!r}: must be one of {kinds}") from error
    return Exit(table.id, table.segment, table.answer, table.confidence, kind, table.threshold)


def _load_onnx(path: Path) -> Package:
    data = _read(path, str(path), MAX_FILE_BYTES)
    _, inputs, outputs = read_header(str(path), data)
    sha256 = hashlib.sha256(data).hexdigest()
    segment = Segment("whole", path, sha256, inputs, outputs)
    package = Package(
        name=path.stem,
        version="0",
        folder=path.parent,
        inputs=inputs,
        segments=order_segments(inputs, [segment]),
        exits=(Exit("final", "whole", outputs[0].name),),
        digest=sha256,
    )
    check_exits(package)
    return package
