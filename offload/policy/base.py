"""The state machine the offloading policies share.

An interval of n windows starts where the last one ended; only there is the deadline sampled:

    n = max(1, floor(Delta / tau)),  at most `max_wait_windows`

Window 1 offloads iff n >= 2, an estimate exists, E_est < E_local and L_est < (n - 1) tau; otherwise it runs locally and
the interval ends with it. With no reply by the end of window n - 1, window n runs locally: the just-in-time fail-safe.
What follows a reply is where the policies differ. A deadline that is not a number counts as none: n = 1.

Two cases the published policies do not have: a request known to have failed (peer lost, refused) makes the next
window the fail-safe, and windows the caller left out count as passed, so that a late caller gets its fail-safe at once.

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (run-time policies).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from offload.estimate import Estimate
from offload.link import WINDOW_S


class Action(StrEnum):
    """What one window is for.

    LOCAL runs the model here, OFFLOAD sends a request, TRANSIT waits for its reply, IDLE does nothing after a reply,
    FAILSAFE_LOCAL runs the model here because no reply came in time; the request still out is to be cancelled.
    """

    LOCAL = "local"
    OFFLOAD = "offload"
    TRANSIT = "transit"
    IDLE = "idle"
    FAILSAFE_LOCAL = "failsafe_local"


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What the policies are told once.

    Args:
        local_energy_j: Energy of one local run [J]; offloading must be expected to take less.
        window_s: Length of a window, tau [s].
        max_wait_windows: Longest interval [windows], however long the deadline.
    """

    local_energy_j: float
    window_s: float = WINDOW_S
    max_wait_windows: int = 10

    def __post_init__(self) -> None:
        for name, value in (("local_energy_j", self.local_energy_j), ("window_s", self.window_s)):
            if not math.isfinite(value) or value <= 0.0:
                raise ValueError(f"{name} = {value!r}: must be a positive number")
        if self.max_wait_windows < 1:
            raise ValueError(f"max_wait_windows = {self.max_wait_windows}: must be at least 1")

    def windows(self, deadline_s: float) -> int:
        """Return n for a deadline of `deadline_s` [s]: its whole windows, at least 1, at most the declared number."""
        if not deadline_s > 0.0:  # a NaN too
            return 1
        return max(1, math.floor(min(deadline_s / self.window_s, self.max_wait_windows)))


class WindowPolicy(Protocol):
    """Decides each window; pure: the caller brings the time, the deadline and the estimate."""

    def begin(self, window: int, deadline_s: float, estimate: Estimate | None) -> Action:
        """Start `window` and return what it is for.

        Args:
            window: Index, greater than at every call before.
            deadline_s: Tolerable deadline now [s].
            estimate: What an offload would cost now; None: unknown, or no edge server is reachable.
        Raises:
            ValueError: `window` was begun before.
        """

    def reply(self, window: int) -> bool:
        """Tell that the reply came in `window`; False where none is waited for any more."""

    def failed(self, window: int) -> bool:
        """Tell in `window` that no reply will come; False where none is waited for any more."""


class IntervalPolicy(ABC):
    """The interval machine; what a window after the reply is for is `_after_reply`'s answer.

    Attributes:
        interval_start: First window of the current interval.
        interval_windows: Its length n [windows].
    """

    def __init__(self, settings: PolicySettings) -> None:
        self._settings = settings
        self._last = -1
        self._state: Action | None = None  # TRANSIT, IDLE (answered), FAILSAFE_LOCAL (known to have failed), or none
        self.interval_start = 0
        self.interval_windows = 1

    def begin(self, window: int, deadline_s: float, estimate: Estimate | None) -> Action:
        """Start `window` and return what it is for; see `WindowPolicy.begin`."""
        if window <= self._last:
            raise ValueError(f"window = {window}: must be greater than {self._last}, the one begun last")
        self._last = window
        last_of_interval = self.interval_start + self.interval_windows - 1
        if self._state is Action.FAILSAFE_LOCAL or (self._state is Action.TRANSIT and window >= last_of_interval):
            self._state = None
            return Action.FAILSAFE_LOCAL
        if self._state is Action.TRANSIT:
            return Action.TRANSIT
        if self._state is Action.IDLE and window <= last_of_interval and self._idles_after_reply():
            return Action.IDLE
        return self._sample(window, deadline_s, estimate)

    def reply(self, window: int) -> bool:
        """Tell that the reply came in `window`; see `WindowPolicy.reply`."""
        return self._leave_transit(Action.IDLE)

    def failed(self, window: int) -> bool:
        """Tell that no reply will come; see `WindowPolicy.failed`."""
        return self._leave_transit(Action.FAILSAFE_LOCAL)

    def _leave_transit(self, state: Action) -> bool:
        if self._state is not Action.TRANSIT:
            return False
        self._state = state
        return True

    @abstractmethod
    def _idles_after_reply(self) -> bool:
        """Whether the windows left after a reply are spent idle."""

    def _sample(self, window: int, deadline_s: float, estimate: Estimate | None) -> Action:
        self.interval_start = window
        self.interval_windows = self._settings.windows(deadline_s)
        if self._may_offload(estimate):
            self._state = Action.TRANSIT
            return Action.OFFLOAD
        self._state = None
        self.interval_windows = 1
        return Action.LOCAL

    def _may_offload(self, estimate: Estimate | None) -> bool:
        return (
            self.interval_windows >= 2
            and estimate is not None
            and estimate.energy_j < self._settings.local_energy_j
            and estimate.latency_s < (self.interval_windows - 1) * self._settings.window_s
        )
