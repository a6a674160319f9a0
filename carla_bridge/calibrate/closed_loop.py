"""Drives of the closed loop to calibrate by: the shipped driver, and what the shield makes of its commands.

Every second driver is blind to obstacles, so that the shield alone keeps it off them: its filter and the emergency
manoeuvres of its backup are then a good part of what is commanded.
"""

from typing import Protocol

from carla_bridge.calibrate.programme import CalibratedWorld, sample_of
from carla_bridge.calibrate.samples import Sample
from carla_bridge.virtual import PASS_M, FixedAge, Loop, VirtualWorld
from shield.deadline import Method
from shield.guard import Command

SEEDS_FROM = 10_000
"""Seeds of these drives start here, so that episodes with small seeds are ones that nothing was calibrated by."""

LIMIT_S = 20.0
_ANSWER_AGE_WINDOWS = 5


class LoopWorld(VirtualWorld, CalibratedWorld, Protocol):
    """A world that the loop drives and whose true motion can be asked for."""


class _Sampled(Loop):
    """The loop, which keeps a sample of every tick."""

    def __init__(self, world: LoopWorld, pass_m: float) -> None:
        super().__init__(world, FixedAge(_ANSWER_AGE_WINDOWS), True, Method.BACKUP, pass_m)
        self._seen = world
        self._last: Command | None = None
        self.samples: list[Sample] = []

    def _control(self) -> Command:
        if self._last is not None:
            self.samples.append(sample_of(self._seen, 0, self._last))
        self._last = super()._control()
        return self._last


def drive_closed_loop(world: LoopWorld, blind: bool, limit_s: float = LIMIT_S) -> list[Sample]:
    """Drive one episode with the shield on and return a sample of every tick but the last.

    Args:
        world: At its start.
        blind: Whether the driver does not look at obstacles.
        limit_s: Longest time driven [s].
    """
    loop = _Sampled(world, 0.0 if blind else PASS_M)
    loop.run(limit_s)
    return loop.samples
