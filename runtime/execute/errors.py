"""Errors of the executor.

ExecutorError
├── ModelNotFoundError   no model of that name or version is loaded or in the repository
└── ClosedError          the executor was closed

What is wrong with one request is no exception but a reply with a status, see request.py.
"""

from runtime.errors import RunError


class ExecutorError(RunError):
    """Base of every error the executor raises on its own account."""


class ModelNotFoundError(ExecutorError):
    """There is no such model; the message lists those there are."""


class ClosedError(ExecutorError):
    """The executor was closed and takes nothing more."""
