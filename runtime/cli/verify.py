"""`headway verify`: prove what a vehicle's deadlines rest on, and check such a proof again."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from shield.certificate import VehicleCertificate
    from shield.verify.run import Progress


def verify(
    vehicle: Annotated[
        str | None, typer.Option(help="A vehicle file, or a shipped vehicle's name; with --check, must be covered")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the certificate goes; default NAME.certificate.json")] = None,
    check: Annotated[Path | None, typer.Option(help="A certificate to check again, instead of making one")] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --check: look at this many columns of states, and that share of rings, but one of each claim at "
            "least; default all",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the states, or with --check of the sample; default 1")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one a core")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines")] = False,
) -> None:
    """Prove a vehicle's barrier, rounding margins and deadlines by interval arithmetic, and write the certificate.

    An interrupted run goes on where it was when it is started again. With --check, a certificate is carried out again,
    from scratch or by a seeded sample. The exit code is 1 when a claim that applies to the vehicle fails (whole cells
    left open do not count: the certificate lists them), or a certificate does not stand.
    """
    if check is not None:
        if out is not None:
            raise typer.BadParameter("--out is for making a certificate, --check for checking one", param_hint="--out")
        _check(check, vehicle, sample, 1 if seed is None else seed, workers, json_output)
        return
    if sample is not None:
        raise typer.BadParameter(
            "--sample goes with --check: a certificate covers the whole grid", param_hint="--sample"
        )
    if vehicle is None:
        raise typer.BadParameter(
            "give --vehicle to make a certificate, or --check to check one", param_hint="--vehicle"
        )
    _make(vehicle, out, 1 if seed is None else seed, workers, json_output)


def _make(name: str, out: Path | None, seed: int, workers: int | None, json_output: bool) -> None:
    _require_flint()
    from shield.vehicle import load_vehicle
    from shield.verify.run import verify as prove
    from shield.verify.units import Settings

    vehicle = load_vehicle(name)
    target = out or Path(f"{vehicle.name}.certificate.json")
    kept = target.with_name(target.name + ".progress")
    try:
        with _bar(f"verifying {vehicle.name}", shown=not json_output) as progress:
            certificate = prove(vehicle, Settings(seed=seed), progress_file=kept, workers=workers, progress=progress)
    except KeyboardInterrupt:
        typer.echo(f"interrupted: the same command goes on from {kept}", err=True)
        raise typer.Exit(130) from None
    partial = target.with_name(target.name + ".part")
    partial.write_text(certificate.text(), encoding="utf-8")
    os.replace(partial, target)
    failed = [claim for claim in certificate.claims.values() if claim.result in ("refuted", "undecided")]
    proved = not failed
    if json_output:
        typer.echo(json.dumps({"certificate": str(target), "proved": proved, **_summary(certificate)}))
    else:
        for line in _lines(certificate):
            typer.echo(line)
        typer.echo(f"certificate {certificate.id[:12]} in {target}")
    if not proved:
        raise typer.Exit(1)


def _check(path: Path, name: str | None, sample: int | None, seed: int, workers: int | None, json_output: bool) -> None:
    _require_flint()
    from shield.certificate import load_certificate, require_cover
    from shield.vehicle import load_vehicle
    from shield.verify.check import check

    certificate = load_certificate(path)
    if name is not None:
        require_cover(certificate, load_vehicle(name))
    with _bar(f"checking {path.name}", shown=not json_output) as progress:
        found = check(certificate, sample=sample, seed=seed, workers=workers, progress=progress)
    stands = not found.disagreements
    if json_output:
        answer = {
            "certificate": str(path),
            "stands": stands,
            "units": found.units,
            "of": found.of,
            "by_claim": found.claims,
            "disagreements": found.disagreements,
            "made_with_other": found.stale,
        }
        typer.echo(json.dumps({**answer, **_summary(certificate)}))
    else:
        for line in (*_lines(certificate), *found.disagreements):
            typer.echo(line)
        if found.stale:
            typer.echo(f"made with other versions of {', '.join(found.stale)}")
        shares = ", ".join(f"{name} {done} of {of}" for name, (done, of) in found.claims.items() if of)
        verdict = "stands" if stands else "DOES NOT STAND"
        typer.echo(f"{verdict}: {found.units} of {found.of} units carried out again ({shares})")
    if not stands:
        raise typer.Exit(1)


def _summary(certificate: "VehicleCertificate") -> dict[str, Any]:
    claims = {
        name: {
            "result": claim.result,
            "cells": claim.cells,
            "states": claim.states,
            "note": claim.note,
            "whole": claim.whole,
        }
        for name, claim in certificate.claims.items()
    }
    return {"id": certificate.id, "vehicle": certificate.vehicle["name"], "claims": claims}


def _lines(certificate: "VehicleCertificate") -> Iterator[str]:
    for name, claim in certificate.claims.items():
        looked = f"{claim.cells} cells" + (f", {claim.states} deadlines" if claim.states else "")
        why = claim.note or (f"at {claim.counter_example}" if claim.counter_example is not None else "")
        yield f"{name:<11} {claim.result:<13} {looked:<30} {why}".rstrip()


@contextmanager
def _bar(title: str, *, shown: bool) -> Iterator["Progress | None"]:
    """Show a progress bar on stderr, where that is a terminal."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not os.isatty(2)) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        yield advance


def _require_flint() -> None:
    from runtime.errors import UnavailableError

    try:
        import flint  # noqa: F401
    except ImportError as error:
        raise UnavailableError("headway verify needs python-flint: pip install 'headway[verify]'") from error
