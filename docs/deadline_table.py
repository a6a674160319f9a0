"""Print the table of docs/deadlines.md: python docs/deadline_table.py"""

import math
from collections.abc import Iterator

from shield.deadline import Method, tolerable_deadline
from shield.state import Disc, State
from shield.vehicle import load_vehicle

DISTANCES_M = (10.0, 15.0, 20.0, 30.0, 45.0, 60.0)
XI_RAD = 3.0
CAP_S = 10.0


def rows() -> Iterator[str]:
    """Yield the lines of the table: one disc a little to the right of straight ahead, the wheel held straight."""
    yield "| vehicle | deadline | " + " | ".join(f"r = {r:g} m" for r in DISTANCES_M) + " |"
    yield "|---|---|" + "---:|" * len(DISTANCES_M)
    for name in ("config1", "config2", "passenger_car"):
        vehicle = load_vehicle(name)
        if vehicle.barrier is None:
            raise ValueError(f"{name} declares no [barrier]")
        disc = Disc(0.0, 0.0, vehicle.barrier.r_bar_m - vehicle.radius_m)
        for method in Method:
            cells = []
            for r in DISTANCES_M:
                state = State(r * math.cos(XI_RAD), r * math.sin(XI_RAD), 0.0)
                seconds = tolerable_deadline(method, vehicle, state, [disc], CAP_S).deadline_s
                cells.append("10 (cap)" if seconds >= CAP_S else "0" if seconds == 0.0 else f"{seconds:.3f}")
            yield f"| {name} | `{method}` | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print("\n".join(rows()))
