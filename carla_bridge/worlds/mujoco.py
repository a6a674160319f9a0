"""A four-wheeled car in MuJoCo: tyres that hold by friction, suspension, and obstacles seen by a ray sensor.

Nothing here is the shield's model: wheels slip and springs give, the steering and the speed follow what is asked for
late. What the model leaves out is what the vehicle file `mujoco_car.toml` declares. The front wheels are set to the
angle whose turn has the slip angle asked for, tan(beta) = l_r / (l_f + l_r) tan(delta), each on its own circle; each
wheel is driven at the speed of its own circle, which follows the speed asked for at no more than a rate.

Reference: Todorov, Erez, Tassa, MuJoCo: A physics engine for model-based control, IROS 2012.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np

from carla_bridge.camera import Frame
from carla_bridge.errors import ScenarioError, SimulatorError, WorldError
from carla_bridge.kinematic import Start
from carla_bridge.obstacles import Obstacle
from carla_bridge.route import Floats
from carla_bridge.scenario import Scenario
from carla_bridge.scene.traffic import Mover
from carla_bridge.worlds.base import TrueWorld, velocity_of
from carla_bridge.worlds.bodies import Drum
from carla_bridge.worlds.judge import Thing
from carla_bridge.worlds.rays import discs_from
from carla_bridge.worlds.watch import Motion
from shield.guard import Command
from shield.state import Disc
from shield.vehicle import Vehicle

TICK_S = 0.02
BODY = (4.508, 1.61, -0.246)
"""Length and width of the car, and how far its middle lies ahead of its centre of gravity [m]."""

FRONT_M, REAR_M, HALF_TRACK_M, WHEEL_M = 1.156, 1.422, 0.70, 0.31
STEER_RATE_RADPS, STEER_LOCK_RAD = 1.2, 0.62
TOP_SPEED_MPS = 9.0
SPEED_UP_MPS2, SLOW_DOWN_MPS2, BRAKE_MPS2, BRAKE_BUILD_S = 2.5, 3.0, 7.0, 0.15
RAYS, RANGE_M = 720, 70.0

_STEP_S, _HEIGHT_M = 0.002, 0.5
_DRUMS_GROUP = 2
_SETTLE_S = 1.0
_SAME_M = 2.0


class MujocoWorld(TrueWorld):
    """A World in MuJoCo.

    Args:
        scenario: Road, rule for obstacles, and speed asked for.
        vehicle: Parameters and declared bounds; its radius must hold the body of 4.508 m by 1.61 m.
        seed: Draws obstacles and the look.
        start: Where the car starts, at rest; where the scenario has it start unless given.
        obstacles: Stand in for those of the scenario; they must stand.
        speed_mps: Speed asked for [m/s]; None: the scenario's.
        own_camera: Whether `frame` is rendered by MuJoCo (EGL) in place of the built-in camera.
    Raises:
        WorldError: MuJoCo is not installed, the start is not at rest, or the radius does not hold the body.
        SimulatorError: EGL was asked for and there is none.
    """

    def __init__(
        self,
        scenario: Scenario,
        vehicle: Vehicle,
        seed: int = 0,
        *,
        start: Start | None = None,
        obstacles: tuple[Obstacle, ...] | None = None,
        speed_mps: float | None = None,
        own_camera: bool = False,
    ) -> None:
        asked = scenario if speed_mps is None else replace(scenario, target_speed_mps=speed_mps)
        super().__init__(vehicle, asked, seed, BODY, error_share=0.0)
        self._mujoco = _load()
        drawn, where = _drawn(scenario, seed)
        self._standing = drawn if obstacles is None else obstacles
        self._model = _build(self._mujoco, scenario, self._standing, road=own_camera)
        self._data = self._mujoco.MjData(self._model)
        self._car, self._shell = self._model.body("car").id, self._model.geom("body").id
        self._delta_rad = self._speed_ref_mps = self._braked_s = 0.0
        self._angles: Floats = np.asarray(np.arange(RAYS) * (2.0 * math.pi / RAYS), dtype=np.float64)
        self._known: list[Disc] = []
        self._picture = _Picture(self._mujoco, self._model) if own_camera else None
        self._place(where if start is None else start)
        self._begin()

    @property
    def tick_s(self) -> float:
        return TICK_S

    @property
    def drums(self) -> tuple[Obstacle, ...]:
        """The obstacles as they truly stand."""
        return self._standing

    def frame(self) -> Frame:
        if self._picture is None:
            return super().frame()
        self._open("frame()")
        return self._picture.take(self._data)

    def close(self) -> None:
        if self._picture is not None:
            self._picture.free()
            self._picture = None
        super().close()

    def _place(self, start: Start) -> None:
        if start.speed_mps != 0.0:
            raise WorldError(f"start speed_mps = {start.speed_mps}: the car of this world starts at rest, with 0")
        route = self.scenario.route
        x_m, y_m = route.at(start.s_m, start.offset_m)
        heading = route.heading_at(start.s_m) + start.heading_error_rad
        pose = self._data.joint("car").qpos
        pose[0:2] = x_m, y_m
        pose[3:7] = math.cos(0.5 * heading), 0.0, 0.0, math.sin(0.5 * heading)
        for _ in range(round(_SETTLE_S / _STEP_S)):  # until the springs carry it
            self._mujoco.mj_step(self._model, self._data)
        self._data.time = 0.0

    def _advance(self, control: Command) -> None:
        for _ in range(round(TICK_S / _STEP_S)):
            self._follow(control, _STEP_S)
            self._mujoco.mj_step(self._model, self._data)
        if self._data.warning[int(self._mujoco.mjtWarning.mjWARN_BADQACC)].number:
            raise SimulatorError("MuJoCo found accelerations that are not finite: the simulation has diverged")
        self._note_contacts()

    def _follow(self, control: Command, dt_s: float) -> None:
        """Set the wheels to what is asked for, as fast as steering and drive train follow."""
        slip = max(-self.vehicle.beta_max_rad, min(self.vehicle.beta_max_rad, control.beta_rad))
        wanted = math.atan((FRONT_M + REAR_M) / REAR_M * math.tan(slip))
        wanted = max(-STEER_LOCK_RAD, min(STEER_LOCK_RAD, wanted))
        turn = STEER_RATE_RADPS * dt_s
        self._delta_rad += max(-turn, min(turn, wanted - self._delta_rad))
        self._braked_s = self._braked_s + dt_s if control.brake else 0.0
        asked = 0.0 if control.brake else max(0.0, min(TOP_SPEED_MPS, control.speed_mps))
        down = BRAKE_MPS2 * min(1.0, self._braked_s / BRAKE_BUILD_S) if control.brake else SLOW_DOWN_MPS2
        change = asked - self._speed_ref_mps
        self._speed_ref_mps += max(-down * dt_s, min(SPEED_UP_MPS2 * dt_s, change))
        self._drive_wheels()

    def _drive_wheels(self) -> None:
        bend = math.tan(self._delta_rad) / (FRONT_M + REAR_M)  # of the rear axle's middle
        rear_mps = self._speed_ref_mps / math.hypot(1.0, REAR_M * bend)
        data = self._data
        for index, side in enumerate((1.0, -1.0)):
            across = 1.0 - side * HALF_TRACK_M * bend
            ahead = (FRONT_M + REAR_M) * bend
            data.ctrl[index] = math.atan2(ahead, across)
            data.ctrl[2 + index] = rear_mps * math.hypot(across, ahead) / WHEEL_M
            data.ctrl[4 + index] = rear_mps * across / WHEEL_M

    def _motion(self) -> Motion:
        velocity = np.zeros(6)
        kind = int(self._mujoco.mjtObj.mjOBJ_BODY)
        self._mujoco.mj_objectVelocity(self._model, self._data, kind, self._car, velocity, 0)
        turned = self._data.body("car").xmat.reshape(3, 3)
        heading = math.atan2(turned[1, 0], turned[0, 0])
        # The vehicle is where it touches the road: the body above rolls to and fro about that.
        below = -_HEIGHT_M * turned[:, 2]
        x_m, y_m, _ = (float(value) for value in self._data.body("car").xpos + below)
        vx, vy, _ = (float(value) for value in velocity[3:] + np.cross(velocity[:3], below))
        cos, sin = math.cos(heading), math.sin(heading)
        ahead, left = vx * cos + vy * sin, vy * cos - vx * sin
        speed = math.hypot(ahead, left)
        # A car that stands has no course: it is where its wheels point.
        at_rest = math.atan(REAR_M / (FRONT_M + REAR_M) * math.tan(self._delta_rad))
        slip = math.atan2(left, ahead) if ahead > 0.2 else at_rest
        return Motion(x_m, y_m, heading, speed, slip, float(velocity[2]))

    def _things(self) -> Sequence[Thing]:
        return [
            Thing(f"drum {index}", Drum(drum.x_m, drum.y_m, drum.radius_m)) for index, drum in enumerate(self._standing)
        ]

    def _top_speed_mps(self, thing: Thing) -> float:
        return 0.0

    def _sense(self, moving: Motion, things: Sequence[Thing]) -> None:
        super()._sense(moving, ())
        self._remember(moving)
        self._discs = tuple(self._known)
        self._watch.told(self._state, moving, self._offs_m(moving, things))

    def _remember(self, moving: Motion) -> None:
        """Take in one turn of the rays: what stands where something is known is that."""
        if not self._standing:
            return
        radii = [drum.radius_m for drum in self._standing]
        cos, sin = math.cos(moving.heading_rad), math.sin(moving.heading_rad)
        for seen in discs_from(self._angles, self._ranges_m(), min(radii), max(radii)):
            disc = Disc(
                moving.x_m + seen.x_m * cos - seen.y_m * sin,
                moving.y_m + seen.x_m * sin + seen.y_m * cos,
                seen.radius_m,
            )
            # A disc that is not sure may be that of several: they are known apart, or become known as what it is.
            same = [old for old in self._known if math.hypot(old.x_m - disc.x_m, old.y_m - disc.y_m) <= _SAME_M]
            if seen.sure:
                self._known = [old for old in self._known if old not in same] + [disc]
            elif not same:
                self._known.append(disc)

    def _ranges_m(self) -> Floats:
        """Return the distance to the nearest obstacle along each ray of the tilting sensor, in the body's frame [m]."""
        turn = self._data.body("car").xmat.reshape(3, 3)
        rays = np.column_stack([np.cos(self._angles), np.sin(self._angles), np.zeros(RAYS)]) @ turn.T
        found, hit = np.full(RAYS, -1, np.int32), np.full(RAYS, -1.0)
        groups = np.zeros(6, np.uint8)
        groups[_DRUMS_GROUP] = 1
        site = self._data.site("range").xpos.copy()
        self._mujoco.mj_multiRay(
            self._model, self._data, site, rays.ravel(), groups, True, self._car, found, hit, None, RAYS, RANGE_M
        )
        hit[hit < 0.0] = np.inf
        return hit

    def _offs_m(self, moving: Motion, things: Sequence[Thing]) -> list[float]:
        """Return by how much each drum reaches beyond what is known of it [m]; one unseen is not listed."""
        reach = self.vehicle.bounds.sensing_range_m or RANGE_M
        offs = []
        for thing in things:
            body = thing.body
            distance_m = math.hypot(body.x_m - moving.x_m, body.y_m - moving.y_m)
            gaps = (
                max(0.0, math.hypot(disc.x_m - body.x_m, disc.y_m - body.y_m) + body.radius_m - disc.radius_m)
                for disc in self._known
            )
            off_m = min(gaps, default=math.inf)
            if off_m <= _SAME_M:
                offs.append(off_m)
            elif distance_m - body.radius_m <= reach:
                self._watch.appeared(distance_m)  # hidden behind another one
        return offs

    def _note_contacts(self) -> None:
        """Tell the judge of what the car's body touches, by the simulator's own contacts."""
        pairs = self._data.contact.geom
        for pair in pairs[(pairs == self._shell).any(axis=1)]:
            name = self._model.geom(int(pair[0] if pair[1] == self._shell else pair[1])).name
            moving = self._motion()
            for thing in self._seen_things:
                if thing.name == name:
                    self._judge.touched(self.box_at(moving), velocity_of(moving), thing)


def _drawn(scenario: Scenario, seed: int) -> tuple[tuple[Obstacle, ...], Start]:
    """Return the obstacles of a scenario for one seed and the car's start, the same as in the built-in world."""
    drums = scenario.spawn.spawn(scenario.route, np.random.default_rng([seed, 0]))
    rng = np.random.default_rng([seed, 3])
    courses = scenario.courses(rng)
    if any(course.legs for course in courses):
        raise ScenarioError(f"scenario {scenario.name!r} has obstacles that move: in the mujoco world they stand")
    rng.random()  # the built-in world draws its weather here
    at = scenario.start
    start = Start(at.s_m.draw(rng), at.offset_m.draw(rng), at.heading_error_rad.draw(rng))
    return (*drums, *(Mover(course, scenario.route).obstacle for course in courses)), start


class _Picture:
    """The front camera, rendered off screen by EGL."""

    _SIZE = (80, 160)

    def __init__(self, mujoco: Any, model: Any) -> None:
        height, width = self._SIZE
        try:
            from mujoco.egl import GLContext

            self._gl = GLContext(width, height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as error:  # the bindings raise whatever the driver's loader raises
            raise SimulatorError(f"no picture by EGL on this machine: {error}; use the built-in camera") from error
        self._mujoco, self._model = mujoco, model
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=2000)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = [1, 0, 1, 0, 0, 0]  # the road and the drums, not our own bonnet
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera("front").id

    def take(self, data: Any) -> Frame:
        mujoco = self._mujoco
        height, width = self._SIZE
        self._gl.make_current()
        every = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, every, self._scene)
        view = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(view, self._scene, self._context)
        pixels = np.zeros((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, view, self._context)
        return np.ascontiguousarray(pixels[::-1])

    def free(self) -> None:
        self._context.free()
        self._gl.free()


def _load() -> Any:
    try:
        import mujoco
    except ImportError as error:
        raise WorldError("the mujoco world needs MuJoCo, not installed here: pip install 'headway[worlds]'") from error
    return mujoco


def _build(mujoco: Any, scenario: Scenario, drums: Sequence[Obstacle], road: bool) -> Any:
    """Return the model of the car, the drums, and, where it is looked at, the road: nothing touches that."""
    spec = mujoco.MjSpec.from_string((files("carla_bridge") / "worlds" / "car.xml").read_text(encoding="utf-8"))
    cylinder, box = mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_BOX
    for index, drum in enumerate(drums):
        spec.worldbody.add_geom(
            name=f"drum {index}",
            type=cylinder,
            size=[drum.radius_m, 0.5 * drum.height_m, 0.0],
            pos=[drum.x_m, drum.y_m, 0.5 * drum.height_m],
            rgba=[0.9, 0.45, 0.1, 1.0],
            group=_DRUMS_GROUP,
            contype=8,
            conaffinity=4,
        )
    if road:
        _pave(spec, box, scenario)
    return spec.compile()


def _pave(spec: Any, box: Any, scenario: Scenario) -> None:
    """Add the road's surface and its edges."""
    route, half_m, step_m = scenario.route, scenario.half_width_m, 5.0
    for number in range(math.ceil(route.length_m / step_m)):
        s_m = (number + 0.5) * step_m
        heading = route.heading_at(s_m)
        for offset_m, wide_m, colour in ((0.0, half_m, 0.35), (half_m, 0.15, 0.9), (-half_m, 0.15, 0.9)):
            x_m, y_m = route.at(s_m, offset_m)
            spec.worldbody.add_geom(
                type=box,
                size=[0.52 * step_m, wide_m, 0.002],
                pos=[x_m, y_m, 0.0 if wide_m == half_m else 0.004],
                quat=[math.cos(0.5 * heading), 0.0, 0.0, math.sin(0.5 * heading)],
                rgba=[colour, colour, colour, 1.0],
                group=0,
                contype=0,
                conaffinity=0,
            )
