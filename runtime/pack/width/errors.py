"""Errors of partitioning along the width.

WidthError      a PackError, see runtime/pack/errors.py: the network, the shares or the data do not fit
"""

from runtime.pack.errors import PackError


class WidthError(PackError):
    """A network cannot be partitioned as asked; the message names the layer and what would be right."""
