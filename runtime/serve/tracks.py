"""Memory of the obstacles that perception has told of: points in the odometry frame.

An answer tells of the nearest obstacle only, and of none that has left the view; what was seen stays where it was until
it is passed or until answers that should show it keep missing it. Sightings of one obstacle are averaged with the
weight 1 / sigma^2, sigma = SIGMA_M + SIGMA_SHARE * range: the nearer, the surer.
"""

import math
from dataclasses import dataclass

from shield.state import State, wrap_angle

SIGMA_M = 0.15
SIGMA_SHARE = 0.04
WEIGHT_MAX = 60.0
SAME_M = 3.0
SAME_SHARE = 0.15
CONFIRMED = 2
VIEW_RAD = 0.6
VIEW_NEAR_M = 6.0
VIEW_FAR_M = 30.0


@dataclass(slots=True)
class Track:
    """One obstacle remembered: where, how sure, how often seen and missed, and the side to pass it (+1: left)."""

    x_m: float
    y_m: float
    weight: float
    hits: int = 1
    misses: int = 0
    side: int = 0

    @property
    def confirmed(self) -> bool:
        """Whether it was seen often enough to be believed."""
        return self.hits >= CONFIRMED


class ObstacleMemory:
    """Tracks of obstacles."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []

    def take_in(self, pose: State, presence: float, bearing_rad: float, range_m: float) -> None:
        """Take in what an answer about the frame at `pose` says of the nearest obstacle."""
        seen: Track | None = None
        if presence >= 0.5:
            seen = self._sight(pose, bearing_rad, range_m)
        for track in self.tracks:
            if track is not seen and self._should_show(pose, track, range_m if seen else math.inf):
                track.misses += 1
        self.tracks = [track for track in self.tracks if track.misses < CONFIRMED + 1 + min(track.hits, 6)]

    def forget(self, passed: list[Track]) -> None:
        """Drop tracks that lie behind."""
        self.tracks = [track for track in self.tracks if track not in passed]

    def _sight(self, pose: State, bearing_rad: float, range_m: float) -> Track:
        angle = pose.heading_rad + bearing_rad
        x_m, y_m = pose.x_m + range_m * math.cos(angle), pose.y_m + range_m * math.sin(angle)
        weight = 1.0 / (SIGMA_M + SIGMA_SHARE * range_m) ** 2
        track = min(self.tracks, key=lambda one: math.hypot(one.x_m - x_m, one.y_m - y_m), default=None)
        if track is None or math.hypot(track.x_m - x_m, track.y_m - y_m) > SAME_M + SAME_SHARE * range_m:
            track = Track(x_m, y_m, weight)
            self.tracks.append(track)
            return track
        share = weight / (track.weight + weight)
        track.x_m += share * (x_m - track.x_m)
        track.y_m += share * (y_m - track.y_m)
        track.weight = min(WEIGHT_MAX, track.weight + weight)
        track.hits += 1
        track.misses = 0
        return track

    @staticmethod
    def _should_show(pose: State, track: Track, nearest_m: float) -> bool:
        """Return whether an answer whose nearest obstacle is `nearest_m` [m] off contradicts the track."""
        dx, dy = track.x_m - pose.x_m, track.y_m - pose.y_m
        range_m = math.hypot(dx, dy)
        bearing = wrap_angle(math.atan2(dy, dx) - pose.heading_rad)
        in_view = VIEW_NEAR_M < range_m < VIEW_FAR_M and abs(bearing) < VIEW_RAD
        return in_view and range_m < nearest_m - SAME_M
