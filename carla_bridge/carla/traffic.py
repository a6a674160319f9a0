"""What other people's actors do: vehicles, walkers and props that this run did not spawn, as moving discs.

Their places come with every tick's snapshot; only of an actor not seen before is the server asked. A disc moves in any
direction at up to the declared top speed of its kind, or at the speed it has, if that is greater.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from shield.state import Disc


@dataclass(frozen=True, slots=True)
class TopSpeeds:
    """Declared top speeds of other people's vehicles and walkers [m/s]."""

    vehicle_mps: float = 14.0
    walker_mps: float = 3.0


@dataclass(frozen=True, slots=True)
class _Body:
    radius_m: float
    speed_max_mps: float


class Traffic:
    """Follows the actors that are not ours.

    Args:
        world: The carla.World.
        speeds: Declared top speeds.
    """

    def __init__(self, world: Any, speeds: TopSpeeds) -> None:
        self._world, self._speeds = world, speeds
        self._known: dict[int, _Body | None] = {}

    def look(self, ours: Collection[int]) -> tuple[Disc, ...]:
        """Return the discs of all that has a body and is not `ours`, as of the last tick; y to the left."""
        there = {actor.id: actor for actor in self._world.get_snapshot() if actor.id not in ours}
        new = [number for number in there if number not in self._known]
        if new:
            self._known.update(dict.fromkeys(new))
            self._known.update((actor.id, self._body(actor)) for actor in self._world.get_actors(new))
        bodies = ((there[number], self._known[number]) for number in sorted(there))
        return tuple(_disc(actor, body) for actor, body in bodies if body is not None)

    def _body(self, actor: Any) -> _Body | None:
        kind = str(actor.type_id)
        speeds = {"vehicle.": self._speeds.vehicle_mps, "walker.": self._speeds.walker_mps, "static.prop.": 0.0}
        for start, speed_mps in speeds.items():
            if kind.startswith(start):
                box = actor.bounding_box
                aside_m = math.hypot(box.location.x, box.location.y)
                return _Body(math.hypot(box.extent.x, box.extent.y) + aside_m, speed_mps)
        return None


def _disc(actor: Any, body: _Body) -> Disc:
    place, velocity = actor.get_transform().location, actor.get_velocity()
    speed_mps = max(body.speed_max_mps, math.hypot(velocity.x, velocity.y))
    return Disc(place.x, -place.y, body.radius_m, speed_mps)
