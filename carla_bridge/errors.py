"""Errors of the worlds.

BridgeError
├── CalibrationError   too little was driven or recorded to measure a vehicle by
├── ScenarioError   a scenario file lacks a key, has an unknown one, or describes no road
└── WorldError      a world was used after it was closed, or got a control that is no number
    └── SimulatorError   the simulator behind a world is missing, of another version, late or gone: no agent's fault
        └── SilentSimulatorError   it does not answer (any more): worth another try once it is back
"""


class BridgeError(Exception):
    """Base of every error a world raises on its own account."""

    exit_code = 78  # of a command that ends with it


class CalibrationError(BridgeError):
    """A vehicle cannot be measured; the message says what is too little, and how much would do."""


class ScenarioError(BridgeError):
    """A scenario cannot be used; the message names the key, its value and what would be right."""


class WorldError(BridgeError):
    """A world was asked for something it cannot do any more, or was given a control it cannot follow."""


class SimulatorError(WorldError):
    """The simulator failed, not the agent; the message names the server, what it did and what would be right."""


class SilentSimulatorError(SimulatorError):
    """No answer from the simulator in time."""
