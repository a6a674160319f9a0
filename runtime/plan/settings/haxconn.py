"""Two networks that share a GPU and a DLA: GoogLeNet and AlexNet by layer groups on the Jetson AGX Xavier.

Times of the groups and GoogLeNet's transitions are the published ones of the shipped profile. Assumed: AlexNet's
transitions take the longest published one each way; units that work side by side slow each other by `factor`.

Reference: Dagli, Belviranli: HaX-CoNN, PPoPP 2024, arXiv 2308.05869.
"""

from itertools import product

import msgspec

from devices.profile import load_profile
from runtime.plan.graphs import chain_graph
from runtime.plan.problem import Contention, Link, Problem
from runtime.plan.profiles import Surroundings, problem_of

MODELS = ("GoogLeNet", "AlexNet")
TRANSITION_S = 0.07351e-3
"""The longest transition published for GoogLeNet [s]."""
PUBLISHED_PAIRS_MS = {
    "GoogLeNet + ResNet101": (8.1, 10.2, 7.8),
    "Inception + ResNet152": (18.1, 16.7, 14.4),
    "AlexNet + ResNet101": (13.4, 10.4, 8.4),
    "VGG19 + ResNet152": (15.6, 18.6, 13.6),
}
"""GPU alone, best other, HaX-CoNN [ms]; quoted: the tables of these networks' layers are not public."""


def shared_xavier(factor: float = 1.0, models: tuple[str, ...] = MODELS, copies: int = 1) -> Problem:
    """Return the problem of running `copies` of each model side by side on GPU and DLA.

    Args:
        factor: What both units take the longer while both work, at least 1.
    """
    profile = load_profile("jetson_agx_xavier")
    contention = (Contention(("gpu", "dla"), factor),) if factor > 1.0 else ()
    around = Surroundings(links=(Link("gpu", "dla", latency_s=TRANSITION_S),), contention=contention)
    problem = problem_of([chain_graph(profile, name) for name in models], [profile], around, units=("gpu", "dla"))
    named = [
        msgspec.structs.replace(model, name=f"{model.name} {index + 1}" if copies > 1 else model.name)
        for model, index in product(problem.models, range(copies))
    ]
    return msgspec.structs.replace(problem, models=tuple(named))
