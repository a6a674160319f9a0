"""Checking a certificate again: from scratch, or a seeded sample of its units."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from shield.certificate import Claim, VehicleCertificate
from shield.errors import CertificateError, VehicleFileError
from shield.vehicle import Barrier, Bounds, Vehicle
from shield.verify.run import Progress, assemble, run_units, sources, versions
from shield.verify.units import CELLS, CLAIMS, DEADLINES, EVERYWHERE, Settings, unit_names


@dataclass(frozen=True, slots=True)
class Check:
    """What checking came to.

    Args:
        units: How many units were carried out again.
        of: How many there are.
        claims: Of each claim, how many of its units were carried out again and how many there are.
        disagreements: What came out otherwise than the certificate says; empty when it stands.
        stale: Sources or versions that differ from those the certificate was made with.
    """

    units: int
    of: int
    claims: Mapping[str, tuple[int, int]]
    disagreements: tuple[str, ...]
    stale: tuple[str, ...]


def check(
    certificate: VehicleCertificate,
    *,
    sample: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Check:
    """Carry out a certificate's units again and compare.

    Args:
        sample: How many columns of the grid to look at, drawn with `seed`, and the same share, but at least one, of
            the rings of each other claim about the grid; None: all. The claims about the barrier and the arithmetic
            are always proved again.
        workers, progress: As for `shield.verify.run.verify`.
    Raises:
        CertificateError: the certificate's vehicle or settings cannot be read back.
    """
    vehicle, settings = restored(certificate)
    every = unit_names(vehicle, settings)
    units = every if sample is None else _drawn(every, settings, sample, seed)
    outcomes = []
    for outcome in run_units(vehicle, settings, units, workers):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), len(units))
    again = assemble(vehicle, settings, outcomes)
    wrong = []
    for name in (*CLAIMS, EVERYWHERE, DEADLINES, CELLS):
        there, here = certificate.claims.get(name), again.claims[name]
        if name == CELLS and sample is not None and here.result != "refuted":
            wrong += _other_rings(there, here)
        elif there is None or there.result != here.result:
            wrong.append(f"{name}: the certificate says {there.result if there else 'nothing'}, found {here.result}")
        elif sample is None and (there.cells, there.states, there.whole) != (here.cells, here.states, here.whole):
            wrong.append(
                f"{name}: {there.cells} cells and {there.states} states there, {here.cells}, {here.states} here"
                + ("" if there.whole == here.whole else ", other whole cells")
            )
    counts = {name: (_of_claim(units, name), _of_claim(every, name)) for name in again.claims}
    return Check(len(units), len(every), counts, tuple(wrong), stale(certificate))


def _other_rings(there: Claim | None, here: Claim) -> list[str]:
    """Return the rings of a sample whose open cells are not those of the certificate."""
    found = here.whole or {}
    stated = (there.whole if there else None) or {}
    return [
        f"{CELLS}: ring {ring} of {method}: open cells are {cells!r}"
        for method, table in found.items()
        for ring, cells in table["open_cells"].items()
        if stated.get(method, {}).get("open_cells", {}).get(ring) != cells
    ]


def stale(certificate: VehicleCertificate) -> tuple[str, ...]:
    """Return the sources and versions that differ from those the certificate was made with."""
    there = {**certificate.sources, **certificate.versions}
    here = {**sources(), **versions()}
    return tuple(name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name))


def restored(certificate: VehicleCertificate) -> tuple[Vehicle, Settings]:
    """Return the vehicle and the settings that a certificate was made for.

    Raises:
        CertificateError: they cannot be read, or do not give the fingerprint the certificate states.
    """
    try:
        table = {name: value for name, value in certificate.vehicle.items() if name != "fingerprint"}
        barrier = table.pop("barrier")
        bounds: dict[str, Any] = {
            name: None if value == "unlimited" else value for name, value in certificate.bounds.items()
        }
        vehicle = Vehicle(**table, barrier=None if barrier is None else Barrier(**barrier), bounds=Bounds(**bounds))
        chosen = {item.name: certificate.domain[item.name] for item in fields(Settings)}
        settings = Settings(**{**chosen, "cells": tuple(chosen["cells"])})
    except (KeyError, TypeError, VehicleFileError) as error:
        raise CertificateError(f"certificate {certificate.id[:12]} does not describe a vehicle: {error!r}") from error
    if vehicle.fingerprint() != certificate.fingerprint:
        raise CertificateError(f"certificate {certificate.id[:12]}: its parameters do not give its fingerprint")
    return vehicle, settings


def _of_claim(units: list[str], name: str) -> int:
    return sum(unit.split("/")[0] == name for unit in units)


def _drawn(units: list[str], settings: Settings, sample: int, seed: int) -> list[str]:
    """Return the claims without a grid, `sample` columns, and of each other claim and method the same share of rings.

    No claim goes without: of every pool at least one is drawn.
    """
    rng = random.Random(seed)
    pools: dict[str, list[str]] = {}
    for unit in units:
        if unit not in CLAIMS:
            pools.setdefault(unit.rpartition("/")[0], []).append(unit)
    share = min(1.0, sample / (settings.cells[0] * settings.cells[1]))
    drawn: set[str] = set()
    for name, pool in pools.items():
        drawn.update(rng.sample(pool, min(len(pool), sample if name == DEADLINES else math.ceil(share * len(pool)))))
    return [unit for unit in units if unit in CLAIMS or unit in drawn]
