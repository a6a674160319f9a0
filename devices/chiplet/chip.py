"""A chiplet: processing elements with one dataflow, a shared buffer, a clock; and what one access costs.

    energy = e_mac (MACs + 1.68 (L1 reads + writes) + 18.61 (L2 reads + writes))

Reference: MAESTRO (Kwon et al., MICRO 2019): the two factors. Horowitz, ISSCC 2014: 0.2 pJ for an 8-bit multiply,
0.1 pJ for a 32-bit add in 45 nm, taken as they are, without scaling to a smaller node. SCAR (arXiv 2405.00790):
500 MHz, 10 MB a chiplet, 4096 elements in a data centre and 256 in a headset. MAESTRO's samples: 4 elements a cycle
and processing element between buffer and array (1024 for 256). Its default of one multiplier in an element is ours.
"""

from dataclasses import dataclass
from typing import Literal

Dataflow = Literal["ws", "os"]

E_MAC_J = 0.3e-12
L1_FACTOR = 1.68
L2_FACTOR = 18.61
WS_CLUSTER = 64
"""Elements of a weight-stationary cluster: they share an output channel and split the input channels."""
OS_CLUSTER = 8
"""Elements of an output-stationary cluster: they share an output row and split the columns."""


@dataclass(frozen=True, slots=True)
class Chiplet:
    """One chiplet.

    Args:
        dataflow: "ws", weight stationary as NVDLA; "os", output stationary as ShiDianNao.
        pes: Processing elements.
        lanes: Multipliers in an element.
        noc_elements: Elements a cycle between buffer and array; four a processing element where not given.
        mac_j: Energy of one multiply-accumulate [J], in which MAESTRO counts the rest.
        os_cluster: Elements of an output-stationary cluster.
    Raises:
        ValueError: `pes` is no whole number of the dataflow's clusters, or a figure is not above 0.
    """

    dataflow: Dataflow
    pes: int
    l2_bytes: int = 10_000_000
    clock_hz: float = 500e6
    lanes: int = 1
    noc_elements: int = 0
    mac_j: float = E_MAC_J
    os_cluster: int = OS_CLUSTER

    def __post_init__(self) -> None:
        if self.dataflow not in ("ws", "os"):
            raise ValueError(f"dataflow {self.dataflow!r}: ws or os")
        if self.os_cluster < 1:
            raise ValueError(f"os_cluster = {self.os_cluster}: must be at least 1")
        cluster = WS_CLUSTER if self.dataflow == "ws" else self.os_cluster
        if self.pes < cluster or self.pes % cluster:
            raise ValueError(f"{self.pes} elements: must be a multiple of the {self.dataflow} cluster, {cluster}")
        if self.l2_bytes < 1 or self.lanes < 1 or self.noc_elements < 0 or not min(self.clock_hz, self.mac_j) > 0.0:
            raise ValueError(f"buffer, lanes, clock and energy must be above 0: {self}")

    @property
    def noc(self) -> int:
        """Elements a cycle between buffer and array."""
        return self.noc_elements or 4 * self.pes


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What a layer costs on a chiplet, operands in its buffer.

    Args:
        l1, l2: Accesses, reads and writes together.
    """

    cycles: int
    macs: int
    l1: int
    l2: int

    def energy_j(self, chiplet: Chiplet) -> float:
        """Return the energy, by the chiplet's energy of a multiply-accumulate [J]."""
        return chiplet.mac_j * (self.macs + L1_FACTOR * self.l1 + L2_FACTOR * self.l2)

    def time_s(self, chiplet: Chiplet) -> float:
        """Return the time at the chiplet's clock [s]."""
        return self.cycles / chiplet.clock_hz
