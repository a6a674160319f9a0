"""Errors of packing.

PackError        a model cannot be cut, or its parts do not make the whole; nothing was written
"""

from runtime.errors import RunError


class PackError(RunError):
    """A model cannot be packed as asked; the message names the tensor or file and what would be right."""

    exit_code = 78
