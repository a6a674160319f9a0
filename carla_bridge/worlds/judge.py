"""What happens in an episode, by the truth: contacts and whose they are, the way along the road, the least gap.

A contact is classified by three questions: was our vehicle moving, were all declared bounds held until then, and who
ran into whom. With n the direction from us to the other, v and w the velocities,

    ours = v . n,  theirs = -w . n       (closing speeds; the greater one ran into the other)

A contact while moving ends the episode. One at rest does not: passive safety promises no more than to stand.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from carla_bridge.obstacles import BODY_HALF_WIDTH_M
from carla_bridge.route import Place, Route
from carla_bridge.world import Event, EventKind, Report
from carla_bridge.worlds.bodies import Body, Box, gap_m, least_gap_m

STANDING_MPS = 0.05
"""Up to this a vehicle stands [m/s]; the loop counts it so too."""

_EVEN = 1.25
_FINAL = (EventKind.COLLISION, EventKind.OFF_TRACK, EventKind.FINISHED)


@dataclass(frozen=True, slots=True)
class Collision:
    """One contact, classified.

    Args:
        time_s: When [s].
        other: Name of what was touched.
        speed_mps: Our speed [m/s].
        other_speed_mps: Its speed [m/s].
        by: Who ran into whom: "ego", "other" or "both".
        certified: Whether the vehicle started at rest, or has stood or had a certified control since.
        broken: Declared bounds that were broken until then.
    """

    time_s: float
    other: str
    speed_mps: float
    other_speed_mps: float
    by: str
    certified: bool
    broken: tuple[str, ...]

    @property
    def moving(self) -> bool:
        """Whether our vehicle was moving."""
        return self.speed_mps > STANDING_MPS

    @property
    def bounds_held(self) -> bool:
        """Whether every declared bound was held, and the start was at rest or certified controls came since."""
        return self.certified and not self.broken

    @property
    def cause(self) -> str:
        """The class of the contact in a few words."""
        if not self.moving:
            return f"struck at rest by {self.other}"
        if self.broken:
            return f"moving, bounds broken: {', '.join(self.broken)}"
        return "moving, bounds held" if self.certified else "moving, no certified control in force"


@dataclass(frozen=True, slots=True)
class Thing:
    """Something on the road: its name, body and velocity [m/s]."""

    name: str
    body: Body
    vx_mps: float = 0.0
    vy_mps: float = 0.0

    @property
    def speed_mps(self) -> float:
        """Its speed [m/s]."""
        return math.hypot(self.vx_mps, self.vy_mps)


@dataclass(slots=True)
class Judge:
    """Keeps what happened in one episode.

    Args:
        route: Centre line that progress is measured along.
        half_width_m: Distance from it at which the road ends [m].
        place: Where the vehicle starts.
        broken: Says which declared bounds have been broken so far.
        collisions: Every contact, classified, oldest first.
        certified: Whether the vehicle started at rest, or has stood or had a certified control since.
        standing_s: Time that it has stood [s].
        clearance_moving_m: Least gap to anything while it was moving [m].
        time_s: Time driven [s].
    """

    route: Route
    half_width_m: float
    place: Place
    broken: Callable[[], tuple[str, ...]]
    collisions: list[Collision] = field(default_factory=list)
    certified: bool = True
    standing_s: float = 0.0
    clearance_moving_m: float = math.inf
    time_s: float = 0.0
    _driven_m: float = 0.0
    _ticks: int = 0
    _deviation_sum_m: float = 0.0
    _deviation_max_m: float = 0.0
    _distance_m: float = math.inf
    _clearance_m: float = math.inf
    _kerb_hits: int = 0
    _at_kerb: bool = False
    _before_mps: float = 0.0
    _now_mps: float = 0.0
    _touching: set[str] = field(default_factory=set)
    _events: list[Event] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return any(event.kind in _FINAL for event in self._events)

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened, oldest first."""
        return tuple(self._events)

    def step(self, dt_s: float, box: Box, velocity: tuple[float, float], at: tuple[float, float]) -> None:
        """Move on by `dt_s` [s].

        Args:
            box: Our body.
            velocity: Its velocity, x and y [m/s].
            at: Centre of gravity, x and y [m].
        """
        speed_mps = math.hypot(*velocity)
        self._before_mps, self._now_mps = self._now_mps, speed_mps
        self.time_s += dt_s
        self._ticks += 1
        self._driven_m += speed_mps * dt_s
        self.standing_s += dt_s if speed_mps <= STANDING_MPS else 0.0
        self.place = self.route.locate(*at, self.place.s_m)
        deviation = abs(self.place.offset_m)
        self._deviation_sum_m += deviation
        self._deviation_max_m = max(self._deviation_max_m, deviation)
        at_kerb = deviation > self.half_width_m - BODY_HALF_WIDTH_M
        aside = f"{self.place.offset_m:+.2f} m off the centre line"
        if at_kerb and not self._at_kerb:
            self._kerb_hits += 1
            self._events.append(Event(self.time_s, EventKind.KERB, aside))
        self._at_kerb = at_kerb
        if deviation > self.half_width_m:
            self.end(EventKind.OFF_TRACK, aside)
        if self.place.s_m >= self.route.length_m:
            self.end(EventKind.FINISHED, f"{self.route.length_m:.1f} m driven")

    def look(self, box: Box, velocity: tuple[float, float], things: Sequence[Thing]) -> None:
        """Judge the gaps to what is on the road now."""
        touching, moving = set(), math.hypot(*velocity) > STANDING_MPS
        for thing in things:
            self._distance_m = min(self._distance_m, math.hypot(thing.body.x_m - box.x_m, thing.body.y_m - box.y_m))
            if least_gap_m(box, thing.body) > (self.clearance_moving_m if moving else self._clearance_m):
                continue
            gap = gap_m(box, thing.body)
            self._clearance_m = min(self._clearance_m, gap)
            if moving:
                self.clearance_moving_m = min(self.clearance_moving_m, gap)
            if gap == 0.0:
                touching.add(thing.name)
                if thing.name not in self._touching:
                    self._touched(box, velocity, thing)
        self._touching = touching

    def touched(self, box: Box, velocity: tuple[float, float], thing: Thing) -> None:
        """Note a contact that the simulator itself reports."""
        self._clearance_m = 0.0
        if thing.name not in self._touching:
            self._touching.add(thing.name)
            self._touched(box, velocity, thing)

    def end(self, kind: EventKind, detail: str) -> None:
        """Note something that ends the episode, once."""
        if all(event.kind != kind for event in self._events):
            self._events.append(Event(self.time_s, kind, detail))

    def report(self) -> Report:
        """Return the episode in numbers."""
        progress_m = max(0.0, min(self.route.length_m, self.place.s_m))
        seen = math.isfinite(self._distance_m)
        return Report(
            time_s=self.time_s,
            progress_m=progress_m,
            progress=progress_m / self.route.length_m,
            collisions=len(self.collisions),
            kerb_hits=self._kerb_hits,
            off_track=any(event.kind is EventKind.OFF_TRACK for event in self._events),
            min_distance_m=self._distance_m if seen else None,
            min_clearance_m=self._clearance_m if seen else None,
            deviation_m=self.place.offset_m,
            mean_deviation_m=self._deviation_sum_m / max(1, self._ticks),
            max_deviation_m=self._deviation_max_m,
            mean_speed_mps=self._driven_m / self.time_s if self._ticks else 0.0,
            done=self.done,
        )

    def _touched(self, box: Box, velocity: tuple[float, float], thing: Thing) -> None:
        # What stands strikes nobody: where it has stopped us, we came to it with the speed of the step before.
        stood, speed_mps = thing.speed_mps <= STANDING_MPS, math.hypot(*velocity)
        found = Collision(
            self.time_s,
            thing.name,
            max(speed_mps, self._before_mps, self._now_mps) if stood else speed_mps,
            thing.speed_mps,
            "ego" if stood else _who(box, velocity, thing),
            self.certified,
            self.broken(),
        )
        self.collisions.append(found)
        detail = f"{found.cause}; {found.speed_mps:.2f} and {found.other_speed_mps:.2f} m/s, by {found.by}"
        self._events.append(Event(self.time_s, EventKind.COLLISION if found.moving else EventKind.STRUCK, detail))


def _who(box: Box, velocity: tuple[float, float], thing: Thing) -> str:
    dx, dy = thing.body.x_m - box.x_m, thing.body.y_m - box.y_m
    away = max(math.hypot(dx, dy), 1e-9)
    ours = (velocity[0] * dx + velocity[1] * dy) / away
    theirs = -(thing.vx_mps * dx + thing.vy_mps * dy) / away
    if ours > _EVEN * max(theirs, 0.0):
        return "ego"
    return "other" if theirs > _EVEN * max(ours, 0.0) else "both"
