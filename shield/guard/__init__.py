"""The guard: which control may the vehicle hold, until when, and what takes over then."""

from shield.guard.machine import Guard, GuardSettings
from shield.guard.messages import AT_REST, Command, Control, Decision, Mode, Observation, Proposal, Reason

__all__ = [
    "AT_REST",
    "Command",
    "Control",
    "Decision",
    "Guard",
    "GuardSettings",
    "Mode",
    "Observation",
    "Proposal",
    "Reason",
]
