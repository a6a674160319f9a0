"""The World protocol: what the closed loop needs of a simulator, and what a world tells about an episode.

A world has a clock of its own. `tick` moves it on by `tick_s`; `state` and `obstacles` are what the vehicle's sensors
say now, `frame` what its camera sees now; `apply` sets the control that holds from now on.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shield.guard import Command
from shield.state import Disc, State


class EventKind(StrEnum):
    """What can happen in an episode. A collision, leaving the track and finishing end it; being struck need not."""

    COLLISION = "collision"
    STRUCK = "struck"
    KERB = "kerb"
    OFF_TRACK = "off_track"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at `time_s` of the world's clock."""

    time_s: float
    kind: EventKind
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """An episode in numbers, from the ground truth.

    Args:
        time_s: Time driven [s].
        progress_m: Arc length of the centre line reached [m].
        progress: Its share of the route, 0 to 1.
        collisions: Obstacles hit.
        kerb_hits: Times the body reached the kerb.
        off_track: Whether the centre of gravity left the road.
        min_distance_m: Least distance of centres to an obstacle [m]; None without obstacles.
        min_clearance_m: Least gap between body and obstacle [m]; None without obstacles.
        deviation_m: Distance from the centre line now, positive to the left [m].
        mean_deviation_m: Mean absolute distance from the centre line [m].
        max_deviation_m: Greatest absolute distance from the centre line [m].
        mean_speed_mps: Way driven over time driven [m/s].
        done: Whether the episode is over.
    """

    time_s: float
    progress_m: float
    progress: float
    collisions: int
    kerb_hits: int
    off_track: bool
    min_distance_m: float | None
    min_clearance_m: float | None
    deviation_m: float
    mean_deviation_m: float
    max_deviation_m: float
    mean_speed_mps: float
    done: bool


class World(Protocol):
    """A simulator with one vehicle on a road."""

    @property
    def tick_s(self) -> float:
        """Step of the world's clock [s]."""

    @property
    def time_s(self) -> float:
        """The world's clock [s], 0 at the start of the episode."""

    @property
    def done(self) -> bool:
        """Whether the episode is over: collision, off the track, or the end of the route."""

    def tick(self) -> None:
        """Move the world on by `tick_s`."""

    def state(self) -> State:
        """Return what the vehicle's sensors say of it, wrong by no more than its declared bounds."""

    def obstacles(self) -> tuple[Disc, ...]:
        """Return what the range sensor says, wrong by no more than the vehicle's declared bounds."""

    def frame(self) -> NDArray[np.uint8]:
        """Return what the front camera sees, shape (80, 160, 3), uint8, RGB."""

    def apply(self, control: Command) -> None:
        """Set the control that holds from now on."""

    def events(self) -> tuple[Event, ...]:
        """Return what happened so far, oldest first."""

    def report(self) -> Report:
        """Return the episode so far in numbers."""

    def close(self) -> None:
        """End the episode and free what the world holds; closing twice is harmless."""
