"""The models that are served: loaded at the start, from the repository on demand, within a memory budget.

A model is loaded by name and version, never by a path: what can be loaded are the packages of the configuration and
what lies in the repository. The new one is loaded and warm before the old one goes, so both count meanwhile.

    footprint of a model = the greater of  its files' size  and  what the process grew by while it loaded

A load whose files alone exceed what is left of the budget is refused before it starts, one that turns out to take more
is taken back. All of this happens on one thread; everybody may look at the tables.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from devices.host import resident_bytes
from devices.package import Package
from runtime.errors import RunError
from runtime.execute.errors import ModelNotFoundError
from runtime.execute.executor import Executor
from runtime.execute.model import ServedModel
from runtime.repository import ModelRepository

_log = logging.getLogger("headway.models")
MEGABYTE = 1e6


class ModelInUseError(RunError):
    """The model cannot be unloaded or replaced; the message says who needs it."""


class MemoryBudgetError(RunError):
    """The model does not fit into what is left of the memory budget; the message holds the numbers."""


class Placer(Protocol):
    """What places some models itself, as plans do."""

    @property
    def models(self) -> frozenset[str]:
        """Their names."""
        ...

    def begin(self, executor: Executor) -> None:
        """Load them."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A model in the repository or loaded.

    Args:
        name, version: What requests call it by.
        ready: Whether it is loaded and warm.
        reason: Why it is not.
    """

    name: str
    version: str
    ready: bool
    reason: str = ""


class Library:
    """The served models.

    Args:
        executor: Runs them.
        packages: What is loaded at the start.
        placements: Devices by segment, by the model's name; others run on the first device.
        repository: Where `load` finds models; None: what is loaded at the start is all there is.
        budget_bytes: Most that models may take [B]; None: no limit.
        placer: Places some of `packages` itself.
        pinned: Name of the model that drives the vehicle: any version of it must look the same from outside, and it may
            not be unloaded while one is driven.
        driving: Returns whether a vehicle is driven.
    """

    def __init__(
        self,
        executor: Executor,
        packages: Sequence[Package],
        *,
        placements: Mapping[str, Mapping[str, str]] | None = None,
        repository: ModelRepository | None = None,
        budget_bytes: float | None = None,
        placer: Placer | None = None,
        pinned: str | None = None,
        driving: Callable[[], bool] = lambda: False,
    ) -> None:
        self._executor = executor
        self._packages = tuple(packages)
        self._placements = placements or {}
        self._repository = repository
        self._budget_bytes = budget_bytes
        self._placer = placer
        self._pinned = pinned
        self._driving = driving
        self._took: dict[tuple[str, str], float] = {}
        self._stamps: dict[tuple[str, str], tuple[object, ...]] = {}
        self._failures: dict[tuple[str, str], str] = {}
        self.on_change: Callable[[str, Package], None] = lambda what, package: None

    @property
    def footprints(self) -> dict[tuple[str, str], float]:
        """What each loaded model takes [B], by name and version."""
        loaded = {(model.package.name, model.package.version) for model in self._executor.models}
        return {key: took for key, took in tuple(self._took.items()) if key in loaded}

    def begin(self) -> None:
        """Load what is loaded at the start.

        Raises:
            MemoryBudgetError: The budget is too small for them.
            DeviceError: A model does not load.
        """
        placed = frozenset[str]()
        if self._placer is not None:
            placed = self._placer.models
            self._placer.begin(self._executor)
        for package in self._packages:
            if package.name in placed:
                self._took[package.name, package.version] = files_bytes(package)
            else:
                self._take_in(package, replace=True)

    def exchange(
        self,
        packages: Sequence[Package],
        *,
        placements: Mapping[str, Mapping[str, str]],
        repository: ModelRepository | None,
        budget_bytes: float | None,
    ) -> None:
        """Serve these packages from now on and no others; all are loaded and warm before the first old one goes.

        A model whose files and placement are as they were stays loaded. While old and new are both loaded the budget
        holds for either set, not for their sum.

        Args:
            packages, placements, repository, budget_bytes: As given to the constructor.
        Raises:
            PackageError, BackendError, SegmentError: One does not load; nothing has changed then, as for the others.
            MemoryBudgetError: They do not fit together.
            ModelInUseError: The model that drives the vehicle is missing or differs in its tensors, or one that plans
                place is missing or differs.
        """
        self._check_exchange(packages)
        fresh: list[tuple[ServedModel, float]] = []
        kept_bytes = 0.0
        for package in packages:
            key = (package.name, package.version)
            same_place = self._placements.get(package.name) == placements.get(package.name)
            if self._placed(package.name) or (same_place and self._stamps.get(key) == _stamp(package)):
                kept_bytes += self._took.get(key, 0.0)
                continue
            before = resident_bytes()
            model = self._executor.prepare(package, placement=placements.get(package.name))
            fresh.append((model, max(files_bytes(package), resident_bytes() - before)))
        needed = kept_bytes + sum(took for _, took in fresh)
        if budget_bytes is not None and needed > budget_bytes:
            raise MemoryBudgetError(
                f"the models take {needed / MEGABYTE:.1f} MB together: serve.memory_mb is {budget_bytes / MEGABYTE:.1f}"
            )
        self._packages, self._placements = tuple(packages), placements
        self._repository, self._budget_bytes = repository, budget_bytes
        for model, took in fresh:
            self._begin_to_serve(model, took, replace=True)
        wanted = {(package.name, package.version) for package in packages}
        for loaded in self._executor.models:
            if (loaded.package.name, loaded.package.version) not in wanted:
                self.unload(loaded.package.name, loaded.package.version)

    def load(self, name: str, version: str | None = None, *, replace: bool = True) -> ServedModel:
        """Load a model of the repository, the newest version if none is named, and serve it once it is warm.

        Args:
            replace: Unload its other versions then.
        Raises:
            ModelNotFoundError: It is not in the repository, or there is no repository.
            PackageError, BackendError, SegmentError: It does not load; what was served before still is.
            MemoryBudgetError: It does not fit.
            ModelInUseError: Plans place it, or it drives the vehicle and the new version differs in its tensors.
        """
        package = self._find(name, version)
        self._check_free(package)
        try:
            model = self._take_in(package, replace=replace)
        except Exception as error:
            self._failures[package.name, package.version] = str(error)
            raise
        self._failures.pop((package.name, package.version), None)
        return model

    def unload(self, name: str, version: str | None = None) -> None:
        """Serve a model, or one version of it, no more; requests already taken still get their answers.

        Raises:
            ModelNotFoundError: It is not loaded.
            ModelInUseError: It drives the vehicle at present, or plans place it.
        """
        going = [
            m.package for m in self._executor.models if m.package.name == name and version in (None, m.package.version)
        ]
        if name == self._pinned and going and len(going) == self._count(name) and self._driving():
            raise ModelInUseError(f"model {name!r} drives the vehicle: it can be replaced, not unloaded")
        if self._placer is not None and name in self._placer.models:
            raise ModelInUseError(f"model {name!r} is placed by serve.plans: it is served as long as the daemon runs")
        self._executor.unload(name, version)
        for package in going:
            self._took.pop((package.name, package.version), None)
            self._stamps.pop((package.name, package.version), None)
            told = {"code": "model_unloaded", "model": package.name, "version": package.version}
            _log.info("unloaded %s %s", package.name, package.version, extra=told)
            self.on_change("unloaded", package)

    def index(self) -> tuple[Listed, ...]:
        """Return every model that is loaded or could be, by name and version."""
        loaded = {(model.package.name, model.package.version) for model in self._executor.models}
        listed = {key: Listed(*key, ready=True) for key in loaded}
        names = () if self._repository is None else self._repository.names()
        for name in names:
            for version in self._repository.versions(name) if self._repository is not None else ():
                reason = self._failures.get((name, version), "not loaded")
                listed.setdefault((name, version), Listed(name, version, ready=False, reason=reason))
        return tuple(listed[key] for key in sorted(listed))

    def _count(self, name: str) -> int:
        return sum(model.package.name == name for model in self._executor.models)

    def _find(self, name: str, version: str | None) -> Package:
        if self._repository is not None:
            return self._repository.load(name, version)
        for package in self._packages:
            if package.name == name and version in (None, package.version):
                return package
        known = sorted({package.name for package in self._packages})
        raise ModelNotFoundError(f"model {name!r} cannot be loaded: there is no repository, and configured are {known}")

    def _check_free(self, package: Package) -> None:
        if self._placer is not None and package.name in self._placer.models:
            raise ModelInUseError(f"model {package.name!r} is placed by serve.plans: it cannot be loaded beside them")
        if package.name == self._pinned:
            served = next((each for each in self._packages if each.name == package.name), package)
            if _outside(served) != _outside(package):
                raise ModelInUseError(
                    f"model {package.name!r} drives the vehicle: version {package.version} has other inputs or exits "
                    f"than version {served.version}"
                )

    def _take_in(self, package: Package, *, replace: bool) -> ServedModel:
        files = files_bytes(package)
        self._check_budget(package, files, "by its files")
        before = resident_bytes()
        model = self._executor.prepare(package, placement=self._placements.get(package.name))
        took = max(files, resident_bytes() - before)
        self._check_budget(package, took, "once loaded")
        self._begin_to_serve(model, took, replace=replace)
        return model

    def _begin_to_serve(self, model: ServedModel, took: float, *, replace: bool) -> None:
        package = model.package
        self._executor.serve(model, replace=replace)
        self._took[package.name, package.version] = took
        self._stamps[package.name, package.version] = _stamp(package)
        told = {"code": "model_loaded", "model": package.name, "version": package.version, "bytes": took}
        _log.info("loaded %s %s: %.1f MB", package.name, package.version, took / MEGABYTE, extra=told)
        self.on_change("loaded", package)

    def _placed(self, name: str) -> bool:
        return self._placer is not None and name in self._placer.models

    def _check_exchange(self, packages: Sequence[Package]) -> None:
        new = {package.name: package for package in packages}
        for name in sorted({model.package.name for model in self._executor.models}):
            served = self._executor.model(name).package
            if name == self._pinned and (name not in new or _outside(new[name]) != _outside(served)):
                raise ModelInUseError(
                    f"model {name!r} drives the vehicle: it may not go, nor get other inputs or exits"
                )
            if self._placed(name) and (name not in new or new[name].version != served.version):
                raise ModelInUseError(f"model {name!r} is placed by serve.plans: it stays as long as the daemon runs")

    def _check_budget(self, package: Package, needed: float, how: str) -> None:
        if self._budget_bytes is None:
            return
        footprints = self.footprints
        left = self._budget_bytes - sum(footprints.values())
        if needed > left:
            beside = ", ".join(
                f"{name} {version} {took / MEGABYTE:.1f} MB" for (name, version), took in footprints.items()
            )
            raise MemoryBudgetError(
                f"{package.name} {package.version} takes {needed / MEGABYTE:.1f} MB {how}: {left / MEGABYTE:.1f} MB of "
                f"{self._budget_bytes / MEGABYTE:.1f} MB are left beside {beside or 'nothing'}; unload a model "
                "first, or raise serve.memory_mb"
            )


def files_bytes(package: Package) -> float:
    """Return the size of a package's segments [B]: the least that it takes once loaded."""
    return float(sum(segment.path.stat().st_size for segment in package.segments))


def _stamp(package: Package) -> tuple[object, ...]:
    """Return what differs once the package file differs or a segment was written to."""
    told = (segment.path.stat() for segment in package.segments)
    return (package.digest, tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in told))


def _outside(package: Package) -> tuple[object, ...]:
    """Return what users of a model see of it."""
    return (package.inputs, tuple((taken.id, taken.answer, package.tensors[taken.answer]) for taken in package.exits))
