"""What hangs on the vehicle in CARLA: camera, lidar where one is wanted, and the sensors of collisions and lane marks.

Their data come after the tick they belong to, on threads of the wheel: they are put in queues, and asked for by frame.
A sensor gives nothing of the ticks before the server knows that somebody listens, so it is waited for at the start.
"""

import queue
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from carla_bridge.camera import Frame
from carla_bridge.carla.lidar import LidarSettings
from carla_bridge.route import Floats
from carla_bridge.world import EventKind

FRAME_SHAPE = (80, 160, 3)
_LISTENING_S = 0.1

Spawn = Callable[..., Any]
"""Spawns a blueprint by name, place, parent and attributes."""


class _Stream:
    """The newest message of one sensor."""

    def __init__(self, sensor: Any) -> None:
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._newest: Any = None
        sensor.listen(self._messages.put)

    def of(self, frame: int, timeout_s: float) -> Any:
        """Return the first message of `frame` or later; queue.Empty: it did not come in time."""
        until_s = time.monotonic() + timeout_s
        while self._newest is None or self._newest.frame < frame:
            self._newest = self._messages.get(timeout=max(0.0, until_s - time.monotonic()))
        return self._newest


class Sensors:
    """The sensors of one vehicle.

    Args:
        carla: The module.
        spawn: Spawns them.
        ego: What they hang on.
        tick_s: Step of the simulator's clock [s].
        camera_s: Time between two pictures [s]; 0: one a tick.
        lidar: What it is to see; None: there is none.
    """

    def __init__(
        self, carla: Any, spawn: Spawn, ego: Any, tick_s: float, camera_s: float, lidar: LidarSettings | None
    ) -> None:
        height, width, _ = FRAME_SHAPE
        self._tick_s, self._camera_s = tick_s, camera_s
        self._happened: queue.SimpleQueue[tuple[EventKind, str]] = queue.SimpleQueue()
        size = {"image_size_x": str(width), "image_size_y": str(height), "sensor_tick": repr(camera_s)}
        mount = carla.Transform(carla.Location(1.5, 0.0, 1.4))
        camera = spawn("sensor.camera.rgb", mount, ego, **size)
        bump = spawn("sensor.other.collision", carla.Transform(), ego)
        lane = spawn("sensor.other.lane_invasion", carla.Transform(), ego)
        self._all = [camera, bump, lane]
        self._camera = _Stream(camera)
        bump.listen(lambda event: self._happened.put((EventKind.COLLISION, f"with {event.other_actor.type_id}")))
        lane.listen(lambda event: self._happened.put((EventKind.KERB, "a lane marking was crossed")))
        self._lidar = None
        if lidar is not None:
            roof = carla.Transform(carla.Location(0.0, 0.0, lidar.height_m))
            sensor = spawn("sensor.lidar.ray_cast", roof, ego, **lidar.attributes(tick_s))
            self._all.append(sensor)
            self._lidar = _Stream(sensor)

    def await_first(self, tick: Callable[[], int], timeout_s: float) -> int:
        """Tick until every sensor that gives something at each tick has given something, and return the last frame.

        Raises:
            queue.Empty: one did not within `timeout_s` [s].
        """
        until_s = time.monotonic() + timeout_s
        while True:
            frame = tick()
            try:
                for stream in filter(None, (self._camera, self._lidar)):
                    stream.of(0, _LISTENING_S)
                return frame
            except queue.Empty:
                if time.monotonic() > until_s:
                    raise

    def picture(self, frame: int, timeout_s: float) -> Frame:
        """Return the camera's newest picture as of `frame`, RGB; queue.Empty: it did not come in time."""
        image = self._camera.of(frame - self._periods, timeout_s)
        pixels = np.frombuffer(image.raw_data, np.uint8).reshape(*FRAME_SHAPE[:2], 4)
        return np.ascontiguousarray(pixels[..., 2::-1])

    def hits(self, frame: int, timeout_s: float) -> Floats:
        """Return the lidar's hits of `frame`, (n, 3): ahead, to the right, up [m]; queue.Empty: not in time."""
        if self._lidar is None:
            return np.empty((0, 3))
        sweep = self._lidar.of(frame, timeout_s)
        return np.frombuffer(sweep.raw_data, np.float32).reshape(-1, 4)[:, :3].astype(np.float64)

    def happened(self) -> list[tuple[EventKind, str]]:
        """Return what happened since it was last asked."""
        found = []
        while not self._happened.empty():
            found.append(self._happened.get())
        return found

    def stop(self) -> None:
        """Stop listening."""
        for sensor in self._all:
            sensor.stop()

    @property
    def _periods(self) -> int:
        """How many ticks the newest picture may be older than the last tick."""
        return max(0, round(self._camera_s / self._tick_s) - 1)
