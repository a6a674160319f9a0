"""Checking a certificate again: from scratch, or a seeded sample of its units."""

import math
import random
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
        disagreements: What came out otherwise than the certificate says; empty when it stands.
        stale: Sources or versions that differ from those the certificate was made with.
    """

    units: int
    of: int
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
        sample: How many columns of the grid to look at, and the same share of the rings, drawn with `seed`; None: all.
            The claims about the barrier and the arithmetic are always proved again.
        workers, progress: As for `shield.verify.run.verify`.
    Raises:
        CertificateError: the certificate's vehicle or settings cannot be read back.
    """
    vehicle, settings = restored(certificate)
    every = unit_names(vehicle, settings)
    units = every if sample is None else _drawn(every, sample, seed)
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
    return Check(len(units), len(every), tuple(wrong), stale(certificate))


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


def _drawn(units: list[str], sample: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    columns = [unit for unit in units if unit.startswith(f"{DEADLINES}/")]
    rings = [unit for unit in units if unit.startswith((f"{CELLS}/", f"{EVERYWHERE}/"))]
    share = min(1.0, sample / max(1, len(columns)))
    drawn = set(rng.sample(columns, min(sample, len(columns)))) | set(rng.sample(rings, math.ceil(share * len(rings))))
    return [unit for unit in units if unit in CLAIMS or unit in drawn]
