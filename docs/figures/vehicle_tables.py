"""The tables of docs/vehicles.md, computed from the code as it is and written between that page's markers.

Every vehicle meets the same scenes; a disc's radius and the vehicle's are 4 m together, the radius of the published
barrier, so that all three deadlines speak about the same thing. The second table takes the passenger car and leaves out
its declared bounds one at a time.

    python docs/figures/vehicle_tables.py
"""

import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shield.deadline import Deadline, Method, tolerable_deadline
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle, load_vehicle

PAGE = Path(__file__).resolve().parents[1] / "vehicles.md"
CAP_S = 10.0
TOGETHER_M = 4.0

SCENES = {
    "10 m straight ahead": [(10.0, 0.0)],
    "20 m straight ahead": [(20.0, 0.0)],
    "40 m straight ahead": [(40.0, 0.0)],
    "20 m ahead, 3 m to the left": [(20.0, 3.0)],
    "40 m ahead, 3 m to the left": [(40.0, 3.0)],
    "two: 25 m ahead 3 m to the left, 40 m ahead 4 m to the right": [(25.0, 3.0), (40.0, -4.0)],
    "a gate: both 40 m ahead, 3.5 m to either side": [(40.0, 3.5), (40.0, -3.5)],
}

DRIVES: list[tuple[str, float | None]] = [
    ("config1", None),
    ("config2", None),
    ("passenger_car", None),
    ("passenger_car", 30.0 / 3.6),
]


def ask(method: Method, vehicle: Vehicle, speed: float | None, spots: list[tuple[float, float]]) -> Deadline:
    """Return the deadline of driving straight on among discs of `TOGETHER_M` less the vehicle's radius."""
    discs = [Disc(x, y, TOGETHER_M - vehicle.radius_m) for x, y in spots]
    return tolerable_deadline(method, vehicle, State(0.0, 0.0, 0.0, 0.0, speed), discs, CAP_S)


def milliseconds(found: Deadline) -> str:
    return "cap" if found.deadline_s >= CAP_S else f"{1e3 * found.deadline_s:.0f}"


def scene_rows() -> Iterator[str]:
    """Yield the table of scenes."""
    yield "| scene | vehicle, speed | `published` | `barrier` | `backup` | `backup` is limited by | due then |"
    yield "|---|---|---:|---:|---:|---|---|"
    for scene, spots in SCENES.items():
        for name, speed in DRIVES:
            vehicle = load_vehicle(name)
            found = {method: ask(method, vehicle, speed, spots) for method in Method}
            cells = [milliseconds(found[method]) for method in Method]
            if not found[Method.BARRIER].guarantee and found[Method.BARRIER].deadline_s > 0.0:
                cells[1] += "*"
            last = found[Method.BACKUP]
            driven = "any speed" if speed is None else f"{3.6 * speed:.0f} km/h"
            due = "nothing certified" if last.manoeuvre is None else f"`{last.manoeuvre}`"
            yield f"| {scene} | {name}, {driven} | {' | '.join(cells)} | `{last.limited_by}` | {due} |"


def bound_rows() -> Iterator[str]:
    """Yield what the passenger car's deadline becomes without each of its bounds."""
    vehicle = load_vehicle("passenger_car")
    spots, speed = SCENES["40 m straight ahead"], 30.0 / 3.6
    yield "| left out | declared | deadline [ms] | due then |"
    yield "|---|---:|---:|---|"
    with_all = ask(Method.BACKUP, vehicle, speed, spots)
    yield f"| nothing | | {milliseconds(with_all)} | `{with_all.manoeuvre}` |"
    rows = []
    for item in fields(Bounds):
        value = getattr(vehicle.bounds, item.name)
        if value == item.default:
            continue
        without = replace(vehicle, bounds=replace(vehicle.bounds, **{item.name: item.default}))
        rows.append((ask(Method.BACKUP, without, speed, spots), item.name, value))
    for found, name, value in sorted(rows, key=lambda row: -row[0].deadline_s):
        yield f"| `{name}` | {value:g} | {milliseconds(found)} | `{found.manoeuvre}` |"
    bare = ask(Method.BACKUP, replace(vehicle, bounds=Bounds()), speed, spots)
    yield f"| all of them | | {milliseconds(bare)} | `{bare.manoeuvre}` |"


def put(text: str, name: str, rows: Iterator[str]) -> str:
    """Return a page with the rows between its markers `name`."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, rest = text.split(begin)
    return before + begin + "\n" + "\n".join(rows) + "\n\n" + end + rest.split(end)[1]


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    text = put(put(text, "scenes", scene_rows()), "bounds", bound_rows())
    PAGE.write_text(text, encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
