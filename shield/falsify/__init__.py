"""The search for counter-examples: to deadlines, and to the guard in closed loop."""

from shield.falsify.deadlines import Counterexample, Report, Situation, falsify_deadlines
from shield.falsify.drive import Drive, Scenario, Simulation, draw_scenario

__all__ = [
    "Counterexample",
    "Drive",
    "Report",
    "Scenario",
    "Simulation",
    "Situation",
    "draw_scenario",
    "falsify_deadlines",
]
