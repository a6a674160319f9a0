"""Errors of planning.

PlanError            a problem, profile or option cannot be used            (exit code 78)
├── InfeasibleError  no plan keeps the limits; says the least possible      (exit code 1)
└── ScheduleError    a schedule breaks a rule of its problem; a defect of whoever made it (exit code 1)
"""

from collections.abc import Iterable

from runtime.errors import RunError


class PlanError(RunError):
    """A problem cannot be planned as given; the message names the entry, its value and what would be right."""

    exit_code = 78


class InfeasibleError(PlanError):
    """No plan keeps the limits; the message says what the least possible is."""

    exit_code = 1


class ScheduleError(PlanError):
    """A schedule breaks a rule of its problem."""

    exit_code = 1


def named(names: Iterable[str]) -> str:
    """Return names as a message lists them: each in quotes, commas between."""
    return ", ".join(map(repr, names))
