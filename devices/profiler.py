"""Measure what a package's segments cost on devices of this board.

For each device, batch and segment: runs one after another (p50, p99, p99.9, greatest), runs after a pause, runs beside
a busy neighbour, the energy of a run by the board's meter or else by a declared power, the memory the segment takes,
and the size of what it hands on. Inputs are random; a segment gets what the segments before it made of them. A
percentile is given from that many samples on that it does not rest on a single one: p99 from 100, p99.9 from 1000.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, runtime_checkable

from devices.backend import CancelToken, Loaded, Value
from devices.errors import MeterError, ProfileError
from devices.host import processor, resident_bytes
from devices.memory import release_freed
from devices.meters import DeclaredMeter, EnergyMeter, find_meter
from devices.open import OpenDevice, open_device
from devices.package.graph import Package, Segment
from devices.profile.figures import Figure, Latency, Origin, Profile, SegmentFigures, Source, Unit
from devices.samples import open_batch, sample_inputs

WARM_RUNS = 5
_NEIGHBOUR = """
import numpy, sys
a = numpy.ones(1 << 21)
b = a.copy()
print("ready", flush=True)
while True:
    b[:] = a
    b *= 1.0000001
"""


@dataclass(frozen=True, slots=True)
class ProfilerSettings:
    """How much to measure.

    Args:
        batches: Batches.
        repeats: Runs of each kind, at most.
        budget_s: Time for the runs of each kind, at most [s]; at least ten are made.
        idle_runs: Runs after a pause; 0 for none.
        idle_s: That pause [s].
        load: Measure beside a busy neighbour.
        energy_s: Time over which energy is measured, where there is a meter [s].
        declared_w: Power while a device is busy, for devices without a meter [W]; None: they get no energy.
        seed: Seed of the inputs.
    Raises:
        ValueError: A number makes no sense.
    """

    batches: tuple[int, ...] = (1,)
    repeats: int = 1000
    budget_s: float = 2.0
    idle_runs: int = 20
    idle_s: float = 0.05
    load: bool = True
    energy_s: float = 1.0
    declared_w: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1 or len(set(self.batches)) < len(self.batches):
            raise ValueError(f"batches = {self.batches}: must be different and at least 1")
        if self.repeats < 10 or self.idle_runs < 0:
            raise ValueError(f"repeats = {self.repeats}, idle_runs = {self.idle_runs}: at least 10, and not negative")
        if self.declared_w is not None and not 0.0 < self.declared_w < float("inf"):
            raise ValueError(f"declared_w = {self.declared_w!r}: must be a positive, finite power")
        for name in ("budget_s", "idle_s", "energy_s"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be a positive, finite time")


def measure(
    package: Package,
    devices: Sequence[str],
    settings: ProfilerSettings | None = None,
    *,
    told: Callable[[str], None] = lambda _: None,
) -> Profile:
    """Measure every segment of a package on devices of this board.

    Args:
        package: The package.
        devices: Names of the devices, as `devices.open` knows them.
        settings: How much to measure.
        told: Called with a line on what is measured now.
    Returns:
        The profile; its sources say when and by what each figure was measured.
    Raises:
        BackendError: A device does not open, or refuses a segment.
        SegmentError: A segment fails.
        ProfileError: A batch is asked for that the package can't take.
    """
    settings = settings or ProfilerSettings()
    if not devices or len(set(devices)) < len(devices):
        raise ProfileError(f"devices {list(devices)}: must be different ones, at least one")
    if settings.batches != (1,) and not open_batch(package.inputs):
        raise ProfileError(f"package {package.name!r} takes one input at a time: batches {settings.batches} can't be")
    opened = [open_device(name, package) for name in devices]
    when = time.strftime("%Y-%m-%d", time.gmtime())
    cite = f"headway profile {package.name} {package.version}, {processor()}, {when}"
    source = Source(cite, Origin.MEASURED, "the measurer's own")
    segments: list[SegmentFigures] = []
    for device in opened:
        with _pinned_to(device.cores):
            segments += _Measurement(package, device, settings, source, told).figures()
    units = tuple(Unit(device.name, _describe(device)) for device in opened)
    return Profile(package.name, processor(), f"measured {when}", segments=tuple(segments), units=units)


@runtime_checkable
class _TellsMemory(Protocol):
    """A backend whose device may have memory of its own."""

    def device_bytes(self) -> int | None:
        """Return what is held there [byte], None where the device's memory is the process's."""
        ...


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A loaded segment with its inputs."""

    segment: Segment
    batch: int
    loaded: Loaded
    inputs: Mapping[str, Value]
    memory: int
    output: int


class _Measurement:
    """All figures of one device."""

    def __init__(
        self,
        package: Package,
        device: OpenDevice,
        settings: ProfilerSettings,
        source: Source,
        told: Callable[[str], None],
    ) -> None:
        self._package = package
        self._device = device
        self._settings = settings
        self._source = source
        self._told = told

    def figures(self) -> list[SegmentFigures]:
        """Measure."""
        device, settings = self._device, self._settings
        meter, why = find_meter(device.name)
        if meter is None and settings.declared_w is not None:
            meter = DeclaredMeter(settings.declared_w, name=f"declared power of {settings.declared_w:g} W")
            why = meter.name
        self._told(f"{device.name}: energy by {why}" if meter else f"{device.name}: no energy: {why}")
        loaded = self._load()
        figures = []
        try:
            for batch in settings.batches:
                prepared = list(self._prepare(loaded, batch))
                entries = [self._alone(item, meter) for item in prepared]
                if settings.load:
                    with _busy_neighbour(device.cores):
                        entries = [
                            replace(entry, beside_load=self._latency(item))
                            for entry, item in zip(entries, prepared, strict=True)
                        ]
                figures += entries
        finally:
            if meter is not None:
                meter.close()
        return figures

    def _load(self) -> list[tuple[Segment, Loaded, int]]:
        """Load every segment, with the memory that it takes, the device's own where it has one [byte].

        Other threads of the process may free memory meanwhile; but the weights have to be somewhere.
        """
        backend, found = self._device.backend, []
        for segment in self._package.segments:
            model = self._package.model(segment.id)
            release_freed()
            before = self._held_bytes()
            loaded = backend.load(segment, model)
            release_freed()
            found.append((segment, loaded, max(self._held_bytes() - before, len(model))))
        return found

    def _held_bytes(self) -> int:
        backend = self._device.backend
        own = backend.device_bytes() if isinstance(backend, _TellsMemory) else None
        return resident_bytes() if own is None else own

    def _prepare(self, loaded: Sequence[tuple[Segment, Loaded, int]], batch: int) -> Iterator[_Prepared]:
        backend = self._device.backend
        given = sample_inputs(self._package.inputs, batch, self._settings.seed)
        values = {name: backend.upload(array) for name, array in given.items()}
        for segment, ready, memory in loaded:
            inputs = {spec.name: values[spec.name] for spec in segment.inputs}
            made = ready.run(inputs, CancelToken())
            values.update(made)
            yield _Prepared(
                segment, batch, ready, inputs, memory, sum(backend.download(v).nbytes for v in made.values())
            )

    def _alone(self, item: _Prepared, meter: EnergyMeter | None) -> SegmentFigures:
        settings = self._settings
        self._told(f"{self._device.name}: {item.segment.id} at batch {item.batch}")
        latency = self._latency(item)
        after_idle = self._latency(item, settings.idle_s, settings.idle_runs) if settings.idle_runs else None
        energy, error_j = None, 0.0
        if meter is not None:
            energy, error_j = self._energy(item, meter)
        return SegmentFigures(
            self._package.name,
            item.segment.id,
            self._device.name,
            item.batch,
            latency,
            after_idle,
            energy=energy,
            energy_error_j=error_j,
            memory=self._size(item.memory),
            output=self._size(item.output),
            sha256=item.segment.sha256,
        )

    def _latency(self, item: _Prepared, pause_s: float = 0.0, runs: int | None = None) -> Latency:
        for _ in range(WARM_RUNS if runs is None else 1):
            item.loaded.run(item.inputs, CancelToken())
        times_s: list[float] = []
        least = 10 if runs is None else runs
        began_s = time.perf_counter()
        while len(times_s) < (runs or self._settings.repeats):
            if len(times_s) >= least and time.perf_counter() - began_s > self._settings.budget_s:
                break
            if pause_s:
                time.sleep(pause_s)
            token = CancelToken()
            start_s = time.perf_counter()
            item.loaded.run(item.inputs, token)
            times_s.append(time.perf_counter() - start_s)
        return summarise(times_s, self._source)

    def _energy(self, item: _Prepared, meter: EnergyMeter) -> tuple[Figure | None, float]:
        """Return the energy of a run and the meter's error on it [J]; None where the meter failed or saw nothing."""
        runs = 0
        try:
            first = meter.read()
            began_s = time.perf_counter()
            with meter.busy() if isinstance(meter, DeclaredMeter) else nullcontext():
                while time.perf_counter() - began_s < self._settings.energy_s:
                    item.loaded.run(item.inputs, CancelToken())
                    runs += 1
            used = meter.read().since(first)
        except MeterError as error:
            self._told(f"{self._device.name}: {item.segment.id}: no energy: {error}")
            return None, 0.0
        if used.energy_j <= 0.0:
            return None, 0.0
        source = Source(f"{self._source.cite}, {meter.name}", meter.origin, self._source.license)
        energy_j = used.energy_j / runs
        return Figure(energy_j, f"{energy_j * 1e3:g} mJ", source), used.error_j / runs

    def _size(self, size: int) -> Figure | None:
        return Figure(float(size), f"{size} B", self._source) if size else None


def summarise(times_s: Sequence[float], source: Source) -> Latency:
    """Return the percentiles of times [s], by the nearest rank, as far as there are samples enough.

    Raises:
        ValueError: There is no sample.
    """
    if not times_s:
        raise ValueError("there is no time to sum up")
    ordered = sorted(times_s)

    def rank(share: float) -> float:
        return ordered[round(share * (len(ordered) - 1))]

    return Latency(
        rank(0.5),
        source,
        rank(0.99) if len(ordered) >= 100 else None,
        rank(0.999) if len(ordered) >= 1000 else None,
        ordered[-1],
        len(ordered),
    )


def _describe(device: OpenDevice) -> str:
    backend = device.backend
    library = {"null": "headway"}.get(backend.name, backend.name)
    try:
        release = getattr(sys.modules.get(library), "__version__", None) or version(library)
    except PackageNotFoundError:
        release = "of unknown version"
    cores = f", core {', '.join(map(str, sorted(device.cores)))}" if device.cores else ""
    return f"{backend.name} {release}{cores}"


@contextmanager
def _pinned_to(cores: frozenset[int] | None) -> Iterator[None]:
    """Pin the calling thread while the block runs."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _busy_neighbour(cores: frozenset[int] | None) -> Iterator[None]:
    """Have another process stream through memory while the block runs, on another core than `cores` where there is one.

    Raises:
        ProfileError: It did not start.
    """
    with subprocess.Popen([sys.executable, "-c", _NEIGHBOUR], stdout=subprocess.PIPE) as neighbour:
        try:
            if neighbour.stdout is None or neighbour.stdout.readline() != b"ready\n":
                raise ProfileError("the busy neighbour did not start")
            others = set(range(os.cpu_count() or 1)) - (cores or frozenset())
            with suppress(OSError):  # there is no other, or it is closed to this process
                os.sched_setaffinity(neighbour.pid, others)
            yield
        finally:
            neighbour.kill()
