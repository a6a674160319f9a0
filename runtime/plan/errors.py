"""Errors of planning.

PlanError            a problem, profile or option cannot be used            (exit code 78)
├── InfeasibleError  no plan keeps the limits; says the least possible      (exit code 1)
└── ScheduleError    a schedule breaks a rule of its problem; a defect of whoever made it (exit code 1)
"""

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
