"""Width stages or whole blocks on a GPU and two DLAs with DVFS and exits (the settings of Map-and-Conquer and MaGNAS).

Of the Jetson AGX Xavier only whole-network totals are public. A segment's share of them is declared:

    t(segment, unit) = T_unit [ fixed / groups + (1 - fixed) macs / whole_macs ]

where `fixed` is the part of a layer group's time that a narrower slice does not save (launches, reading features).
With linear scaling alone (fixed = 0) splitting would cost nothing and any claim would pass. A level at the fraction r
of the highest clock is declared, too:

    time x (beta + (1 - beta) / r),   power x (s + (1 - s) r^3)

with beta the share of the time that waits for memory and s the share of the power that doesn't follow the clock. The
GPU's clocks are the board's published grid.

Reference: Bouzidi et al., Map-and-Conquer, DAC 2023, arXiv 2302.12926; MaGNAS, arXiv 2307.08065.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from devices.profile import Profile, load_profile
from runtime.plan.graphs import Graph
from runtime.plan.problem import Cost, Device, Exit, Link, Memory, Model, Problem, Segment

GPU_MHZ = (1377.0, 1032.75, 828.75, 522.75)
TRANSITION_S, SHARED_RATE_BPS = 0.07351e-3, 256e9
"""The longest transition published between GPU and DLA; features are shared in memory at 32 GB/s (declared)."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is declared, for want of public figures.

    Args:
        fixed: Share of a layer group's time that a slice of any width takes.
        waiting: Share of the time that does not follow the clock.
        static: Share of the power that does not follow the clock.
        shared_bytes: Memory for features that cross between units; None for no limit.
    """

    fixed: float = 0.2
    waiting: float = 0.2
    static: float = 0.3
    shared_bytes: float | None = None

    def __str__(self) -> str:
        return (
            f"declared: {self.fixed:.0%} of a group's time and energy does not shrink with the width, "
            f"{self.waiting:.0%} of the time and {self.static:.0%} of the power do not follow the clock, "
            f"a crossing takes {1e3 * TRANSITION_S} ms and its bytes at {SHARED_RATE_BPS / 8e9:.0f} GB/s"
        )


@dataclass(frozen=True, slots=True)
class Total:
    """A whole network's published time [s] and energy [J] on one unit."""

    time_s: float
    energy_j: float


def published_totals(profile: Profile | None = None) -> dict[str, Total]:
    """Return the totals of Visformer (CIFAR-100) on GPU and DLA of the AGX Xavier."""
    board = profile or load_profile("jetson_agx_xavier")
    totals = {}
    for unit in ("gpu", "dla"):
        entry = board.figures("Visformer", "CIFAR-100", unit)
        energy = entry.energy.value if entry.energy is not None else 0.0
        totals[unit] = Total(entry.latency.value, energy)
    return totals


def xavier_widths(
    graph: Graph,
    whole_macs: int,
    groups: int,
    *,
    exits: Sequence[Exit] = (),
    assumptions: Assumptions | None = None,
) -> Problem:
    """Return the problem of placing a partitioned network on GPU, DLA 0 and DLA 1.

    Args:
        graph: The package's segments, (stage, group) each, or the blocks of a network that is not partitioned.
        whole_macs: Multiply-accumulates of the network before it was partitioned.
        groups: Layer groups that it was cut into.
        exits: Shares and accuracies as measured; the graph's own where not given.
    """
    declared = assumptions or Assumptions()
    totals = published_totals()
    levels = tuple(f"{mhz:g} MHz" for mhz in GPU_MHZ)
    devices = (Device("gpu", levels), Device("dla0"), Device("dla1"))
    segments = []
    for name in graph.segments:
        part = declared.fixed / groups + (1.0 - declared.fixed) * graph.macs[name] / whole_macs
        gpu = tuple(_level(totals["gpu"], part, mhz / GPU_MHZ[0], declared) for mhz in GPU_MHZ)
        dla = _level(totals["dla"], part, 1.0, declared)
        segments.append(Segment(name, {"gpu": gpu, "dla0": dla, "dla1": dla}))
    names = [device.name for device in devices]
    links = tuple(Link(a, b, TRANSITION_S, SHARED_RATE_BPS) for a, b in combinations(names, 2))
    limit = declared.shared_bytes
    memories = () if limit is None else (Memory("shared", limit, tuple(names), "transfers"),)
    chosen = tuple(exits) or graph.exits
    return Problem(
        graph.name,
        devices,
        (Model(graph.name, tuple(segments), graph.edges, chosen),),
        links,
        memories,
        latency="expected" if chosen else "worst",
        source=f"totals of Visformer on the AGX Xavier (arXiv 2302.12926, second-hand); {declared}",
    )


def _level(total: Total, part: float, speed: float, declared: Assumptions) -> Cost:
    slower = declared.waiting + (1.0 - declared.waiting) / speed
    power = declared.static + (1.0 - declared.static) * speed**3
    return Cost(part * total.time_s * slower, energy_j=part * total.energy_j * slower * power)
