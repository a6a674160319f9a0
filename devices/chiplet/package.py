"""A package: chiplets on a two-dimensional mesh, memory on the left and right, and what a byte's way costs.

    on one chiplet      nothing
    on the package      bytes / 100 GB/s + hops 35 ns,                      2.04 pJ a bit and hop
    to or from memory   bytes / 64 GB/s + hops 35 ns + 200 ns,              14.8 pJ a bit, and its hops

Routes go along the row first. Memory stands at both ends of every row; a chiplet uses the nearer side, and its port is
one hop from the border column. Each side's 64 GB/s are shared by all who use it.

Reference: SCAR, Odema et al., MICRO 2024, arXiv 2405.00790 (all figures, 28 nm).
"""

from dataclasses import dataclass

from devices.chiplet.chip import E_MAC_J, OS_CLUSTER, Chiplet, Dataflow

DRAM_S = 200e-9
DRAM_J_PER_BYTE = 8 * 14.8e-12
DRAM_BYTES_PER_S = 64e9
HOP_S = 35e-9
HOP_J_PER_BYTE = 8 * 2.04e-12
NOP_BYTES_PER_S = 100e9
SIDES = ("left", "right")
PATTERNS = ("ws", "os", "checkerboard", "sides", "centre", "one", "monolithic-ws", "monolithic-os")


@dataclass(frozen=True, slots=True)
class Package:
    """Chiplets in rows, row by row.

    Raises:
        ValueError: The chiplets don't fill rows times columns.
    """

    name: str
    rows: int
    columns: int
    chiplets: tuple[Chiplet, ...]

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1 or len(self.chiplets) != self.rows * self.columns:
            raise ValueError(f"{len(self.chiplets)} chiplets don't fill {self.rows} x {self.columns}")

    def hops(self, source: int, target: int) -> int:
        """Return the links between two chiplets."""
        return abs(source // self.columns - target // self.columns) + abs(source % self.columns - target % self.columns)

    def side(self, chiplet: int) -> str:
        """Return the memory side that a chiplet uses: the nearer one, the left of two alike."""
        column = chiplet % self.columns
        return SIDES[column > self.columns - 1 - column]

    def memory_hops(self, chiplet: int) -> int:
        """Return the links between a chiplet and its memory port."""
        column = chiplet % self.columns
        return 1 + min(column, self.columns - 1 - column)

    def neighbours(self, chiplet: int) -> tuple[int, ...]:
        """Return the chiplets one hop away."""
        return tuple(other for other in range(len(self.chiplets)) if self.hops(chiplet, other) == 1)

    def kinds(self) -> tuple[Dataflow, ...]:
        """Return the dataflows that it has."""
        return tuple(sorted({chiplet.dataflow for chiplet in self.chiplets}))


def make_package(
    pattern: str,
    rows: int,
    columns: int,
    pes: int,
    l2_bytes: int = 10_000_000,
    lanes: int = 1,
    mac_j: float = E_MAC_J,
    os_cluster: int = OS_CLUSTER,
) -> Package:
    """Return a package: all one dataflow, mixed, or the same elements and buffer as one chiplet.

    Args:
        pattern: "ws", "os"; "checkerboard", the two in turn; "sides", output stationary in the border columns;
            "centre", output stationary in all but those; "one", only the middle chiplet;
            "monolithic-ws", "monolithic-os".
        pes, l2_bytes: Of one chiplet.
    Raises:
        ValueError: The pattern is unknown.
    """
    if pattern not in PATTERNS:
        raise ValueError(f"pattern {pattern!r}: one of {', '.join(PATTERNS)}")
    if pattern.startswith("monolithic-"):
        count = rows * columns
        flow_of_all: Dataflow = "ws" if pattern.endswith("ws") else "os"
        whole = Chiplet(flow_of_all, pes * count, l2_bytes * count, lanes=lanes, mac_j=mac_j, os_cluster=os_cluster)
        return Package(pattern, 1, 1, (whole,))

    def flow(place: int) -> Dataflow:
        row, column = divmod(place, columns)
        other = {
            "ws": False,
            "os": True,
            "checkerboard": bool((row + column) % 2),
            "sides": column in (0, columns - 1),
            "centre": 0 < column < columns - 1,
            "one": place == rows * columns // 2,
        }[pattern]
        return "os" if other else "ws"

    chiplets = tuple(
        Chiplet(flow(place), pes, l2_bytes, lanes=lanes, mac_j=mac_j, os_cluster=os_cluster)
        for place in range(rows * columns)
    )
    return Package(pattern, rows, columns, chiplets)
