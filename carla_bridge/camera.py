"""The front camera: 160 x 80 RGB, a pinhole over a flat ground, drawn with OpenCV.

A ground point f metres ahead and l metres left of the camera, which stands h above the ground and looks down by p:

    depth = f cos p + h sin p        u = cx - fx l / depth        v = cy + fx (h cos p - f sin p) / depth

Lane marks, edge lines, kerbs and shadows follow the centre line of the route; obstacles are upright drums drawn as the
convex hull of their two rims. A frame is a pure function of its arguments: the same arguments give the same bytes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from carla_bridge.obstacles import Obstacle
from carla_bridge.route import Floats, Route
from carla_bridge.scenery import HEIGHT_PX, WIDTH_PX, Colour, Scenery, noise_frame

Frame = NDArray[np.uint8]

_SHIFT = 4
_NEAR_M = 0.25
_ALONG_M = np.concatenate([np.arange(-14.0, 24.0, 2.0), np.geomspace(24.0, 130.0, 18)])
_RIM = np.linspace(0.0, 2.0 * math.pi, 14, endpoint=False)
_RIM_XY = np.column_stack([np.cos(_RIM), np.sin(_RIM)])
_LEVELS = np.array([0.0, 0.45, 0.7, 1.0])[:, None]  # of a drum's height: foot, bright band, top
_EDGE_LINE_M = (0.25, 0.5)
_KERB_M = 0.5
_MARK_WIDTH_M = 0.2
_DASH_REACH_M = 70.0


@dataclass(frozen=True, slots=True)
class CameraMount:
    """Where the camera sits and how it sees.

    Args:
        forward_m: Ahead of the centre of gravity [m].
        height_m: Above the ground [m].
        pitch_rad: Downward tilt [rad].
        focal_px: Focal length [px]; 80 px over 160 px width open 90 degrees.
    """

    forward_m: float = 0.6
    height_m: float = 1.5
    pitch_rad: float = 0.08
    focal_px: float = 80.0

    @property
    def half_view_rad(self) -> float:
        """Half the horizontal opening angle [rad]."""
        return math.atan(0.5 * WIDTH_PX / self.focal_px)


@dataclass(frozen=True, slots=True)
class _View:
    """A camera at one pose: turns ground points into pixels."""

    mount: CameraMount
    x_m: float
    y_m: float
    heading_rad: float
    pitch_rad: float

    def to_camera(self, points_m: Floats) -> Floats:
        """Return (ahead, left) of the camera for points (..., 2) of the world."""
        cos, sin = math.cos(self.heading_rad), math.sin(self.heading_rad)
        rotation = np.array([[cos, -sin], [sin, cos]])
        return np.asarray((points_m - (self.x_m, self.y_m)) @ rotation)

    def project(self, ground: Floats, height_m: Floats | float = 0.0) -> NDArray[np.int32]:
        """Return fixed-point pixels (..., 2) of points (ahead, left) standing `height_m` above the ground."""
        cos, sin = math.cos(self.pitch_rad), math.sin(self.pitch_rad)
        below, focal = self.mount.height_m - height_m, self.mount.focal_px
        depth = np.maximum(ground[..., 0] * cos + below * sin, 0.05)
        pixels = np.empty(ground.shape)
        pixels[..., 0] = 0.5 * WIDTH_PX - 0.5 - focal * ground[..., 1] / depth
        pixels[..., 1] = 0.5 * HEIGHT_PX - 0.5 + focal * (below * cos - ground[..., 0] * sin) / depth
        np.maximum(pixels, -2e4, out=pixels)
        np.minimum(pixels, 2e4, out=pixels)
        pixels *= 1 << _SHIFT
        return np.rint(pixels, out=pixels).astype(np.int32)


class Camera:
    """Draws what the front camera sees of a road `half_width_m` [m] wide on each side of its centre line."""

    def __init__(self, mount: CameraMount | None = None, half_width_m: float = 10.0) -> None:
        self.mount = mount or CameraMount()
        self.half_width_m = half_width_m

    def render(
        self,
        route: Route,
        pose: tuple[float, float, float],
        obstacles: Sequence[Obstacle],
        scenery: Scenery,
        *,
        s_m: float,
        time_s: float,
        number: int,
    ) -> Frame:
        """Return the frame, shape (80, 160, 3), uint8, RGB.

        Args:
            route: Centre line.
            pose: Centre of gravity x, y [m] and heading [rad].
            obstacles: Drums standing anywhere.
            scenery: Colours and light.
            s_m: Arc length of the route beside the vehicle [m].
            time_s: Time of the frame [s]: light and shake move with it.
            number: Number of the frame: picks its noise.
        """
        view = self._view(pose, scenery.pitch_rad(time_s))
        image = self._background(view, scenery)
        self._draw_road(image, view, route, s_m, scenery)
        gain = scenery.gain_at(time_s)
        image = self._shade(image, view, route, s_m, scenery, gain)
        fog = _Fog.of(scenery, gain)
        if fog is not None:
            image = fog.over_ground(image, view)
        self._draw_obstacles(image, view, obstacles, gain, fog)
        share = scenery.noise / 32.0
        grain = noise_frame(scenery.seed, number)
        return np.asarray(cv2.addWeighted(image, 1.0, grain, share, -128.0 * share), np.uint8)

    def _view(self, pose: tuple[float, float, float], shake_rad: float) -> _View:
        x_m, y_m, heading = pose
        ahead = self.mount.forward_m
        return _View(
            self.mount,
            x_m + ahead * math.cos(heading),
            y_m + ahead * math.sin(heading),
            heading,
            self.mount.pitch_rad + shake_rad,
        )

    def _background(self, view: _View, scenery: Scenery) -> Frame:
        horizon = 0.5 * HEIGHT_PX - self.mount.focal_px * math.tan(view.pitch_rad)
        rows = np.arange(HEIGHT_PX, dtype=np.float32)[:, None]
        climb = np.clip((horizon - rows) / HEIGHT_PX, 0.0, 1.0)
        top, low, verge = (np.array(c, np.float32) for c in (scenery.sky_top, scenery.sky_low, scenery.verge))
        sky = low + (top - low) * np.minimum(1.0, 2.0 * climb)
        cover = np.clip(rows - horizon + 0.5, 0.0, 1.0)
        column = np.clip(sky + (verge - sky) * cover, 0.0, 255.0).astype(np.uint8)
        return np.asarray(cv2.repeat(column[:, None, :], 1, WIDTH_PX), np.uint8)

    def _draw_road(self, image: Frame, view: _View, route: Route, s_m: float, scenery: Scenery) -> None:
        half = self.half_width_m
        outer, inner = half - _EDGE_LINE_M[0], half - _EDGE_LINE_M[1]
        across = np.array([half + _KERB_M, half, outer, inner, -inner, -outer, -half, -half - _KERB_M])
        points, tangents = route.frames_at(s_m + _ALONG_M)
        normals = np.column_stack([-tangents[:, 1], tangents[:, 0]])
        lines = view.to_camera(points[None] + across[:, None, None] * normals[None])
        pixels = view.project(_clip_near(lines))
        for first, last, colour in (
            (0, 7, scenery.kerb),
            (1, 6, scenery.road),
            (2, 3, scenery.mark),
            (4, 5, scenery.mark),
        ):
            _fill(image, [np.concatenate([pixels[first], pixels[last][::-1]])], colour)
        dashes = self._dashes(view, route, s_m, scenery)
        if len(dashes):
            _fill(image, list(dashes), scenery.mark)

    def _dashes(self, view: _View, route: Route, s_m: float, scenery: Scenery) -> NDArray[np.int32]:
        pitch = scenery.dash_m + scenery.gap_m
        first = math.floor((s_m - 6.0 - scenery.phase_m) / pitch)
        start = scenery.phase_m + pitch * np.arange(first, first + int(_DASH_REACH_M / pitch) + 1)
        across = np.array(scenery.lane_marks_m)
        half = 0.5 * _MARK_WIDTH_M
        return self._quads(
            view,
            route,
            np.repeat(start, len(across)),
            np.repeat(start + scenery.dash_m, len(across)),
            np.tile(across - half, len(start)),
            np.tile(across + half, len(start)),
        )

    def _quads(
        self, view: _View, route: Route, start: Floats, end: Floats, right: Floats, left: Floats
    ) -> NDArray[np.int32]:
        """Return the pixels (n, 4, 2) of the road's rectangles, cut off at the near plane."""
        along = np.stack([start, start, end, end], axis=1)
        across = np.stack([right, left, left, right], axis=1)
        points, tangents = route.frames_at(along.ravel())
        normals = np.column_stack([-tangents[:, 1], tangents[:, 0]])
        ground = view.to_camera(points + across.ravel()[:, None] * normals).reshape(-1, 4, 2)
        for first, last in ((0, 3), (1, 2)):
            near, far = ground[:, first], ground[:, last]
            cut = (near[:, 0] < _NEAR_M) & (far[:, 0] > _NEAR_M)
            share = (_NEAR_M - near[cut, 0]) / (far[cut, 0] - near[cut, 0])
            near[cut] += share[:, None] * (far[cut] - near[cut])
        return view.project(ground[np.all(ground[..., 0] >= _NEAR_M - 1e-9, axis=1)])

    def _shade(self, image: Frame, view: _View, route: Route, s_m: float, scenery: Scenery, gain: Floats) -> Frame:
        even = np.minimum(gain * 160.0, 255.0).astype(np.uint8)
        shade = np.asarray(cv2.repeat(even[None, None, :], HEIGHT_PX, WIDTH_PX), np.uint8)
        near = scenery.shadows[(scenery.shadows[:, 1] > s_m) & (scenery.shadows[:, 0] < s_m + 60.0)]
        if len(near):
            dark = tuple(float(c) for c in gain * 160.0 * (1.0 - scenery.shadow_depth))
            quads = self._quads(view, route, near[:, 0], near[:, 1], near[:, 2], near[:, 3])
            for quad in quads:
                cv2.fillConvexPoly(shade, quad, dark, cv2.LINE_8, _SHIFT)
        return np.asarray(cv2.multiply(image, shade, scale=1.0 / 160.0), np.uint8)

    def _draw_obstacles(
        self, image: Frame, view: _View, obstacles: Sequence[Obstacle], gain: Floats, fog: "_Fog | None"
    ) -> None:
        if not obstacles:
            return
        places = view.to_camera(np.array([(drum.x_m, drum.y_m) for drum in obstacles]))
        far_to_near = (int(index) for index in np.argsort(-places[:, 0]))
        seen = [index for index in far_to_near if obstacles[index].radius_m + _NEAR_M < places[index, 0] < 120.0]
        if not seen:
            return
        drums = [obstacles[index] for index in seen]
        for drum, place, outline in zip(drums, places[seen], _outlines(view, drums, places[seen]), strict=True):
            before = None if fog is None else image.copy()
            _draw_drum(image, drum, outline, gain, with_top=drum.height_m < self.mount.height_m)
            if fog is not None and before is not None:
                fog.over_drawn(image, before, float(np.hypot(*place)))


@dataclass(frozen=True, slots=True)
class _Fog:
    """Fog of one colour: what is d metres away keeps exp(-3 d / visibility) of its contrast."""

    visibility_m: float
    colour: Floats

    @classmethod
    def of(cls, scenery: Scenery, gain: Floats) -> "_Fog | None":
        """Return the fog of a scenery, None when the air is clear."""
        if math.isinf(scenery.visibility_m):
            return None
        return cls(scenery.visibility_m, np.clip(np.array(scenery.sky_low) * gain, 0.0, 255.0))

    def over_ground(self, image: Frame, view: _View) -> Frame:
        """Return the picture of ground and sky in fog; the ground of a row is as far as its middle."""
        cos, sin = math.cos(view.pitch_rad), math.sin(view.pitch_rad)
        slope = (np.arange(HEIGHT_PX) - 0.5 * HEIGHT_PX + 0.5) / view.mount.focal_px
        down = np.maximum(slope * cos + sin, 1e-9)
        left = np.exp(-3.0 * view.mount.height_m * (cos - slope * sin) / down / self.visibility_m)
        return self._mix(image, left[:, None, None])

    def over_drawn(self, image: Frame, before: Frame, distance_m: float) -> None:
        """Put what was drawn since `before` into the fog of its distance [m]."""
        drawn = np.any(image != before, axis=2)
        image[drawn] = self._mix(image[drawn], math.exp(-3.0 * distance_m / self.visibility_m))

    def _mix(self, pixels: Frame, left: Floats | float) -> Frame:
        return np.rint(pixels * left + self.colour * (1.0 - np.asarray(left))).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Outline:
    """Pixels of a drum's contact shadow, of its rim at foot and top, and of the front of its bright band."""

    shadow: NDArray[np.int32]
    base: NDArray[np.int32]
    band: NDArray[np.int32]
    top: NDArray[np.int32]


def _outlines(view: _View, drums: Sequence[Obstacle], places: Floats) -> Iterator[_Outline]:
    """Yield the outlines of drums at `places` (n, 2), (ahead, left): all are projected at once, which costs as one."""
    radius_m = np.array([drum.radius_m for drum in drums])[:, None, None]
    height_m = np.array([drum.height_m for drum in drums])[:, None, None]
    rims = places[:, None, :] + radius_m * _RIM_XY
    shadows = view.project(places[:, None, :] + 1.25 * radius_m * _RIM_XY)
    levels = view.project(np.repeat(rims[:, None], len(_LEVELS), axis=1), height_m * _LEVELS)
    fronts = rims[..., 0] <= places[:, :1]
    for shadow, (base, low, high, top), front in zip(shadows, levels, fronts, strict=True):
        yield _Outline(shadow, base, np.concatenate([low[front], high[front]]), top)


def _draw_drum(image: Frame, drum: Obstacle, outline: _Outline, gain: Floats, with_top: bool) -> None:
    """Draw contact shadow, body, a bright band and, seen from above, the top of a drum."""
    body = np.array(_drum_colour(drum.tint)) * gain
    _fill_hull(image, outline.shadow, body * 0.25)
    _fill_hull(image, np.concatenate([outline.base, outline.top]), body)
    _fill_hull(image, outline.band, 225.0 * gain)
    if with_top:
        _fill_hull(image, outline.top, body * 1.2)


def _drum_colour(tint: float) -> Colour:
    """Return one of a circle of strong colours by `tint` in [0, 1)."""
    angles = (tint * 2.0 * math.pi + shift for shift in (0.0, 2.1, 4.2))
    red, green, blue = (90.0 + 80.0 * math.cos(angle) for angle in angles)
    return red, green, blue


def _clip_near(lines: Floats) -> Floats:
    """Return polylines (m, n, 2) of (ahead, left) with all that lies behind the near plane moved onto it.

    Each line is followed outwards; what comes before it crosses the plane, or after it comes back, collapses
    to the point of crossing, so that every line keeps its number of points.
    """
    clipped = lines.copy()
    for line in clipped:
        ahead = line[:, 0] > _NEAR_M
        if bool(ahead.all()):
            continue
        if not bool(ahead.any()):
            line[:] = line[-1]
            line[:, 0] = _NEAR_M
            continue
        first = int(np.argmax(ahead))
        if first:
            share = (_NEAR_M - line[first - 1, 0]) / (line[first, 0] - line[first - 1, 0])
            line[:first] = line[first - 1] + share * (line[first] - line[first - 1])
        back = np.flatnonzero(~ahead[first:])
        if len(back):
            line[first + int(back[0]) :] = line[first + int(back[0]) - 1]
    return clipped


def _fill(image: Frame, polygons: list[NDArray[np.int32]], colour: Colour) -> None:
    cv2.fillPoly(image, polygons, colour, cv2.LINE_AA, _SHIFT)


def _fill_hull(image: Frame, points: NDArray[np.int32], colour: Floats) -> None:
    red, green, blue = (min(255.0, max(0.0, value)) for value in colour.tolist())
    cv2.fillConvexPoly(image, cv2.convexHull(points), (red, green, blue), cv2.LINE_AA, _SHIFT)
