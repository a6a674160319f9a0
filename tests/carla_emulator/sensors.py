"""What the emulator's sensors send: pictures of the built-in world's camera, and rays of a lidar.

A ray of pitch p from height h at ground distance d is h + d tan p high. It meets an upright cylinder where its ground
track does, if that height is the cylinder's; else the ground at d = -h / tan p; beyond the range it meets nothing.
"""

import math
import struct
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from carla_bridge.camera import Camera
from carla_bridge.obstacles import Obstacle
from carla_bridge.route import Route
from carla_bridge.scenery import draw_scenery
from tests.carla_emulator.actors import Actor

Floats = NDArray[np.float64]


def cylinders(actors: Iterable[Actor], but: int) -> tuple[Obstacle, ...]:
    """Return what has a body, but one, in axes with y to the left."""
    found = []
    for actor in actors:
        if actor.radius_m is not None and actor.number != but:
            x, y = actor.place()[:2]
            found.append(Obstacle(x, -y, actor.radius_m, 2.0 * actor.extent[2]))
    return tuple(found)


class Eyes:
    """Renders what cameras and lidars see of one road."""

    def __init__(self, route: Route, half_width_m: float) -> None:
        self._route, self._camera = route, Camera(half_width_m=half_width_m)
        self._scenery = draw_scenery(np.random.default_rng(0), route.length_m)

    def image(self, ego: Actor, drums: tuple[Obstacle, ...], time_s: float, number: int) -> bytes:
        """Return the payload of one picture of the camera."""
        if ego.body is None:
            raise LookupError(ego.number)
        near_m = self._route.locate(ego.body.x_m, ego.body.y_m).s_m
        pose = ego.body.x_m, ego.body.y_m, ego.body.heading_rad
        picture = self._camera.render(self._route, pose, drums, self._scenery, s_m=near_m, time_s=time_s, number=number)
        bgra = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2BGRA), np.uint8)
        return struct.pack("<IIf", picture.shape[1], picture.shape[0], 90.0) + bgra.tobytes()

    def sweep(self, lidar: Actor, ego: Actor, drums: tuple[Obstacle, ...], step_s: float) -> bytes:
        """Return the payload of one turn of a lidar: points x ahead, y to the right, z up of it, and intensity."""
        if ego.body is None:
            raise LookupError(ego.number)
        channels = int(lidar.attribute("channels"))
        turns = lidar.attribute("points_per_second") * step_s / channels
        bearings: Floats = np.arange(int(turns), dtype=np.float64) * (2.0 * math.pi / int(turns))
        pitches: Floats = np.radians(np.linspace(lidar.attribute("upper_fov"), lidar.attribute("lower_fov"), channels))
        (ahead_m, right_m, high_m), reach_m = lidar.transform[0], lidar.attribute("range")
        heading = ego.body.heading_rad
        x = ego.body.x_m + ahead_m * math.cos(heading) + right_m * math.sin(heading)
        y = ego.body.y_m + ahead_m * math.sin(heading) - right_m * math.cos(heading)
        points, counts = turn((x, y, high_m), heading, bearings, pitches, reach_m, drums)
        bright = np.column_stack([points, np.ones(len(points))])
        head = struct.pack("<fI", 0.0, channels) + counts.astype("<u4").tobytes()
        return bytes(head) + bytes(bright.astype("<f4").tobytes())


def turn(
    eye: tuple[float, float, float],
    heading_rad: float,
    bearings: Floats,
    pitches: Floats,
    reach_m: float,
    drums: tuple[Obstacle, ...],
) -> tuple[Floats, NDArray[np.int64]]:
    """Return one turn's hits (n, 3), ahead, to the right and up of the sensor [m], and how many each channel has."""
    distance = ground_distances(eye, heading_rad - bearings, np.tan(pitches), drums)
    channel, ray = np.nonzero(distance / np.cos(pitches)[:, None] <= reach_m)
    along = distance[channel, ray]
    points = [along * np.cos(bearings[ray]), along * np.sin(bearings[ray]), along * np.tan(pitches[channel])]
    return np.column_stack(points), np.bincount(channel, minlength=len(pitches))


def ground_distances(
    eye: tuple[float, float, float], bearings: Floats, slopes: Floats, drums: tuple[Obstacle, ...]
) -> Floats:
    """Return how far along the ground each ray gets, shape (slopes, bearings) [m]; infinite where it meets nothing."""
    with np.errstate(divide="ignore"):
        ground = np.where(slopes < 0.0, -eye[2] / np.minimum(slopes, -1e-9), np.inf)
    nearest = np.repeat(ground[:, None], len(bearings), axis=1)
    cos, sin = np.cos(bearings), np.sin(bearings)
    for drum in drums:
        dx, dy = drum.x_m - eye[0], drum.y_m - eye[1]
        along, aside = dx * cos + dy * sin, dy * cos - dx * sin
        chord = drum.radius_m**2 - aside**2
        entry = np.where((chord > 0.0) & (along > 0.0), along - np.sqrt(np.maximum(chord, 0.0)), np.inf)
        with np.errstate(invalid="ignore"):
            height = eye[2] + slopes[:, None] * entry
            hit = np.isfinite(entry) & (height >= 0.0) & (height <= drum.height_m) & (entry < nearest)
        nearest = np.where(hit, entry, nearest)
    return nearest
