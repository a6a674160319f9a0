"""The kinds of obstacles that a scenario file can name, and what each makes of its numbers.

Every kind is a table of ranges (`[[obstacle]]` with a `kind`); a seed draws a number from each and the kind turns them
into courses. Places are along the road from its start (`s_m`) and across it (`offset_m`, positive to the left); `gap_m`
is how far ahead of the vehicle the obstacle is when it acts.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from carla_bridge.errors import ScenarioError
from carla_bridge.obstacles import Obstacle
from carla_bridge.scene.table import Range, Table
from carla_bridge.scene.traffic import Course, Leg

Numbers = Mapping[str, float]

_MOST = 50


@dataclass(frozen=True, slots=True)
class Key:
    """A number of a kind.

    Args:
        about: What it is, with its unit.
        default: Where it comes from when left out; None: it must be written.
        least: Smallest value.
        positive: Whether it must be above 0.
    """

    about: str
    default: Range | None = None
    least: float = -math.inf
    positive: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of obstacle: what it is, its numbers, and the courses they make."""

    about: str
    keys: Mapping[str, Key]
    courses: Callable[[Numbers], list[Course]]
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """One `[[obstacle]]` of a file: its kind with the ranges to draw from.

    Args:
        kind: Name of the kind.
        ranges: A range for each of its keys.
        count: How many, for the kinds that stand in numbers.
        declared_mps: Top speed that the vehicle is told [m/s]; None: the true one.
    """

    kind: str
    ranges: Mapping[str, Range]
    count: int = 1
    declared_mps: float | None = None

    def draw(self, rng: np.random.Generator) -> list[Course]:
        """Return the courses of one seed."""
        numbers = {key: bounds.draw(rng) for key, bounds in self.ranges.items()}
        courses = KINDS[self.kind].courses({**numbers, "count": self.count})
        tints = rng.random(len(courses))
        return [
            replace(
                course,
                shape=replace(course.shape, tint=float(tint)),
                declared_mps=self.declared_mps if course.legs else None,
            )
            for course, tint in zip(courses, tints, strict=True)
        ]

    @property
    def top_mps(self) -> float:
        """The highest top speed that any seed can draw and the vehicle is told [m/s]."""
        highest = {key: bounds.high for key, bounds in self.ranges.items()}
        tops = [course.top_mps for course in KINDS[self.kind].courses({**highest, "count": self.count})]
        top = max(tops, default=0.0)
        return max(top, self.declared_mps or 0.0)


def read_placed(values: object, where: str) -> Placed:
    """Read one `[[obstacle]]`.

    Raises:
        ScenarioError: no such kind, a key missing or unknown, or an impossible value.
    """
    if not isinstance(values, dict):
        raise ScenarioError(f"{where} = {values!r}: must be a table, [[obstacle]]")
    name = values.get("kind")
    if name not in KINDS:
        raise ScenarioError(f"{where}.kind = {name!r}: must be one of {', '.join(KINDS)}")
    kind = KINDS[name]
    extra = ["count"] if kind.counted else ["declared_top_speed_mps"]
    table = Table(values, f"{where}.", ["kind", *extra, *kind.keys])
    ranges = {
        key: table.range(key, item.default, least=item.least, positive=item.positive) for key, item in kind.keys.items()
    }
    count = table.whole("count", 4, least=1) if kind.counted else 1
    if count > _MOST:
        raise ScenarioError(f"{where}.count = {count}: must be at most {_MOST}")
    declared = None if kind.counted else table.optional("declared_top_speed_mps")
    return Placed(str(name), ranges, count, declared)


def _at(value: float) -> Range:
    return Range(value, value)


def _shape(numbers: Numbers) -> Obstacle:
    return Obstacle(0.0, 0.0, numbers["radius_m"], numbers["height_m"])


def _course(numbers: Numbers, *legs: Leg, s_m: float | None = None, offset_m: float | None = None) -> Course:
    where = numbers["s_m"] if s_m is None else s_m
    return Course(_shape(numbers), where, numbers["offset_m"] if offset_m is None else offset_m, legs)


def _standing(numbers: Numbers) -> list[Course]:
    return [_course(numbers)]


def _row(numbers: Numbers) -> list[Course]:
    places = (numbers["s_m"] + number * numbers["spacing_m"] for number in range(int(numbers["count"])))
    return [_course(numbers, s_m=place) for place in places]


def _gap(numbers: Numbers) -> list[Course]:
    aside = 0.5 * numbers["width_m"] + numbers["radius_m"]
    return [_course(numbers, offset_m=numbers["offset_m"] + side * aside) for side in (1.0, -1.0)]


def _slalom(numbers: Numbers) -> list[Course]:
    count, spacing = int(numbers["count"]), numbers["spacing_m"]
    return [
        _course(numbers, s_m=numbers["s_m"] + i * spacing, offset_m=numbers["offset_m"] * (-1.0) ** i)
        for i in range(count)
    ]


def _lead(numbers: Numbers) -> list[Course]:
    drives = Leg(numbers["speed_mps"], numbers["accel_mps2"], numbers["offset_m"], 0.0)
    stops = replace(drives, speed_mps=0.0, accel_mps2=numbers["braking_mps2"], after_s=numbers["after_s"])
    goes_on = replace(drives, after_s=numbers["rest_s"])
    return [_course(numbers, drives, stops, goes_on)]


def _cut_in(numbers: Numbers) -> list[Course]:
    beside = Leg(numbers["speed_mps"], 3.0, numbers["offset_m"], 0.0)
    into = replace(beside, offset_m=numbers["into_m"], lateral_mps=numbers["lateral_mps"], gap_m=numbers["gap_m"])
    return [_course(numbers, beside, into)]


def _overtaking(numbers: Numbers) -> list[Course]:
    beside = Leg(numbers["speed_mps"], 3.0, numbers["offset_m"], 0.0)
    into = replace(
        beside, offset_m=numbers["into_m"], lateral_mps=numbers["lateral_mps"], gap_m=numbers["gap_m"], rising=True
    )
    return [_course(numbers, beside, into)]


def _crossing(numbers: Numbers) -> list[Course]:
    return [_course(numbers, Leg(0.0, 1.0, numbers["to_m"], numbers["speed_mps"], gap_m=numbers["gap_m"]))]


def _pulling_out(numbers: Numbers) -> list[Course]:
    out = Leg(
        numbers["speed_mps"], numbers["accel_mps2"], numbers["into_m"], numbers["lateral_mps"], gap_m=numbers["gap_m"]
    )
    return [_course(numbers, out)]


def _oncoming(numbers: Numbers) -> list[Course]:
    along = Leg(-numbers["speed_mps"], 3.0, numbers["offset_m"], 0.0)
    drifts = replace(along, offset_m=numbers["into_m"], lateral_mps=numbers["lateral_mps"], gap_m=numbers["gap_m"])
    return [_course(numbers, along, drifts)]


_S = {"s_m": Key("along the road from its start [m]")}
_OFFSET = {"offset_m": Key("across the road, positive to the left [m]", _at(0.0))}
_DRUM = {
    "radius_m": Key("radius [m]", _at(1.2), positive=True),
    "height_m": Key("height, for the camera alone [m]", _at(1.9), positive=True),
}
_CAR = {
    "radius_m": Key("radius of the disc that holds it [m]", _at(2.0), positive=True),
    "height_m": Key("height, for the camera alone [m]", _at(1.5), positive=True),
}
_WALKER = {
    "radius_m": Key("radius [m]", _at(0.4), positive=True),
    "height_m": Key("height, for the camera alone [m]", _at(1.8), positive=True),
}
_SPEED = {"speed_mps": Key("speed [m/s]", positive=True)}
_SPACING = {"spacing_m": Key("from one to the next [m]", positive=True)}
_ACCEL = {"accel_mps2": Key("how fast it gets to its speed [m/s^2]", _at(2.0), positive=True)}
_TURN = {
    "into_m": Key("where across the road it goes [m]", _at(0.0)),
    "lateral_mps": Key("how fast it goes there [m/s]", _at(1.5), positive=True),
    "gap_m": Key("how far ahead of the vehicle it is when it does [m]"),
}

KINDS: dict[str, Kind] = {
    "standing": Kind("a drum that stands", {**_S, **_OFFSET, **_DRUM}, _standing),
    "parked_row": Kind("parked cars in a row", {**_S, **_OFFSET, **_SPACING, **_CAR}, _row, counted=True),
    "narrow_gap": Kind(
        "two drums with a gap between them",
        {**_S, **_OFFSET, "width_m": Key("free width between them [m]", positive=True), **_DRUM},
        _gap,
    ),
    "slalom": Kind("drums left and right in turn", {**_S, **_OFFSET, **_SPACING, **_DRUM}, _slalom, counted=True),
    "braking_lead": Kind(
        "a car ahead that brakes to rest and goes on",
        {
            **_S,
            **_OFFSET,
            **_SPEED,
            **_ACCEL,
            "braking_mps2": Key("how hard it brakes [m/s^2]", _at(6.0), positive=True),
            "after_s": Key("when it brakes [s]", least=0.0),
            "rest_s": Key("from braking until it goes on [s]", _at(5.0), least=0.0),
            **_CAR,
        },
        _lead,
    ),
    "cut_in": Kind("a car in the next lane that moves in ahead", {**_S, **_OFFSET, **_SPEED, **_TURN, **_CAR}, _cut_in),
    "overtaking": Kind(
        "a car from behind that passes and moves in", {**_S, **_OFFSET, **_SPEED, **_TURN, **_CAR}, _overtaking
    ),
    "crossing": Kind(
        "a pedestrian who walks across",
        {
            **_S,
            **_OFFSET,
            **_SPEED,
            "to_m": Key("where across the road the walk ends [m]"),
            "gap_m": Key("how far ahead of the vehicle it begins [m]"),
            **_WALKER,
        },
        _crossing,
    ),
    "pulling_out": Kind(
        "a parked car that pulls out", {**_S, **_OFFSET, **_SPEED, **_ACCEL, **_TURN, **_CAR}, _pulling_out
    ),
    "oncoming": Kind(
        "a car that comes towards the vehicle and drifts over", {**_S, **_OFFSET, **_SPEED, **_TURN, **_CAR}, _oncoming
    ),
}
"""Every kind by its name in files."""
