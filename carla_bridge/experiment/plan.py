"""The experiments: which kinds of episodes each consists of."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import product

from carla_bridge.experiment.episode import SEO_POLICIES, Episode
from carla_bridge.experiment.links import PUBLISHED_LINKS
from offload.policy import POLICIES
from shield.deadline import Method

PUBLISHED_PASS_M = 5.5
"""Where our windows are spread over distance as in the published figure 7 [m]: its shield is given r - 2 m."""

WAITS = (2, 3, 4, 5, 7, 10, 15, 20, 30, 50)
"""Caps on waiting that are swept [windows]."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Kinds of episodes, made from one that holds what the command line says.

    Args:
        title: What it is about.
        kinds: Returns the kinds.
    """

    title: str
    kinds: Callable[[Episode], list[Episode]]


def _table1(base: Episode) -> list[Episode]:
    policies = tuple(POLICIES)
    found = [
        replace(base, policy=policy, shield=shield, noise=noise)
        for policy, shield, noise in product(policies, (False, True), (False, True))
    ]
    return found + _as_far_as_published(replace(base, policy=policy) for policy in ("eager", "uniform"))


def _wireless(base: Episode) -> list[Episode]:
    found = [replace(base, policy=policy, link=link) for policy in ("uniform", "adaptive") for link in PUBLISHED_LINKS]
    return found + _as_far_as_published(found[: len(PUBLISHED_LINKS)])


def _distance(base: Episode) -> list[Episode]:
    found = [replace(base, policy=policy) for policy in ("eager", "uniform")]
    return found + _as_far_as_published(found)


def _waiting(base: Episode) -> list[Episode]:
    return [replace(base, policy="uniform", max_wait_windows=windows) for windows in WAITS]


def _seo(base: Episode) -> list[Episode]:
    cases = ((False, True), (True, True), (True, False))
    return [
        replace(base, policy=policy, shield=shield, obstacles=obstacles)
        for policy in SEO_POLICIES
        for shield, obstacles in cases
    ]


def _as_far_as_published(kinds: Iterable[Episode]) -> list[Episode]:
    """Return the kinds again with obstacles passed as far off as published, where deadlines are the published ones."""
    return [replace(kind, pass_m=PUBLISHED_PASS_M) for kind in kinds if kind.deadline is Method.PUBLISHED]


EXPERIMENTS = {
    "energyshield-table1": Experiment("Policies with and without shield and noise", _table1),
    "energyshield-wireless": Experiment("Links", _wireless),
    "energyshield-distance": Experiment("Energy by distance to the nearest obstacle", _distance),
    "energyshield-waiting": Experiment("Longest wait for one answer", _waiting),
    "seo": Experiment("Several models: offloaded or gated", _seo),
}
"""Every experiment in virtual time that consists of drives."""
