"""A tick as Foxglove draws it: foxglove.SceneUpdate and foxglove.PoseInFrame in the frame "world"."""

import math
from collections.abc import Sequence
from typing import Any

from runtime.observe.geometry import Point, TopView

_BLUE = {"r": 0.16, "g": 0.47, "b": 0.85, "a": 1.0}
_FAINT = {"r": 0.16, "g": 0.47, "b": 0.85, "a": 0.35}
_ORANGE = {"r": 0.9, "g": 0.45, "b": 0.1, "a": 1.0}
_GREY = {"r": 0.5, "g": 0.5, "b": 0.55, "a": 0.8}
_LINE_STRIP = 0
_HEIGHT_M = 0.1


def scene(view: TopView, log_ns: int, vehicle_m: tuple[float, float] = (4.2, 1.8)) -> dict[str, Any]:
    """Return a foxglove.SceneUpdate of one tick, `log_ns` being its time of day [ns]."""
    stamp = _stamp(log_ns)
    obstacles = [
        {
            "pose": _pose(x, y, 0.0),
            "size": {"x": 2.0 * radius, "y": 2.0 * radius, "z": 1.0},
            "bottom_scale": 1.0,
            "top_scale": 1.0,
            "color": _GREY,
        }
        for x, y, radius in view.obstacles
    ]
    length, width = vehicle_m
    box = {
        "pose": _pose(view.x_m, view.y_m, view.heading_rad),
        "size": {"x": length, "y": width, "z": 1.4},
        "color": _BLUE,
    }
    held, certain = view.held, view.certain
    lines = [
        _line(held[: certain + 1], _BLUE, 0.4),
        _line(held[certain:], _FAINT, 0.3),
        _line(view.backup, _ORANGE, 0.3),
    ]
    return {
        "deletions": [],
        "entities": [
            _entity(stamp, "vehicle", cubes=[box]),
            _entity(stamp, "obstacles", cylinders=obstacles),
            _entity(stamp, "manoeuvres", lines=[line for line in lines if line["points"]]),
        ],
    }


def pose_in_frame(view: TopView, log_ns: int) -> dict[str, Any]:
    """Return a foxglove.PoseInFrame of the vehicle."""
    return {"timestamp": _stamp(log_ns), "frame_id": "world", "pose": _pose(view.x_m, view.y_m, view.heading_rad)}


def _entity(stamp: dict[str, int], name: str, **shapes: Any) -> dict[str, Any]:
    kinds = ("arrows", "cubes", "spheres", "cylinders", "lines", "triangles", "texts", "models")
    none = {"sec": 0, "nsec": 0}
    head = {"timestamp": stamp, "frame_id": "world", "id": name, "lifetime": none, "frame_locked": False}
    return {**head, "metadata": [], **{kind: shapes.get(kind, []) for kind in kinds}}


def _line(points: Sequence[Point], color: dict[str, float], thickness_m: float) -> dict[str, Any]:
    return {
        "type": _LINE_STRIP,
        "pose": _pose(0.0, 0.0, 0.0),
        "thickness": thickness_m,
        "scale_invariant": False,
        "points": [{"x": x, "y": y, "z": _HEIGHT_M} for x, y in points],
        "color": color,
        "colors": [],
        "indices": [],
    }


def _pose(x_m: float, y_m: float, heading_rad: float) -> dict[str, Any]:
    half = 0.5 * heading_rad
    return {
        "position": {"x": x_m, "y": y_m, "z": 0.0},
        "orientation": {"x": 0.0, "y": 0.0, "z": math.sin(half), "w": math.cos(half)},
    }


def _stamp(log_ns: int) -> dict[str, int]:
    return {"sec": log_ns // 1_000_000_000, "nsec": log_ns % 1_000_000_000}
