"""The daemon's devices, and what runs on which by its configuration; wrong names are told before anything starts."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from devices.errors import BackendError
from devices.open import OpenDevice, open_device
from devices.package import Package, load_package
from runtime.config import Config, ServeSection
from runtime.errors import ConfigurationError
from runtime.execute.edge import EdgeDevice
from runtime.repository import ModelRepository
from runtime.serve.plans import Plans

_log = logging.getLogger("headway.daemon")


def configured_packages(serve: ServeSection, repository: ModelRepository | None) -> list[Package]:
    """Return what is loaded at the start: the packages named, then the newest version of each other model there is.

    Raises:
        ConfigurationError: There is none, or one name stands twice.
        PackageError: One is damaged.
    """
    packages = [load_package(path) for path in serve.packages]
    names = [package.name for package in packages]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"serve.packages hold {sorted(names)}: each name may stand once")
    if repository is not None:
        packages += [repository.load(name) for name in repository.names() if name not in names]
    if not packages:
        empty = "" if repository is None else f", and the repository {repository.root} holds none"
        raise ConfigurationError(
            f"no model is given{empty}: name one with --package or serve.packages, or give a --repository"
        )
    return packages


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


def open_devices(serve: ServeSection, packages: Sequence[Package]) -> tuple[list[OpenDevice], dict[str, str]]:
    """Open the devices; a null device takes the times of the first package.

    Returns:
        The devices, and why the others could not be opened: with plans such a device is lost, not fatal.
    Raises:
        BackendError: A name makes no sense, or there is no such device, and there are no plans or no other device.
    """
    opened: list[OpenDevice] = []
    lost: dict[str, str] = {}
    for name in serve.devices:
        try:
            opened.append(open_device(name, packages[0]))
        except BackendError as error:
            if serve.plans is None or len(lost) + 1 == len(serve.devices):
                raise
            lost[name] = str(error)
            _log.warning("device %s is lost: %s", name, error, extra={"code": "device_lost", "device": name})
    return opened, lost


def open_plans(
    config: Config, packages: Sequence[Package], lost: Mapping[str, str], edges: Sequence[EdgeDevice]
) -> Plans | None:
    """Return the plans, None where there are none.

    Raises:
        ConfigurationError: No plan can run here, a placement is given too, edge servers without plans, one that is
            called as a device, or a model beside the plans needs a lost device.
    """
    serve = config.serve
    if serve.plans is None:
        if edges:
            raise ConfigurationError("plans.edges are for plans: give serve.plans, the folder that names them")
        return None
    if serve.placement:
        raise ConfigurationError("serve.plans and serve.placement both place models: give one of them")
    twice = sorted({edge.name for edge in edges} & set(serve.devices))
    if twice:
        raise ConfigurationError(f"plans.edges and serve.devices both name {twice}: each must have a name of its own")
    by_name = {package.name: package for package in packages}
    plans = Plans(Path(serve.plans), by_name, serve.devices, lost, edges, config.plans)
    beside = [package.name for package in packages if package.name not in plans.models]
    if beside and serve.devices[0] in lost:
        raise ConfigurationError(f"{beside} run on {serve.devices[0]!r}, which is lost: {lost[serve.devices[0]]}")
    return plans
