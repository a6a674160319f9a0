"""The eager policy: after a reply, sample the deadline again at the next window.

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (eager).
"""

from offload.policy.base import IntervalPolicy


class EagerPolicy(IntervalPolicy):
    """Answers as often as the link allows: a reply ends the interval."""

    def _idles_after_reply(self) -> bool:
        return False
