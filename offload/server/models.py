"""The models of an edge server: packages, and the ranges of their segments that were asked for.

A job asks for a range of segments: a whole model, a head, a tail, one stage. Each range is loaded when first asked for,
away from the workers, and kept for the most recent few. A job whose deadline falls while it runs answers with the
deepest exit that was finished by then.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

from devices.backend import Backend
from devices.clock import Clock
from devices.package import Package
from offload.errors import ServerError, WireError
from offload.server.ranges import ServedRange
from offload.wire import Request

Range = tuple[str, str]
"""First and last segment, both included, in the package's order."""

_KEPT_RANGES = 8


class ServedModel:
    """One package and the ranges of it that were asked for, the whole among them.

    Args:
        package: The package.
        open_backend: Opens the device for one worker.
        workers: How many workers run it.
        clock: Times the runs.
        batch: Whether to try running several jobs together.
    Raises:
        DeviceError: a segment cannot be loaded or run.
    """

    def __init__(
        self, package: Package, open_backend: Callable[[], Backend], workers: int, clock: Clock, batch: bool = True
    ) -> None:
        self.package = package
        self._order = [segment.id for segment in package.segments]
        self._whole: Range = (self._order[0], self._order[-1])
        self._clock = clock
        self._batch = batch
        self._backends = [open_backend() for _ in range(workers)]
        self._ranges: OrderedDict[Range, ServedRange] = OrderedDict()
        self._lock = threading.Lock()
        self.load(self._whole)

    def range_of(self, request: Request) -> Range:
        """Return the range of segments that `request` asks for.

        Raises:
            WireError: another version of the model, no such segment, or the first comes after the last.
        """
        package = self.package
        if request.version is not None and request.version != package.version:
            raise WireError(
                f"model {package.name!r} version {request.version!r} is not served: version {package.version!r} is",
                request.id,
            )
        if request.first_segment is None and request.last_segment is None:
            return self._whole
        first, last = request.first_segment or self._whole[0], request.last_segment or self._whole[1]
        for segment in (first, last):
            if segment not in self._order:
                raise WireError(
                    f"model {package.name!r} has no segment {segment!r}: there are {', '.join(self._order)}", request.id
                )
        if self._order.index(first) > self._order.index(last):
            raise WireError(f"first segment {first!r} comes after the last, {last!r}: exchange them", request.id)
        return first, last

    def loaded(self, wanted: Range) -> ServedRange | None:
        """Return a range that is loaded; None for one that `load` must bring first."""
        return self._ranges.get(wanted)

    def load(self, wanted: Range) -> ServedRange:
        """Load a range and warm it up, unless it is there; the one not loaded anew for longest may go, never the whole.

        Raises:
            DeviceError: a segment cannot be loaded or run.
        """
        with self._lock:
            if wanted not in self._ranges:
                ids = self._order[self._order.index(wanted[0]) : self._order.index(wanted[1]) + 1]
                self._ranges[wanted] = ServedRange(self.package, ids, self._backends, self._clock, self._batch)
                if len(self._ranges) > _KEPT_RANGES:
                    del self._ranges[next(item for item in self._ranges if item != self._whole)]
            return self._ranges[wanted]


def load_models(
    packages: Iterable[Package], open_backend: Callable[[], Backend], workers: int, clock: Clock, batch: bool
) -> dict[str, ServedModel]:
    """Load and warm up packages, by name.

    Raises:
        ServerError: there is no package, or two have one name.
        DeviceError: a segment cannot be loaded or run.
    """
    models: dict[str, ServedModel] = {}
    for package in packages:
        if package.name in models:
            raise ServerError(
                f"two packages are called {package.name!r}: {models[package.name].package.folder} and {package.folder}"
            )
        models[package.name] = ServedModel(package, open_backend, workers, clock, batch)
    if not models:
        raise ServerError("no package to serve: give at least one")
    return models
