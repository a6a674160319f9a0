"""Run-time policies: what to do with each window of 20 ms.

One file a policy; `base` holds what they share. `make_policy` builds one by its name, `make_estimator` the
estimator that goes with it. `seo` is for several models at once and has an interface of its own.
"""

from offload.estimate import ChannelEstimator
from offload.policy.adaptive import AdaptivePolicy
from offload.policy.base import Action, IntervalPolicy, PolicySettings, WindowPolicy
from offload.policy.eager import EagerPolicy
from offload.policy.local import LocalPolicy
from offload.policy.outlook import Outlook, OutlookEstimator
from offload.policy.seo import Saving, SeoPolicy, Task
from offload.policy.uniform import UniformPolicy
from offload.radio import Radio

__all__ = [
    "POLICIES",
    "PUBLISHED_POLICIES",
    "Action",
    "AdaptivePolicy",
    "EagerPolicy",
    "IntervalPolicy",
    "LocalPolicy",
    "Outlook",
    "OutlookEstimator",
    "PolicySettings",
    "Saving",
    "SeoPolicy",
    "Task",
    "UniformPolicy",
    "WindowPolicy",
    "make_estimator",
    "make_policy",
]

POLICIES: dict[str, type[LocalPolicy | EagerPolicy | UniformPolicy | AdaptivePolicy]] = {
    "local": LocalPolicy,
    "eager": EagerPolicy,
    "uniform": UniformPolicy,
    "adaptive": AdaptivePolicy,
}

PUBLISHED_POLICIES = ("local", "eager", "uniform")
"""Those of EnergyShield."""


def make_policy(name: str, settings: PolicySettings) -> WindowPolicy:
    """Return a new policy by its name: "local", "eager", "uniform" or "adaptive".

    Raises:
        ValueError: no such policy.
    """
    if name not in POLICIES:
        raise ValueError(f"no policy is called {name!r}: there are {', '.join(POLICIES)}")
    return POLICIES[name](settings)


def make_estimator(name: str, radio: Radio) -> ChannelEstimator:
    """Return a new estimator for the policy called `name`: the published means, for "adaptive" with courses."""
    return OutlookEstimator(radio) if name == "adaptive" else ChannelEstimator(radio)
