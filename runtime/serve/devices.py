"""The daemon's devices, and what runs on which by its configuration; wrong names are told before anything starts."""

from collections.abc import Mapping, Sequence

from devices.open import OpenDevice, open_device
from devices.package import Package
from runtime.config import ServeSection
from runtime.errors import ConfigurationError


def placements(serve: ServeSection, packages: Sequence[Package]) -> dict[str, dict[str, str]]:
    """Return the device of every segment by the package's name and the segment's id.

    Raises:
        ConfigurationError: A device is named twice; a package, segment or device of a placement is unknown.
    """
    if len(set(serve.devices)) != len(serve.devices):
        raise ConfigurationError(f"serve.devices = {list(serve.devices)}: each must have a name of its own")
    known = {package.name for package in packages}
    unknown = sorted(serve.placement.keys() - known)
    if unknown:
        raise ConfigurationError(f"serve.placement names packages {unknown}: served are {sorted(known)}")
    return {package.name: _placement(serve, package) for package in packages}


def _placement(serve: ServeSection, package: Package) -> dict[str, str]:
    given = serve.placement.get(package.name, {})
    every = {segment.id: serve.devices[0] for segment in package.segments}
    chosen: Mapping[str, str] = dict.fromkeys(every, given) if isinstance(given, str) else given
    unknown = sorted(chosen.keys() - every.keys())
    if unknown:
        raise ConfigurationError(f"serve.placement.{package.name} names segments {unknown}: it has {list(every)}")
    for device in chosen.values():
        if device not in serve.devices:
            raise ConfigurationError(
                f"serve.placement.{package.name} names device {device!r}: serve.devices are {list(serve.devices)}"
            )
    return {**every, **chosen}


def open_devices(serve: ServeSection, packages: Sequence[Package]) -> list[OpenDevice]:
    """Open the devices; a null device takes the times of the first package.

    Raises:
        BackendError: A name makes no sense, or there is no such device.
    """
    return [open_device(name, packages[0]) for name in serve.devices]
