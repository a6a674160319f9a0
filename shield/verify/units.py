"""The pieces of a verification: a unit for each claim about the barrier, for each column and each ring of the grid.

A unit's outcome depends on the vehicle and the settings alone, so that units can run in any order, on any core, be
picked up after an interrupt and be checked again one by one.
"""

import math
import random
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from flint import ctx

from shield import certificate
from shield.deadline import Deadline, Method, tolerable_deadline
from shield.manoeuvre import grip_slip_rad
from shield.state import Disc, State
from shield.vehicle import Vehicle
from shield.verify import claims
from shield.verify.cells import PRECISION_BITS, Cell, prove, split
from shield.verify.deadlines import reference_radius_m, sound, unsupported
from shield.verify.everywhere import decide, own_forms
from shield.verify.whole import Boxes, followed, prove_ring
from shield.verify.worst import follows, sound_under_bounds

LEAST_WIDTH = 2.0**-20
"""Share of a box's side below which an undecided cell of a claim is given up."""

CLAIMS = {
    "admissible": (claims.admissible_box, claims.admissible),
    "inclusion": (claims.inclusion_box, claims.inclusion),
    "rounding": (claims.rounding_box, claims.rounding),
}

DEADLINES = "deadlines"

EVERYWHERE = "everywhere"

CELLS = "cells"

SMALLEST_SHARE = 0.125
"""Share of a cell's side below which `everywhere` gives up."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How finely to look.

    Args:
        cells: Grid cells in r (geometric), xi and beta.
        states: Seeded states a cell, besides its centre.
        farthest_m: Largest distance of the grid [m].
        cap_s: Cap of the deadlines asked for [s].
        whole_cap_s: Cap of those that `cells` proves whole cells of [s].
        seed: Of the states.
        halvings: How often a cell of the outermost ring is halved at most in proving it whole; cells of other rings
            down to leaves of the same volume.
    """

    cells: tuple[int, int, int] = certificate.CELLS
    states: int = certificate.STATES
    farthest_m: float = certificate.FARTHEST_M
    cap_s: float = certificate.CAP_S
    whole_cap_s: float = 4.0
    seed: int = 1
    halvings: int = 14


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one unit.

    Args:
        unit: Its name: that of a claim, "deadlines/<column>", "everywhere/<ring>" or "cells/<method>/<ring>".
        result: "proved", "partly proved", "refuted" or "undecided".
        cells, states: How many were looked at.
        counter_example: Cell or state that the proof failed with, or None.
        volume: Of "cells": volume proved [m rad^2].
        open_cells: Of "cells": indices in the ring of the cells not wholly proved.
    """

    unit: str
    result: str
    cells: int
    states: int = 0
    counter_example: Any = None
    volume: float = 0.0
    open_cells: list[int] = field(default_factory=list)

    @property
    def claim(self) -> str:
        """Name of the claim the unit belongs to."""
        return self.unit.split("/")[0]


def unit_names(vehicle: Vehicle, settings: Settings) -> list[str]:
    """Return the units of a verification, in the order of the certificate."""
    names = list(CLAIMS) if Method.BARRIER in methods(vehicle) else ["rounding"]
    names += [f"{EVERYWHERE}/{ring}" for ring in range(settings.cells[0])]
    if not left_out(vehicle):
        columns = settings.cells[0] * settings.cells[1]
        names += [f"{DEADLINES}/{column}" for column in range(columns)]
    if followed(vehicle):
        names += [f"{CELLS}/{method}/{ring}" for method in methods(vehicle) for ring in range(settings.cells[0])]
    return names


def run_unit(vehicle: Vehicle, settings: Settings, unit: str) -> Outcome:
    """Carry out one unit.

    Raises:
        ValueError: there is no such unit.
    """
    ctx.prec = PRECISION_BITS
    if unit not in unit_names(vehicle, settings):
        raise ValueError(f"unit {unit!r}: vehicle {vehicle.name!r} has no such unit with these settings")
    if unit in CLAIMS:
        box, decide = CLAIMS[unit]
        proof = prove(box(vehicle), partial(decide, vehicle), LEAST_WIDTH)
        result = "proved" if proof.proved else "refuted" if proof.refuted else "undecided"
        return Outcome(unit, result, proof.cells, counter_example=_plain(proof.counter_example))
    if unit.startswith(EVERYWHERE):
        return _run_everywhere(vehicle, settings, unit, int(unit.split("/")[1]))
    if unit.startswith(CELLS):
        _, method, ring = unit.split("/")
        return _run_ring(vehicle, settings, unit, Method(method), int(ring))
    return _run_column(vehicle, settings, unit, int(unit.split("/")[1]))


def _run_everywhere(vehicle: Vehicle, settings: Settings, unit: str, ring: int) -> Outcome:
    if wrong := own_forms():
        return Outcome(unit, "refuted", 0, counter_example={"formula": wrong})
    _, *sides = domain(vehicle, settings)
    looked, verdict = 0, partial(decide, vehicle, settings.cap_s * vehicle.v_max_mps)
    for cell in split((_ring(vehicle, settings, ring), *sides), (1, *settings.cells[1:])):
        proof = prove(cell, verdict, SMALLEST_SHARE)
        looked += proof.cells
        if not proof.proved:
            return Outcome(unit, "undecided", looked, counter_example=_plain(proof.counter_example))
    return Outcome(unit, "proved", looked)


def _ring(vehicle: Vehicle, settings: Settings, ring: int) -> tuple[float, float]:
    """Return one geometric step of r [m]."""
    near, far = domain(vehicle, settings)[0]
    ratio, count = far / near, settings.cells[0]
    return near * ratio ** (ring / count), far if ring + 1 == count else near * ratio ** ((ring + 1) / count)


def _run_ring(vehicle: Vehicle, settings: Settings, unit: str, method: Method, ring: int) -> Outcome:
    cells = ring_cells(vehicle, settings, ring)

    def ask(state: State) -> Deadline:
        disc = Disc(0.0, 0.0, reference_radius_m(vehicle) - vehicle.radius_m)
        return tolerable_deadline(method, vehicle, state, [disc], settings.whole_cap_s)

    last = ring_cells(vehicle, settings, settings.cells[0] - 1)
    floor = float(last.volume().max()) / 2.0**settings.halvings
    found = prove_ring(vehicle, method, cells, settings.whole_cap_s * vehicle.v_max_mps, floor, ask)
    result = "proved" if not found.open_cells else "partly proved"
    if found.contradiction is not None:
        names = ("r_m", "xi_rad", "beta_rad")
        example = {"method": str(method), **dict(zip(names, found.contradiction, strict=True))}
        return Outcome(unit, "refuted", len(cells), found.states, example)
    return Outcome(unit, result, len(cells), found.states, None, found.volume, found.open_cells)


def ring_cells(vehicle: Vehicle, settings: Settings, ring: int) -> Boxes:
    """Return the cells of one step of r with xi >= 0, every beta; negative xi follows by mirroring beta with it."""
    beta = domain(vehicle, settings)[2]
    steps = (settings.cells[1] + 1) // 2, settings.cells[2]
    table = np.array(split((_ring(vehicle, settings, ring), (0.0, math.pi), beta), (1, *steps)))
    centre, half = table.mean(axis=2), 0.5 * np.diff(table, axis=2)[:, :, 0]
    # Widths a grain larger, so that rounded centres leave no gap.
    return Boxes(*centre.T, *(half * (1.0 + 1e-12)).T)


def _run_column(vehicle: Vehicle, settings: Settings, unit: str, column: int) -> Outcome:
    states = 0
    cells = column_cells(vehicle, settings, column)
    for cell in cells:
        for index, (r_m, xi_rad, beta_rad) in enumerate(states_of(cell, settings, column)):
            speed = None if index == 0 else _measured(vehicle, settings, column, cell, index)
            state = State(r_m * math.cos(xi_rad), r_m * math.sin(xi_rad), 0.0, beta_rad, speed)
            for method in methods(vehicle):
                states += 1
                if not _sound_at(vehicle, settings, method, state):
                    example = {"method": str(method), "r_m": r_m, "xi_rad": xi_rad, "beta_rad": beta_rad}
                    if speed is not None:
                        example["speed_mps"] = speed
                    return Outcome(unit, "undecided", len(cells), states, example)
    return Outcome(unit, "proved", len(cells), states)


def _measured(vehicle: Vehicle, settings: Settings, column: int, cell: Cell, index: int) -> float | None:
    """Return the measured speed of a seeded state [m/s]; it matters only where the acceleration is bounded."""
    if vehicle.a_max_mps2 is None:
        return None
    return random.Random(f"{settings.seed} {column} {cell[2][0]!r} {index}").uniform(0.0, vehicle.v_max_mps)


def _sound_at(vehicle: Vehicle, settings: Settings, method: Method, state: State) -> bool:
    disc = Disc(0.0, 0.0, reference_radius_m(vehicle) - vehicle.radius_m)
    found = tolerable_deadline(method, vehicle, state, [disc], settings.cap_s)
    if unsupported(vehicle):
        return sound_under_bounds(vehicle, (state.x_m, state.y_m), state.beta_rad, found, state.speed_mps)
    return sound(vehicle, method, (state.x_m, state.y_m), state.beta_rad, found, state.speed_mps)


def left_out(vehicle: Vehicle) -> list[str]:
    """Return the declared bounds because of which no proof of single deadlines follows the vehicle."""
    return follows(vehicle) if unsupported(vehicle) else []


def methods(vehicle: Vehicle) -> tuple[Method, ...]:
    """Return the deadlines that are proved for a vehicle: `barrier` only where its disc stands still and is seen."""
    plain = vehicle.barrier is not None and not unsupported(vehicle)
    return (Method.BARRIER, Method.BACKUP) if plain else (Method.BACKUP,)


def domain(vehicle: Vehicle, settings: Settings) -> Cell:
    """Return the ranges of r [m], xi and beta [rad] that the grid covers; no other slip angle may be held at all."""
    beta = grip_slip_rad(vehicle)
    return (reference_radius_m(vehicle), settings.farthest_m), (-math.pi, math.pi), (-beta, beta)


def column_cells(vehicle: Vehicle, settings: Settings, column: int) -> list[Cell]:
    """Return the cells of one column: a step of r, a step of xi, every beta."""
    _, xi, beta = domain(vehicle, settings)
    ring, j = divmod(column, settings.cells[1])
    sector = split((xi,), (settings.cells[1],))[j][0]
    return split((_ring(vehicle, settings, ring), sector, beta), (1, 1, settings.cells[2]))


def states_of(cell: Cell, settings: Settings, column: int) -> list[tuple[float, float, float]]:
    """Return the states (r, xi, beta) looked at in a cell: its centre and `settings.states` seeded ones."""
    rng = random.Random(f"{settings.seed} {column} {cell[2][0]!r}")
    centre = [0.5 * (low + high) for low, high in cell]
    drawn = [[rng.uniform(low, high) for low, high in cell] for _ in range(settings.states)]
    return [(r, xi, beta) for r, xi, beta in [centre, *drawn]]


def _plain(cell: Cell | None) -> list[list[float]] | None:
    return None if cell is None else [list(side) for side in cell]
