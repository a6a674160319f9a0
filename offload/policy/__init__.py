"""Run-time policies: what to do with each window of 20 ms.

One file a policy; `base` holds what they share. `make_policy` builds one by its name.
"""

from offload.policy.base import Action, IntervalPolicy, PolicySettings, WindowPolicy
from offload.policy.eager import EagerPolicy
from offload.policy.local import LocalPolicy
from offload.policy.uniform import UniformPolicy

__all__ = [
    "POLICIES",
    "Action",
    "EagerPolicy",
    "IntervalPolicy",
    "LocalPolicy",
    "PolicySettings",
    "UniformPolicy",
    "WindowPolicy",
    "make_policy",
]

POLICIES: dict[str, type[LocalPolicy | EagerPolicy | UniformPolicy]] = {
    "local": LocalPolicy,
    "eager": EagerPolicy,
    "uniform": UniformPolicy,
}


def make_policy(name: str, settings: PolicySettings) -> WindowPolicy:
    """Return a new policy by its name: "local", "eager" or "uniform".

    Raises:
        ValueError: no such policy.
    """
    if name not in POLICIES:
        raise ValueError(f"no policy is called {name!r}: there are {', '.join(POLICIES)}")
    return POLICIES[name](settings)
