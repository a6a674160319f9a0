"""The camera: geometry, determinism, and what a frame shows."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_bridge.camera import Camera, CameraMount, Frame
from carla_bridge.obstacles import Obstacle
from carla_bridge.route import Route, Section
from carla_bridge.scenery import Scenery, draw_scenery, noise_frame

ROAD = Route.from_sections([Section(300.0, 0.0)], x_m=-50.0)
PLAIN = replace(
    draw_scenery(np.random.default_rng(4), 100.0),
    shadows=np.empty((0, 4)),
    noise=0.0,
    flicker=0.0,
    shake_rad=0.0,
    dash_m=20.0,
    light=(1.0, 1.0, 1.0),
    road=(90.0, 90.0, 90.0),
    mark=(220.0, 220.0, 220.0),
)


def render(
    *drums: Obstacle,
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0),
    scenery: Scenery = PLAIN,
    time_s: float = 0.0,
    number: int = 0,
) -> Frame:
    return Camera().render(ROAD, pose, drums, scenery, s_m=50.0 + pose[0], time_s=time_s, number=number)


@given(st.integers(0, 2**31), st.floats(-9.5, 9.5), st.floats(-0.7, 0.7), st.floats(0.0, 100.0))
def test_every_pose_gives_a_frame_and_the_same_one_twice(
    seed: int, offset_m: float, heading_rad: float, x_m: float
) -> None:
    scenery = draw_scenery(np.random.default_rng(seed), 300.0)
    drum = Obstacle(x_m + 15.0, 1.0)
    first, second = (render(drum, pose=(x_m, offset_m, heading_rad), scenery=scenery, number=9) for _ in range(2))
    assert first.shape == (80, 160, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)


def test_noise_changes_from_frame_to_frame_and_light_with_time() -> None:
    noisy = replace(PLAIN, noise=4.0)
    assert not np.array_equal(render(scenery=noisy, number=1), render(scenery=noisy, number=2))
    flickering = replace(PLAIN, flicker=0.1, flicker_period_s=4.0, shake_phase_rad=0.0)
    assert render(scenery=flickering, time_s=1.0).mean() > render(scenery=flickering, time_s=3.0).mean() + 5.0


def test_noise_has_the_declared_deviation() -> None:
    difference = render(scenery=replace(PLAIN, noise=4.0)).astype(float) - render()
    assert difference.std() == pytest.approx(4.0, rel=0.1)
    assert difference.mean() == pytest.approx(0.0, abs=0.2)
    assert not np.array_equal(noise_frame(3, 1), noise_frame(3, 2))


def test_a_drum_stands_where_the_pinhole_says() -> None:
    mount = CameraMount()
    for bearing in (-0.4, 0.0, 0.3):
        ahead, left = 20.0 * math.cos(bearing), 20.0 * math.sin(bearing)
        shown = render(Obstacle(mount.forward_m + ahead, left)).astype(int) - render()
        columns = np.flatnonzero(np.abs(shown[35]).sum(axis=1) > 20)
        assert columns.mean() == pytest.approx(79.5 - mount.focal_px * math.tan(bearing), abs=1.0)
        half = math.asin(1.2 / 20.0)
        edges = [mount.focal_px * math.tan(bearing + side * half) for side in (1.0, -1.0)]
        # Both edge pixels count as soon as they are touched.
        assert len(columns) == pytest.approx(edges[0] - edges[1] + 1.0, abs=2.0)


def test_a_mirrored_scene_gives_a_mirrored_frame() -> None:
    left = render(Obstacle(15.0, 3.0), pose=(0.0, 2.0, 0.2))
    right = render(Obstacle(15.0, -3.0), pose=(0.0, -2.0, -0.2))
    assert np.abs(left.astype(int) - right[:, ::-1]).mean() < 1.0


def test_an_obstacle_behind_is_not_seen_and_the_nearer_one_covers_the_other() -> None:
    assert np.array_equal(render(Obstacle(-10.0, 0.0)), render())
    near, far = Obstacle(10.0, 0.0, tint=0.1), Obstacle(20.0, 0.0, tint=0.6)
    assert np.array_equal(render(near, far), render(far, near))
    assert np.array_equal(render(near, far)[:, 78:82], render(near)[:, 78:82])


def test_shadows_darken_the_road() -> None:
    shaded = render(scenery=replace(PLAIN, shadows=np.array([[52.0, 60.0, -8.0, 8.0]]), shadow_depth=0.5))
    assert shaded[60:].mean() < 0.9 * render()[60:].mean()


def test_marks_stand_out_from_the_road() -> None:
    road = cv2.cvtColor(render(), cv2.COLOR_RGB2GRAY)[50:]
    assert road.max() > 200
    assert np.median(road) == pytest.approx(90, abs=3)
