"""Model packages: a graph of ONNX segments with exits, read and written; the format is docs/package-format.md."""

from devices.errors import PackageError
from devices.package.graph import Exit, ExitKind, Package, Segment
from devices.package.read import load_package
from devices.package.write import SegmentSource, write_package
from devices.tensor import TensorSpec

__all__ = [
    "Exit",
    "ExitKind",
    "Package",
    "PackageError",
    "Segment",
    "SegmentSource",
    "TensorSpec",
    "load_package",
    "write_package",
]
