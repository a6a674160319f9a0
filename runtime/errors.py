"""Errors of the runtime, each with the exit code its command ends with.

RunError
├── ConfigurationError   a file, flag or environment variable cannot be used      (exit code 78)
├── UnavailableError     something that must answer does not, or is taken already (exit code 69)
├── MessageError         a message on a local socket is damaged; answered, never fatal
└── ExecutorError        see runtime/execute/errors.py
"""


class RunError(Exception):
    """Base of every error the runtime raises on its own account."""

    exit_code = 1


class ConfigurationError(RunError):
    """The configuration cannot be used; the message names the key, its value and what would be right."""

    exit_code = 78


class UnavailableError(RunError):
    """A process or socket that is needed does not answer, or belongs to another process."""

    exit_code = 69


class MessageError(RunError):
    """A message cannot be understood; the message says what was wrong and what would be right."""
