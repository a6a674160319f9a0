"""The closed loop in virtual time: camera, driving package and controller, with the shield or without.

Answers are as old as a declared number of windows: a frame is taken, its answer arrives that many windows later, and
only then the next frame is taken; between answers the controller goes by odometry alone. The world's clock is the only
one: the same scenario, seed and age give the same episode on any machine.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import headway
from carla_bridge.camera import Frame
from carla_bridge.errors import WorldError
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.world import Report
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain, ExitAnswer
from devices.package import load_package
from devices.tensor import Array
from runtime.serve.controller import Controller, ControllerSettings
from shield.guard import Control, Guard, GuardSettings, Observation, Proposal
from shield.state import State

WINDOW_S = 0.02
DRIVING = Path(str(files("carla_bridge"))) / "models" / "driving" / "1"


@dataclass(frozen=True, slots=True)
class Drive:
    """An episode.

    Args:
        report: What the world says of it.
        exits: How many answers each exit gave.
        interventions: Ticks at which the guard did not admit the proposal.
        uncertified: Instants of the world at which no certified control was in force; 0 without the shield.
    """

    report: Report
    exits: Counter[str]
    interventions: int = 0
    uncertified: int = 0


@cache
def driving_chain() -> Chain:
    """Return the shipped package, loaded on one thread."""
    return Chain(load_package(DRIVING), OnnxRuntimeBackend())


def answer_of(frame: Frame) -> ExitAnswer:
    """Return the answer of the first exit that is confident enough."""
    chain = driving_chain()
    thresholds = {item.id: item.threshold or 0.0 for item in chain.package.exits}

    def enough(answer: ExitAnswer) -> bool:
        return (answer.confidence or 0.0) >= thresholds[answer.exit_id]

    result = chain.run({"frame": frame[None]}, on_exit=enough)
    if result.exit is None:
        raise WorldError(f"no exit of {DRIVING} gave an answer: its last exit must answer every frame")
    return result.exit


def drive(world: KinematicWorld, windows: int, limit_s: float, shielded: bool = False) -> Drive:
    """Drive until the episode or `limit_s` [s] ends.

    Args:
        world: The world, at its start.
        windows: Age of answers, in windows of 20 ms; at least 1.
        limit_s: Longest time driven [s].
        shielded: Whether the guard and the applier stand between controller and vehicle.
    """
    vehicle = world.vehicle
    controller = Controller(ControllerSettings(vehicle.l_r_m, vehicle.beta_max_rad))
    guard, applier = Guard(vehicle, GuardSettings()), headway.Applier()
    exits: Counter[str] = Counter()
    interventions = uncertified = window = applied = 0
    waiting: tuple[int, Array, State, float] | None = None
    while not world.done and world.time_s < limit_s:
        now_s, state = world.time_s, world.state()
        if waiting is not None and window >= waiting[0]:
            controller.update_answer(waiting[1][0].tolist(), waiting[2], waiting[3])
            waiting = None
        if waiting is None:
            found = answer_of(world.frame())
            exits[found.exit_id] += 1
            waiting = (window + windows, found.answer, state, now_s)
        beta_rad, speed_mps = controller.propose(state, state.speed_mps or 0.0, now_s)
        if shielded:
            observation = Observation(now_s, state, world.obstacles(), applied)
            decision = guard.tick(now_s, observation, Proposal(now_s, beta_rad, speed_mps))
            applier.accept(decision, now_s)
            interventions += decision.intervened
        for _ in range(round(WINDOW_S / world.tick_s)):
            if shielded:
                held = applier.control_at(world.time_s)
                uncertified += not held.certified
                applied = held.decision_id
                world.apply(held.control)
            else:
                world.apply(Control(beta_rad, speed_mps))
            world.tick()
        window += 1
    return Drive(world.report(), exits, interventions, uncertified)
