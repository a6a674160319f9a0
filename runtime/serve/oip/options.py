"""The parameters of a request that mean something here.

`timeout` and `priority` are the protocol's; `least_exit` belongs to the extension "headway". What else a client sends
is its own business and ignored, except sequences, which need a server that remembers the client.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.serve.oip.errors import Cause, OipError

Parameter = bool | int | float | str
LONGEST_US = 3_600_000_000
_LOWEST_PRIORITY = 9


@dataclass(frozen=True, slots=True)
class Options:
    """How a request is to be treated.

    Args:
        timeout_us: Deadline from receipt on [us]; None: as long as it takes.
        priority: 1 is highest, 9 lowest; 0: the default.
        least_exit: Shallowest exit of use; None: any.
    """

    timeout_us: int | None = None
    priority: int = 0
    least_exit: str | None = None


DEFAULTS = Options()


def read_options(parameters: Mapping[str, Parameter]) -> Options:
    """Return the options in a request's parameters.

    Raises:
        OipError: A value of the wrong type or out of range, or a sequence.
    """
    if not parameters:
        return DEFAULTS
    if parameters.get("sequence_id", 0) not in (0, ""):
        raise OipError(Cause.UNSUPPORTED, "parameter sequence_id: no model here keeps a state between requests")
    least_exit = parameters.get("least_exit")
    if least_exit is not None and not isinstance(least_exit, str):
        raise OipError(Cause.INVALID, f"parameter least_exit = {least_exit!r}: must be the id of an exit")
    timeout_us = _whole(parameters, "timeout", LONGEST_US)
    return Options(timeout_us or None, _whole(parameters, "priority", _LOWEST_PRIORITY), least_exit)


def _whole(parameters: Mapping[str, Parameter], name: str, most: int) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise OipError(Cause.INVALID, f"parameter {name} = {value!r}: must be a whole number from 0 to {most}")
    return value
