"""What guard and daemon do as a Rerun recording: top view, camera, deadline and energy over time, events.

    top/vehicle, top/obstacles, top/held, top/tolerable, top/backup    in the vehicle's frame, up being ahead
    camera                              the newest frame, where the daemon tells frames
    guard/deadline_ms, vehicle/speed_mps    tolerable deadline (at most 10 s are drawn) and measured speed
    energy/window_mj                    energy of each window
    request/slack_ms                    time left when an answer was there
    events                              what changed: the guard's mode, plans, models, the edge server, drift

Times are of the day, on the timeline "time".
"""

import math
from collections.abc import Sequence

import numpy as np

from runtime.errors import ConfigurationError
from runtime.observe.follower import Heard
from runtime.observe.geometry import Point, TopView, top_view
from runtime.serve.guard_ticks import Followed, Tick
from shield.vehicle import Vehicle

try:
    import rerun as rr
    import rerun.blueprint as rrb
except ImportError as error:
    raise ConfigurationError("headway view needs Rerun: pip install 'headway[rerun]'") from error

TOPICS = ("frame", "request", "window", "model", "plan", "bound", "drift", "edge")
_NS = 1e-9
_VEHICLE_M = (4.2, 1.8)
_MOST_S = 10.0
_BLUE, _FAINT, _ORANGE, _GREY, _INK = (
    (41, 120, 217),
    (41, 120, 217, 110),
    (230, 115, 26),
    (128, 128, 140, 200),
    (40, 170, 90),
)


class Stream:
    """Logs what is heard.

    Args:
        recording: Where to.
    """

    def __init__(self, recording: "rr.RecordingStream") -> None:
        self._recording = recording
        self._vehicle: Vehicle | None = None
        self._mode = ""
        recording.send_blueprint(_blueprint())
        for name, text, color in (
            ("guard/deadline_ms", "tolerable deadline [ms]", _BLUE),
            ("vehicle/speed_mps", "speed [m/s]", _INK),
            ("energy/window_mj", "energy of a window [mJ]", _ORANGE),
            ("request/slack_ms", "time left at the answer [ms]", _BLUE),
        ):
            recording.log(name, rr.SeriesLines(colors=[color], names=[text]), static=True)

    def take(self, heard: Followed | Tick | Heard, offset_ns: int) -> None:
        """Log what was heard; `offset_ns`: the time of day less CLOCK_MONOTONIC [ns]."""
        match heard:
            case Followed():
                self._vehicle = heard.vehicle
            case Tick():
                self._at(round(1e9 * heard.now_s) + offset_ns)
                self._take_tick(heard)
            case Heard():
                self._at(heard.at_ns + offset_ns)
                self._take_event(heard)

    def _at(self, time_ns: int) -> None:
        self._recording.set_time("time", timestamp=np.datetime64(time_ns, "ns"))

    def _take_tick(self, tick: Tick) -> None:
        decision, log = tick.decision, self._recording.log
        deadline_s = 0.0 if tick.exceeded else min(_MOST_S, decision.deadline_s)
        log("guard/deadline_ms", rr.Scalars(1e3 * deadline_s))
        seen = tick.observation
        if seen is not None and seen.speed_mps is not None and math.isfinite(seen.speed_mps):
            log("vehicle/speed_mps", rr.Scalars(seen.speed_mps))
        if decision.mode != self._mode:
            self._mode = decision.mode
            level = rr.TextLogLevel.WARN if decision.mode == "backup" else rr.TextLogLevel.INFO
            log("events", rr.TextLog(f"guard: {decision.mode}, {decision.reason}", level=level))
        view = None if self._vehicle is None else top_view(tick, self._vehicle)
        if view is not None:
            self._draw(view)

    def _draw(self, view: TopView) -> None:
        log = self._recording.log
        places = _own(view, [(x, y) for x, y, _ in view.obstacles])
        radii = [radius for _, _, radius in view.obstacles]
        log("top/obstacles", rr.Ellipses2D(half_sizes=[(r, r) for r in radii], centers=places, colors=_GREY))
        lines = (
            ("top/tolerable", view.held[view.certain :], _FAINT, 0.15),
            ("top/held", view.held[: view.certain + 1], _BLUE, 0.25),
            ("top/backup", view.backup, _ORANGE, 0.2),
        )
        for name, points, color, radius_m in lines:
            strips = [_own(view, points)] if len(points) > 1 else []
            log(name, rr.LineStrips2D(strips, colors=color, radii=radius_m))
        length_m, width_m = _VEHICLE_M
        log("top/vehicle", rr.Boxes2D(centers=[(0.0, 0.0)], sizes=[(width_m, length_m)], colors=_INK))

    def _take_event(self, heard: Heard) -> None:
        data, log = heard.data, self._recording.log
        match heard.topic:
            case "window":
                log("energy/window_mj", rr.Scalars(float(data["energy_mj"])))
            case "request":
                left_s = data["time_left_s"]
                if left_s is not None and math.isfinite(float(left_s)):
                    log("request/slack_ms", rr.Scalars(1e3 * float(left_s)))
            case "frame":
                self._take_frame(data["pixels"], data["dtype"], tuple(data["shape"]))
            case _:
                told = ", ".join(f"{name} {value}" for name, value in data.items() if value not in (None, ""))
                log("events", rr.TextLog(f"{heard.topic}: {told}"))

    def _take_frame(self, pixels: bytes, dtype: str, shape: tuple[int, ...]) -> None:
        """Log a picture; what is none is left out."""
        shape = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
        if dtype == "uint8" and len(shape) == 3 and shape[2] == 3:
            self._recording.log("camera", rr.Image(np.frombuffer(pixels, np.uint8).reshape(shape)).compress())


def _own(view: TopView, points: Sequence[Point]) -> list[tuple[float, float]]:
    """Return points as the picture has them: x to the right, y down, the vehicle driving up."""
    cosine, sine = math.cos(view.heading_rad), math.sin(view.heading_rad)
    moved = ((x - view.x_m, y - view.y_m) for x, y in points)
    return [(x * sine - y * cosine, -x * cosine - y * sine) for x, y in moved]


def _blueprint() -> "rrb.Blueprint":
    window = rrb.VisualBounds2D(x_range=(-25.0, 25.0), y_range=(-52.0, 12.0))
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Spatial2DView(origin="top", name="Top view", visual_bounds=window),
            rrb.Vertical(
                rrb.TimeSeriesView(origin="guard", name="Tolerable deadline"),
                rrb.TimeSeriesView(origin="vehicle", name="Speed"),
                rrb.TimeSeriesView(origin="energy", name="Energy"),
                rrb.TimeSeriesView(origin="request", name="Time left"),
                rrb.Horizontal(
                    rrb.Spatial2DView(origin="camera", name="Camera"), rrb.TextLogView(origin="events", name="Events")
                ),
                row_shares=[3, 2, 2, 2, 3],
            ),
            column_shares=[2, 3],
        ),
        collapse_panels=True,
    )
