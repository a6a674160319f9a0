"""Load segments onto a backend, alone or merged, with no more memory than one session of the same weights needs.

A backend that reads files is given the file: then the weights are never held as bytes beside their session. The hash is
checked first, and the file must be the same one afterwards. A merged model is written to a temporary file, a segment at
a time; where none can be written it is held in memory.
"""

import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Protocol, TypeGuard

from devices.backend import Backend, Loaded
from devices.errors import PackageError
from devices.memory import large_blocks_apart, release_freed
from devices.merge import merge_into
from devices.package.graph import Package, Segment


class FileBackend(Backend, Protocol):
    """A backend that can read a segment's model from a file."""

    def load_file(self, segment: Segment, path: Path) -> Loaded:
        """Make a segment ready to run, its model being the ONNX file at `path`.

        Raises:
            BackendError: The backend refuses the model.
        """
        ...


def load_group(
    package: Package, group: Sequence[str], backend: Backend
) -> list[tuple[Segment, tuple[str, ...], Loaded]]:
    """Load a group of segments, as one model if that can be.

    Returns:
        What was loaded, each with the ids of the segments it is made of.
    Raises:
        PackageError: A segment's file is no longer the one that was checked.
        BackendError: The backend refuses a segment.
    """
    with large_blocks_apart():
        merged = _load_merged(package, group, backend) if len(group) > 1 else None
        if merged is not None:
            return [(merged[0], tuple(group), merged[1])]
        return [(package.segment(one), (one,), _load_segment(package, one, backend)) for one in group]


def _reads_files(backend: Backend) -> TypeGuard[FileBackend]:
    return bool(getattr(backend, "reads_files", False))


def _load_segment(package: Package, segment_id: str, backend: Backend) -> Loaded:
    segment = package.segment(segment_id)
    if not _reads_files(backend):
        release_freed()
        return backend.load(segment, package.model(segment_id))
    before = _identity(segment.path)
    package.model(segment_id)  # for its hash
    release_freed()
    loaded = backend.load_file(segment, segment.path)
    if before != _identity(segment.path):
        raise PackageError(f"segment {segment_id!r}: {segment.path} was exchanged while it was loaded")
    return loaded


def _identity(path: Path) -> tuple[int, ...]:
    with suppress(OSError):  # reading it will tell why
        found = path.stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return ()


def _load_merged(package: Package, group: Sequence[str], backend: Backend) -> tuple[Segment, Loaded] | None:
    if _reads_files(backend):
        with suppress(OSError), NamedTemporaryFile(prefix="headway-", suffix=".onnx") as file:
            merged = merge_into(package, group, file)
            file.flush()
            release_freed()
            return None if merged is None else (merged, backend.load_file(merged, Path(file.name)))
    written = io.BytesIO()
    merged = merge_into(package, group, written)
    release_freed()
    return None if merged is None else (merged, backend.load(merged, written.getvalue()))
