"""The uniform policy: after a reply, idle until the interval ends with window n.

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (uniform).
"""

from offload.policy.base import IntervalPolicy


class UniformPolicy(IntervalPolicy):
    """One answer an interval: what the deadline leaves after the reply is spent idle, at 0 mJ."""

    def _idles_after_reply(self) -> bool:
        return True
