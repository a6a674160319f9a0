"""Tensors that commands read from and write to .npz files."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from devices.tensor import Array
from runtime.errors import ConfigurationError


def read_npz(path: Path) -> dict[str, Array]:
    """Return the arrays of a .npz file by name.

    Raises:
        ConfigurationError: It can't be read, is no .npz file, or holds Python objects instead of numbers.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ConfigurationError(f"{path} holds one array without a name: save it with numpy.savez(name=array)")
        with archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigurationError(f"{path} is no .npz file of numbers ({error}): write it with numpy.savez") from error


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name.

    Raises:
        ConfigurationError: The file can't be written.
    """
    try:
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
