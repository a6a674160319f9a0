"""A world driven for a calibration: the programme on a plain without obstacles, then the closed loop among drums."""

from dataclasses import replace

from carla_bridge.calibrate.closed_loop import SEEDS_FROM, LoopWorld, drive_closed_loop
from carla_bridge.calibrate.closing import close
from carla_bridge.calibrate.measure import Measured, measure
from carla_bridge.calibrate.programme import Programme, drive_controls, proving_ground
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.scenario import Scenario, load_scenario
from shield.vehicle import Vehicle

WORLDS = ("kinematic", "mujoco")
ROAD = "town04_curves"
"""Scenario of the closed-loop drives."""


def calibrate_world(
    world: str, base: Vehicle, programme: Programme, episodes: int, delta: float
) -> tuple[Measured, int]:
    """Drive a world and return what was measured and the number of samples.

    Args:
        world: One of `WORLDS`.
        base: What is declared so far; the world is told it.
        programme: Driven on the plain; its seed is the world's as well.
        episodes: Number of closed-loop drives.
        delta: Chance that an interval misses.
    Raises:
        CalibrationError: the world ended a drive, or what was driven is too little.
        WorldError: its library is not installed.
    """
    plain = _opened(world, proving_ground(), base, programme.seed)
    try:
        # Faster than its file says it may be: the world is asked for all it has.
        asked = replace(base, v_max_mps=1.2 * base.v_max_mps)
        held = drive_controls(plain, programme.controls(asked))
        drives = [held + drive_controls(plain, programme.drawn(asked))]
    finally:
        plain.close()
    road = load_scenario(ROAD)
    for number in range(episodes):
        # Seeds of their own for every seed of a calibration.
        opened = _opened(world, road, base, SEEDS_FROM + 1000 * (programme.seed % 1_000_000) + number)
        try:
            drives.append(drive_closed_loop(opened, blind=number % 2 == 0))
        finally:
            opened.close()
    return close(base, measure(held, delta), drives, delta), sum(map(len, drives))


def _opened(world: str, scenario: Scenario, base: Vehicle, seed: int) -> LoopWorld:
    if world == "kinematic":
        return KinematicWorld(scenario, base, seed, error_share=1.0)
    from carla_bridge.worlds.mujoco import MujocoWorld  # needs the extra `worlds`

    return MujocoWorld(scenario, base, seed)
