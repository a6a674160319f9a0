"""The local policy: the model runs here in every window."""

from offload.estimate import Estimate
from offload.policy.base import Action, PolicySettings


class LocalPolicy:
    """Runs locally in every window, whatever the deadline and the link."""

    def __init__(self, settings: PolicySettings) -> None:
        self._last = -1

    def begin(self, window: int, deadline_s: float, estimate: Estimate | None) -> Action:
        """Start `window` and return LOCAL; see `WindowPolicy.begin`."""
        if window <= self._last:
            raise ValueError(f"window = {window}: must be greater than {self._last}, the one begun last")
        self._last = window
        return Action.LOCAL

    def reply(self, window: int) -> bool:
        """Return False: no reply is ever waited for."""
        return False

    def failed(self, window: int) -> bool:
        """Return False: no reply is ever waited for."""
        return False
