"""`headway deadline`: states in, tolerable deadlines out, one JSON object a line.

A line in has either the polar form {"r", "xi", "beta"}, with one obstacle whose disc, vehicle included, has the radius
r_bar_m of the vehicle file, or {"x", "y", "heading", "beta", "obstacles": [{"x", "y", "radius", "speed_max"}]} with
speed_max optional; "speed" is optional in both. Units are SI, angles radians.

A line out is {"deadline_s", "limited_by", "manoeuvre"}, or {"error"} where the line in cannot be answered.
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from shield.deadline import Method, tolerable_deadline
from shield.state import Disc, State
from shield.vehicle import Vehicle, load_vehicle

_POLAR = frozenset(("r", "xi", "beta"))
_CARTESIAN = frozenset(("x", "y", "heading", "beta", "obstacles"))
_OBSTACLE = frozenset(("x", "y", "radius"))


def deadline(
    method: Annotated[Method, typer.Option(help="Which deadline")] = Method.BACKUP,
    vehicle: Annotated[str, typer.Option(help="A vehicle file, or a shipped vehicle's name")] = "config1",
    cap: Annotated[float, typer.Option(help="Longest deadline asked about [s]")] = 10.0,
    states: Annotated[Path | None, typer.Argument(help="JSON Lines of states; default stdin")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="The default, and the only form there is")] = True,
) -> None:
    """Say for each state how long its slip angle may be held.

    {"r": 12.0, "xi": 3.0, "beta": 0.1} gives {"deadline_s": ..., "limited_by": ..., "manoeuvre": ...}; a line that
    cannot be answered gives {"error": ...} in its place, and exit code 1 at the end.
    """
    if not 0.0 < cap < math.inf:
        raise typer.BadParameter(f"{cap}: must be a finite number above zero", param_hint="--cap")
    loaded = load_vehicle(vehicle)
    if method is not Method.BACKUP and loaded.barrier is None:
        raise typer.BadParameter(f"{method} needs a [barrier] in the vehicle file", param_hint="--method")
    try:
        source = sys.stdin.buffer if states is None else states.open("rb")
    except OSError as error:
        raise typer.BadParameter(f"cannot read {states}: {error.strerror}", param_hint="STATES") from error
    failed = False
    with source:
        for answer in answers(source, method, loaded, cap):
            failed = failed or "error" in answer
            typer.echo(json.dumps(answer))
    if failed:
        raise typer.Exit(1)


def answers(lines: BinaryIO, method: Method, vehicle: Vehicle, cap_s: float) -> Iterator[dict[str, Any]]:
    """Yield one answer for every line, in order."""
    for line in lines:
        try:
            state, obstacles = parse_line(line, vehicle)
            found = tolerable_deadline(method, vehicle, state, obstacles, cap_s)
        except ValueError as error:
            yield {"error": str(error)}
        else:
            yield {"deadline_s": found.deadline_s, "limited_by": found.limited_by, "manoeuvre": found.manoeuvre}


def parse_line(line: bytes, vehicle: Vehicle) -> tuple[State, list[Disc]]:
    """Read one line.

    Raises:
        ValueError: not JSON, a key missing or unknown, or a value that is no finite number.
    """
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON object: {error}") from error
    if not isinstance(item, dict):
        raise ValueError(f"not a JSON object but {type(item).__name__}")
    if "r" in item or "xi" in item:
        _require_keys(item, _POLAR, {"speed"}, "a polar line")
        return _from_polar(item, vehicle)
    _require_keys(item, _CARTESIAN, {"speed"}, "a line")
    x, y, heading, beta = (_number(item, key) for key in ("x", "y", "heading", "beta"))
    if not isinstance(item["obstacles"], list):
        raise ValueError(f"obstacles = {item['obstacles']!r}: must be a list")
    discs = [_disc(index, obstacle) for index, obstacle in enumerate(item["obstacles"])]
    return State(x, y, heading, beta, _speed(item)), discs


def _from_polar(item: dict[str, Any], vehicle: Vehicle) -> tuple[State, list[Disc]]:
    if vehicle.barrier is None or vehicle.barrier.r_bar_m < vehicle.radius_m:
        raise ValueError(
            "the polar form needs a [barrier] whose r_bar_m holds the vehicle's radius_m: give x, y, heading"
        )
    r, xi = _number(item, "r"), _number(item, "xi")
    if r <= 0.0:
        raise ValueError(f"r = {r}: must be above zero")
    state = State(r * math.cos(xi), r * math.sin(xi), 0.0, _number(item, "beta"), _speed(item))
    return state, [Disc(0.0, 0.0, vehicle.barrier.r_bar_m - vehicle.radius_m)]


def _disc(index: int, item: object) -> Disc:
    if not isinstance(item, dict):
        raise ValueError(f"obstacle {index} = {item!r}: must be an object")
    _require_keys(item, _OBSTACLE, {"speed_max"}, f"obstacle {index}")
    speed = _number(item, "speed_max") if "speed_max" in item else 0.0
    return Disc(_number(item, "x"), _number(item, "y"), _number(item, "radius"), speed)


def _require_keys(item: dict[str, Any], needed: frozenset[str], optional: set[str], what: str) -> None:
    missing, unknown = sorted(needed - item.keys()), sorted(item.keys() - needed - optional)
    if missing:
        raise ValueError(f"{what} lacks {', '.join(missing)}: it needs {', '.join(sorted(needed))}")
    if unknown:
        raise ValueError(
            f"{what} has unknown keys {', '.join(unknown)}: known are {', '.join(sorted(needed | optional))}"
        )


def _speed(item: dict[str, Any]) -> float | None:
    return _number(item, "speed") if item.get("speed") is not None else None


def _number(item: dict[str, Any], key: str) -> float:
    value = item[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{key} = {value!r}: must be a finite number")
    return float(value)
