"""Frames and true answers over random roads, lights, obstacles and poses, drawn by the built-in world's camera."""

import math
import multiprocessing
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from carla_bridge.answers import ANSWER_NAMES, true_answers
from carla_bridge.camera import Camera
from carla_bridge.obstacles import Obstacle
from carla_bridge.route import Route, Section
from carla_bridge.scenery import HEIGHT_PX, WIDTH_PX, Scenery, draw_scenery

FRAME_SHAPE = (HEIGHT_PX, WIDTH_PX, 3)
CURVATURE_MAX_1PM = 0.035
OFFSET_MAX_M = 9.5
HEADING_MAX_RAD = 0.5
FRAMES_A_ROAD = 16
CHUNK = 1024


def make_frames(count: int, seed: int, workers: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return `count` frames (count, 80, 160, 3) and answers (count, 6); the same for any number of workers."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.bin"
        frames = np.memmap(path, np.uint8, "w+", shape=(count, *FRAME_SHAPE))
        answers = np.empty((count, len(ANSWER_NAMES)), np.float32)
        jobs = [(str(path), count, seed, start) for start in range(0, count, CHUNK)]
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for start, chunk in pool.imap_unordered(_fill_chunk, jobs):
                answers[start : start + len(chunk)] = chunk
        return np.array(frames), answers


def _fill_chunk(job: tuple[str, int, int, int]) -> tuple[int, NDArray[np.float32]]:
    path, count, seed, start = job
    cv2.setNumThreads(1)
    frames = np.memmap(path, np.uint8, "r+", shape=(count, *FRAME_SHAPE))
    rng = np.random.default_rng([seed, start])
    camera = Camera()
    answers = []
    while len(answers) < min(CHUNK, count - start):
        route = random_route(rng)
        scenery = draw_scenery(rng, route.length_m)
        for _ in range(min(FRAMES_A_ROAD, min(CHUNK, count - start) - len(answers))):
            frame, answer = random_frame(rng, camera, route, scenery)
            frames[start + len(answers)] = frame
            answers.append(answer)
    frames.flush()
    return start, np.array(answers, np.float32)


def random_route(rng: np.random.Generator) -> Route:
    """Return 300 m of road: stretches of changing and of held curvature, each bend turning by no more than a radian."""
    sections: list[Section] = []
    straight = rng.random() < 0.25
    while sum(section.length_m for section in sections) < 300.0:
        curvature = 0.0 if straight or rng.random() < 0.3 else rng.uniform(-CURVATURE_MAX_1PM, CURVATURE_MAX_1PM)
        sections.append(Section(rng.uniform(10.0, 35.0), curvature))
        sections.append(Section(min(rng.uniform(5.0, 60.0), 1.0 / max(abs(curvature), 1e-3)), curvature))
    x_m, y_m, heading = rng.uniform(-500.0, 500.0), rng.uniform(-500.0, 500.0), rng.uniform(-math.pi, math.pi)
    return Route.from_sections(sections, x_m, y_m, heading)


def random_frame(
    rng: np.random.Generator, camera: Camera, route: Route, scenery: Scenery
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return a frame from a random pose on `route`, with 0 to 4 obstacles about, and its true answers."""
    s_m = rng.uniform(0.0, 200.0)
    offset, error = _random_pose(rng)
    x_m, y_m = route.at(s_m, offset)
    pose = (x_m, y_m, route.heading_at(s_m) + error)
    obstacles = _random_obstacles(rng, route, s_m, pose)
    frame = camera.render(
        route,
        pose,
        obstacles,
        scenery,
        s_m=s_m,
        time_s=rng.uniform(0.0, 60.0),
        number=int(rng.integers(0, 2**31)),
    )
    return frame, true_answers(route, pose, obstacles, camera.mount, s_m)


def _random_pose(rng: np.random.Generator) -> tuple[float, float]:
    """Return (offset [m], heading error [rad]): six of ten as in lane keeping, the others anywhere on the road."""
    if rng.random() < 0.6:
        offset, error = rng.normal(0.0, 2.5), rng.normal(0.0, 0.12)
    else:
        offset, error = rng.uniform(-OFFSET_MAX_M, OFFSET_MAX_M), rng.uniform(-HEADING_MAX_RAD, HEADING_MAX_RAD)
    limits = (OFFSET_MAX_M, HEADING_MAX_RAD)
    return float(np.clip(offset, -limits[0], limits[0])), float(np.clip(error, -limits[1], limits[1]))


def _random_obstacles(
    rng: np.random.Generator, route: Route, s_m: float, pose: tuple[float, float, float]
) -> list[Obstacle]:
    drums: list[Obstacle] = []
    along = s_m + rng.uniform(-3.0, 42.0)
    for _ in range(int(rng.choice(5, p=(0.25, 0.3, 0.2, 0.15, 0.1)))):
        offset = rng.normal(0.0, 1.5) if rng.random() < 0.7 else rng.uniform(-9.0, 9.0)
        x_m, y_m = route.at(along, offset)
        along += rng.uniform(5.0, 35.0)
        # Nearer than touching is no view a vehicle ever has.
        if math.hypot(x_m - pose[0], y_m - pose[1]) > 3.6:
            drums.append(Obstacle(x_m, y_m, tint=float(rng.random())))
    return drums
