"""Loading the models of plans: the last few plans stay loaded; what was in force a moment ago is again at once."""

import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from devices.errors import DeviceError
from devices.package import Package
from runtime.execute.model import ServedModel
from runtime.plan.plan import Plan
from runtime.serve.plans.folder import placed, used_by

_log = logging.getLogger("headway.plans")


class Runner(Protocol):
    """What plans need of the executor."""

    def prepare(
        self, package: Package, *, placement: Mapping[str, str], spare: str | None, last_exit: str | None
    ) -> ServedModel:
        """Load a model and warm it up."""
        ...

    def serve(self, model: ServedModel) -> None:
        """Serve a model that is loaded."""
        ...

    @property
    def lost(self) -> dict[str, str]:
        """Devices that do nothing for anybody any more, and why."""
        ...

    @property
    def reserve_s(self) -> float:
        """Time that is kept before each deadline for the reply [s]."""
        ...


class Loading:
    """The plans that are loaded.

    Args:
        packages: By name.
        devices: Names of the devices of this board.
        kept: How many plans stay loaded.
    """

    def __init__(self, packages: Mapping[str, Package], devices: Sequence[str], kept: int) -> None:
        self._packages, self._devices, self._kept = packages, list(devices), kept
        self._loaded: OrderedDict[str, list[ServedModel]] = OrderedDict()
        self._ready: tuple[ServedModel, ...] = ()  # of all of them, the plan used last coming last; for other threads

    def load(self, runner: Runner, name: str, plan: Plan, lost: Collection[str]) -> list[ServedModel]:
        """Return a plan's models, loaded; the plans used longest ago go.

        Raises:
            DeviceError: A device or edge server refuses one.
        """
        if name not in self._loaded:
            spare = self._spare(plan, lost)
            self._loaded[name] = [
                runner.prepare(
                    self._packages[model],
                    placement=placed(plan, self._packages[model], spare),
                    spare=spare,
                    last_exit=plan.last_exit.get(model),
                )
                for model in plan.placement
            ]
        self._loaded.move_to_end(name)
        while len(self._loaded) > self._kept:
            self._loaded.popitem(last=False)
        self._ready = tuple(model for models in self._loaded.values() for model in models)
        return self._loaded[name]

    def without(self, model: str, devices: Collection[str]) -> ServedModel | None:
        """Return a model that is loaded and runs on none of `devices`, of the plan used last; from any thread."""
        return next(
            (each for each in reversed(self._ready) if each.package.name == model and not {*each.devices} & {*devices}),
            None,
        )

    def load_beside(
        self, runner: Runner, name: str, plans: Mapping[str, Plan], away: Collection[str], lost: Collection[str]
    ) -> None:
        """Load what stands in for the plan that is called `name`, where that is not loaded yet and there is room.

        The cheapest plan without edge servers (`away`) where it uses some; otherwise, for one device of it after the
        other, the cheapest one without that.
        """
        used, unusable = used_by(plans[name]), {*away, *lost}
        for missing in [used & {*away}] if used & {*away} else [{device} for device in sorted(used)]:
            here = [other for other, plan in plans.items() if not used_by(plan) & (unusable | missing)]
            if len(self._loaded) >= self._kept or not here or any(other in here for other in self._loaded):
                continue
            cheapest = min(here, key=lambda other: plans[other].energy_mj)
            try:
                self.load(runner, cheapest, plans[cheapest], lost)
            except DeviceError as error:
                _log.warning(
                    "%s could not be loaded beside: %s", cheapest, error, extra={"code": "plan_beside_unloaded"}
                )
            self._loaded.move_to_end(name)

    def _spare(self, plan: Plan, lost: Collection[str]) -> str:
        """Return the device here that takes over from edge servers: the plan's own, where it has one."""
        usable = [name for name in self._devices if name not in lost] or self._devices
        counts = dict.fromkeys(usable, 0)
        for device in (device for each in plan.placement.values() for device in each.values()):
            if device in counts:
                counts[device] += 1
        return max(usable, key=counts.__getitem__)
