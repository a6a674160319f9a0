"""The model repository: packages at <root>/<name>/<version>/.

A name's versions are ordered as numbers where they are numbers ("2" before "10"), and as text otherwise; the last is
the newest. The folder names and the package file must agree, so that a copied folder can't serve under a false name. A
folder that holds a plain model.onnx and no package file, as other servers' repositories do, is a package of one segment
and takes its name and version from the folders.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from devices.errors import PackageError
from devices.package import Package, load_package
from devices.package.file import FILE_NAME
from devices.package.read import inside
from runtime.execute.errors import ModelNotFoundError

_PLAIN = "model.onnx"


@dataclass(frozen=True, slots=True)
class ModelRepository:
    """Model packages under one folder.

    Args:
        root: The folder.
    Raises:
        PackageError: `root` is no folder.
    """

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise PackageError(f"model repository {self.root} is no folder")

    def names(self) -> tuple[str, ...]:
        """Return the names of the models, sorted."""
        return tuple(sorted(path.name for path in _folders(self.root) if self.versions(path.name)))

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the versions of a model, newest last; none if there is no such model."""
        if not _is_plain(name):
            return ()
        return tuple(sorted((path.name for path in _folders(self.root / name)), key=version_key))

    def load(self, name: str, version: str | None = None) -> Package:
        """Return a model's package, the newest version if none is named.

        Raises:
            ModelNotFoundError: There is no such model or version.
            PackageError: The package is damaged, or calls itself otherwise than its folders do.
        """
        versions = self.versions(name)
        if not versions:
            raise ModelNotFoundError(f"model {name!r} is not in {self.root}: there are {list(self.names())}")
        chosen = versions[-1] if version is None else version
        if chosen not in versions:
            raise ModelNotFoundError(f"model {name!r} has no version {version!r}: there are {list(versions)}")
        package = _load(self.root / name / chosen, name, chosen)
        if (package.name, package.version) != (name, chosen):
            raise PackageError(
                f"{self.root / name / chosen} calls itself {package.name} {package.version}: must be {name} {chosen}"
            )
        return package


def _load(folder: Path, name: str, version: str) -> Package:
    if (folder / FILE_NAME).exists() or not (folder / _PLAIN).exists():
        return load_package(folder)
    return replace(load_package(inside(folder, _PLAIN)), name=name, version=version)


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that orders versions as people do: numbers by value, the rest as text, numbers first."""
    parts = re.findall(r"[0-9]+|[^0-9.]+", version)
    return tuple((0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts)


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name and "\0" not in name


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
