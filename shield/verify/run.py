"""Verification of a vehicle: every claim, on every core, resumable, written down as a certificate."""

import hashlib
import json
import multiprocessing
import os
import platform
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import flint
import numpy as np

from shield.backup.question import MARGIN_M, MARGIN_RELATIVE
from shield.certificate import Claim, VehicleCertificate, declared_bounds, identify, vehicle_table
from shield.errors import CertificateError
from shield.events import GRAZE
from shield.hold import DISTANCE_MARGIN_M, VALUE_MARGIN
from shield.vehicle import Vehicle
from shield.verify.cells import PRECISION_BITS
from shield.verify.claims import SLOPE_MARGIN
from shield.verify.event import SLACK_M
from shield.verify.units import (
    CELLS,
    CLAIMS,
    DEADLINES,
    EVERYWHERE,
    Outcome,
    Settings,
    domain,
    left_out,
    methods,
    ring_cells,
    run_unit,
    unit_names,
)
from shield.verify.whole import followed

METHOD = {
    "admissible": "bisection of (xi, 1/(r - e_p)): one slip angle a cell has dh/ds + K h above the margin in all of it",
    "inclusion": "bisection of xi: r_min lies above the edge of the backup set",
    "rounding": "bisection of (r, s): first-order bounds of every operation stay below a tenth of the margins",
    "deadlines": "grid of cells (r, xi, beta): at the centre and at seeded states of each, the barrier and the backup "
    "deadline of one disc, at any speed up to v_max (the seeded ones from a seeded measured speed, where the "
    "acceleration is bounded), proved along the whole held arc, manoeuvre by manoeuvre; where "
    "obstacles move or the steering is off, from an enclosure of every path and every time that the bounds allow",
    "everywhere": "every cell (r, xi, beta) of the grid: the closed forms of the code are those of their events, by "
    "exact algebra; run on numbers that carry their own rounding, they move no edge of any set by as much as the "
    "margin, grazing passes included",
    "cells": "the same deadlines at every state of a cell at once: a chain of pieces of the arc, clear, rising or "
    "falling, up to one sign change of the event that ends the deadline, and the code's own deadline compared at the "
    "centre of every leaf with an end; negative xi by mirroring; cells that hold a leaf whose chain breaks are listed "
    "as open: there the claims everywhere and deadlines speak alone",
}

_NOT_PROVED = ("applier.py", "certificate.py", "falsify", "guard", "published.py")
"""Sources that use deadlines and certificates, but that no deadline rests on."""

Progress = Callable[[int, int], None]
"""Called with (units done, units in all)."""


def verify(
    vehicle: Vehicle,
    settings: Settings | None = None,
    *,
    progress_file: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> VehicleCertificate:
    """Verify a vehicle and return its certificate, whatever the claims came to.

    Args:
        settings: How finely to look.
        progress_file: Where finished units are kept, so that an interrupted run is picked up; removed at the end.
        workers: Processes; None is one a core.
        progress: Called after every unit.
    """
    chosen = settings or Settings()
    units = unit_names(vehicle, chosen)
    done = {} if progress_file is None else _picked_up(progress_file, vehicle, chosen)
    todo = [unit for unit in units if unit not in done]
    for outcome in run_units(vehicle, chosen, todo, workers):
        done[outcome.unit] = outcome
        if progress_file is not None:
            with progress_file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(outcome)) + "\n")
        if progress is not None:
            progress(len(done), len(units))
    certificate = assemble(vehicle, chosen, [done[unit] for unit in units])
    if progress_file is not None:
        progress_file.unlink(missing_ok=True)
    return certificate


def run_units(
    vehicle: Vehicle, settings: Settings, units: Sequence[str], workers: int | None = None
) -> Iterator[Outcome]:
    """Yield the outcome of every unit as it is done; processes end when the caller stops asking."""
    count = min(workers or os.cpu_count() or 1, max(1, len(units)))
    if count == 1:
        for unit in units:
            yield run_unit(vehicle, settings, unit)
        return
    waiting = deque(units)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_leave_interrupts_to_the_parent) as pool:
        running: set[Future[Outcome]] = set()
        try:
            while waiting or running:
                while waiting and len(running) < 4 * count:
                    running.add(pool.submit(run_unit, vehicle, settings, waiting.popleft()))
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def assemble(vehicle: Vehicle, settings: Settings, outcomes: Sequence[Outcome]) -> VehicleCertificate:
    """Write the outcomes down as a certificate."""
    ranges = domain(vehicle, settings)
    parts: dict[str, Any] = {
        "vehicle": vehicle_table(vehicle),
        "bounds": declared_bounds(vehicle),
        "domain": {
            **{name: list(side) for name, side in zip(("r_m", "xi_rad", "beta_rad"), ranges, strict=True)},
            "obstacles": "one disc, its radius and the vehicle's together the smallest r_m of the domain; it stands "
            "still unless obstacle_speed_mps is declared",
            **{name: list(value) if name == "cells" else value for name, value in asdict(settings).items()},
        },
        "method": METHOD,
        "margins": {
            "grazing": GRAZE,
            "barrier_value_1pm": VALUE_MARGIN,
            "barrier_distance_m": DISTANCE_MARGIN_M,
            "backup_radius_m": MARGIN_M,
            "backup_radius_relative": MARGIN_RELATIVE,
            "admissible_slope_1pm2": SLOPE_MARGIN,
            "whole_cells_m": SLACK_M,
        },
        "versions": versions(),
        "sources": sources(),
    }
    found = {name: _claim(vehicle, name, outcomes) for name in (*CLAIMS, EVERYWHERE, DEADLINES)}
    found[CELLS] = _cells_claim(vehicle, settings, outcomes)
    # Through JSON and back, so that a certificate is the same object written, read or just made.
    plain = json.loads(json.dumps({**parts, "claims": {name: asdict(claim) for name, claim in found.items()}}))
    claims = {name: Claim(**claim) for name, claim in plain.pop("claims").items()}
    unnamed = VehicleCertificate(id="", claims=claims, **plain)
    return VehicleCertificate(id=identify(unnamed.content()), claims=claims, **plain)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    try:
        own = version("headway")
    except PackageNotFoundError:
        own = "not installed"
    return {
        "headway": own,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "python-flint": flint.__version__,
        "flint": flint.__FLINT_VERSION__,
        "precision_bits": str(PRECISION_BITS),
    }


def sources() -> dict[str, str]:
    """Return the SHA-256 of every source file of the shield that a deadline or its proof rests on."""
    root = files("shield")
    found: dict[str, str] = {}
    folders = [("", root)]
    while folders:
        prefix, folder = folders.pop()
        for item in folder.iterdir():
            if prefix + item.name in _NOT_PROVED:
                continue
            if item.name.endswith(".py"):
                found[prefix + item.name] = hashlib.sha256(item.read_bytes()).hexdigest()
            elif item.is_dir() and not item.name.startswith("__"):
                folders.append((f"{prefix}{item.name}/", item))
    return dict(sorted(found.items()))


def _claim(vehicle: Vehicle, name: str, outcomes: Sequence[Outcome]) -> Claim:
    own = [outcome for outcome in outcomes if outcome.claim == name]
    if not own:
        return Claim("not covered", 0, note=_why_not(vehicle, name))
    failed = [outcome for outcome in own if outcome.result != "proved"]
    cells, states = sum(outcome.cells for outcome in own), sum(outcome.states for outcome in own)
    if failed:
        return Claim(failed[0].result, cells, states, failed[0].counter_example)
    return Claim("proved", cells, states)


def _why_not(vehicle: Vehicle, name: str) -> str:
    if name == DEADLINES:
        return f"the vehicle declares {', '.join(left_out(vehicle))}"
    if name in CLAIMS and vehicle.barrier is None:
        return "the vehicle has no [barrier]"
    if name in CLAIMS:
        return "the bounds move or hide the one static disc that a barrier is about; the guard uses backup alone"
    return "not looked at"


def _cells_claim(vehicle: Vehicle, settings: Settings, outcomes: Sequence[Outcome]) -> Claim:
    own = [outcome for outcome in outcomes if outcome.claim == CELLS]
    if not own:
        why = (
            "rings not looked at" if followed(vehicle) else "the vehicle declares brakes, errors, delays or no barrier"
        )
        return Claim("not covered", 0, note=f"{why}; see {EVERYWHERE} and {DEADLINES}")
    cells, states = sum(outcome.cells for outcome in own), sum(outcome.states for outcome in own)
    wrong = next((outcome for outcome in own if outcome.result == "refuted"), None)
    if wrong is not None:
        return Claim("refuted", cells, states, wrong.counter_example)
    whole: dict[str, Any] = {}
    for method in map(str, methods(vehicle)):
        rings = {int(item.unit.split("/")[2]): item for item in own if item.unit.split("/")[1] == method}
        if not rings:
            continue
        volume = sum(float(ring_cells(vehicle, settings, ring).volume().sum()) for ring in rings)
        left = sum(len(item.open_cells) for item in rings.values())
        whole[method] = {
            "whole_cells": sum(item.cells for item in rings.values()) - left,
            "of": sum(item.cells for item in rings.values()),
            "volume_share": round(sum(item.volume for item in rings.values()) / volume - 5e-7, 6),
            "open_cells": {str(ring): _ranges(item.open_cells) for ring, item in sorted(rings.items())},
        }
    parts = [
        f"{name}: {item['volume_share']:.2%} of the volume, {item['whole_cells']} of {item['of']} cells whole"
        for name, item in whole.items()
    ]
    proved = all(outcome.result == "proved" for outcome in own)
    return Claim("proved" if proved else "partly proved", cells, states, None, "; ".join(parts), whole)


def _ranges(indices: Sequence[int]) -> str:
    """Return ascending indices as text: "0-3,7"."""
    spans: list[list[int]] = []
    for index in indices:
        if spans and spans[-1][1] == index - 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _picked_up(progress_file: Path, vehicle: Vehicle, settings: Settings) -> dict[str, Outcome]:
    """Return what an interrupted run of the same question left behind, and leave a file that can be appended to."""
    header = json.dumps(
        {
            "vehicle": vehicle.fingerprint(),
            "settings": asdict(settings),
            "versions": versions(),
            "sources": sources(),
        },
        sort_keys=True,
    )
    lines = progress_file.read_text(encoding="utf-8").splitlines() if progress_file.is_file() else []
    found: dict[str, Outcome] = {}
    if lines and lines[0] == header:
        for line in lines[1:]:
            try:
                outcome = Outcome(**json.loads(line))
            except (ValueError, TypeError):
                break  # the line the interrupt cut off
            found[outcome.unit] = outcome
    kept = [header, *(json.dumps(asdict(outcome)) for outcome in found.values())]
    try:
        progress_file.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    except OSError as error:
        raise CertificateError(f"cannot keep progress in {progress_file}: {error.strerror}") from error
    return found
