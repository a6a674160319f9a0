"""How urgent a request is to the queue of a device: earliest deadline first, then highest priority."""

import math

from devices.edf import EdfQueue, Entry, Urgency

__all__ = ["EdfQueue", "Entry", "Urgency", "urgency"]


def urgency(deadline_ns: int | None, priority: int) -> Urgency:
    """Return a key that is less the more urgent a request is; no deadline is the least urgent."""
    return (math.inf if deadline_ns is None else deadline_ns, -priority)
