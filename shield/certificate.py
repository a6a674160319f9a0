"""The file that says what has been proved of a vehicle, and whether it covers the one at hand.

A certificate is JSON. It names the vehicle by the fingerprint of its parameters and bounds, the domain, the claims with
their results, the margins, the versions and the sources they were proved with, and carries the hash of all that as
`id`. It is made and checked by `headway verify`; reading it needs no extra package.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from shield.errors import CertificateError
from shield.vehicle import Bounds, Vehicle

FORMAT = "headway-certificate"
VERSION = 1

NEEDED = ("rounding", "everywhere", "deadlines")
"""Claims a guard needs: its deadlines are sound, and their rounding margins sufficient in every cell."""

CELLS, STATES, FARTHEST_M, CAP_S = (24, 36, 20), 2, 60.0, 10.0
"""What a certificate has to look at at least for a guard to rely on it: grid cells in r, xi and beta, seeded states a
cell, the farthest obstacle [m], and the longest deadline [s], which is the longest that a guard asks about."""

RESTS_ON = (
    "answer.py",
    "arc.py",
    "backup/along.py",
    "backup/at_once.py",
    "backup/clear.py",
    "backup/cover.py",
    "backup/curve.py",
    "backup/family.py",
    "backup/gaps.py",
    "backup/many.py",
    "backup/moving.py",
    "backup/passive.py",
    "backup/query.py",
    "backup/question.py",
    "backup/sensing.py",
    "backup/still.py",
    "backup/turn.py",
    "barrier.py",
    "deadline.py",
    "events.py",
    "hold.py",
    "manoeuvre.py",
    "state.py",
    "vehicle.py",
)
"""Sources that compute the deadlines which the claims are about: a certificate counts only with exactly these."""

_KEYS = frozenset(
    ("format", "version", "id", "vehicle", "bounds", "domain", "method", "claims", "margins", "versions", "sources")
)


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim and what became of it.

    Args:
        result: "proved", "refuted", "undecided", or "not covered" with the reason in `note`.
        cells: Interval cells (or pieces of the grid) looked at.
        states: Single states proved, where the claim is about states; else 0.
        counter_example: Where the proof failed, or None.
        note: What a reader must know to use it.
        whole: Of the claim "cells", by method: whole cells, their number, the share of the volume that is proved, and
            by ring of r the indices of the cells that hold something open; else None.
    """

    result: str
    cells: int
    states: int = 0
    counter_example: Any = None
    note: str = ""
    whole: Any = None


@dataclass(frozen=True, slots=True)
class VehicleCertificate:
    """A certificate as read from its file.

    Args:
        id: SHA-256 (hex) of everything else in the file.
        vehicle: Name, fingerprint and parameters.
        bounds: Every bound; zero, or "unlimited", where none was declared.
        domain: Ranges and cells, the seed of the states inside them, the cap of the deadlines.
        method: In words, one sentence a claim.
        claims: By name.
        margins, versions, sources: What the results depend on; sources are SHA-256 by file.
    """

    id: str
    vehicle: Mapping[str, Any]
    bounds: Mapping[str, Any]
    domain: Mapping[str, Any]
    method: Mapping[str, str]
    claims: Mapping[str, Claim]
    margins: Mapping[str, float]
    versions: Mapping[str, str]
    sources: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the vehicle that was verified."""
        return str(self.vehicle["fingerprint"])

    def content(self) -> dict[str, Any]:
        """Return what the file holds, without the id."""
        table: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "claims":
                table["claims"] = {name: asdict(claim) for name, claim in value.items()}
            elif item.name != "id":
                table[item.name] = dict(value)
        return table

    def text(self) -> str:
        """Return the file's text."""
        return json.dumps({"id": self.id, **self.content()}, indent=1, sort_keys=True, allow_nan=False) + "\n"


def identify(content: Mapping[str, Any]) -> str:
    """Return the id that belongs to a certificate's content."""
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode()).hexdigest()


def declared_bounds(vehicle: Vehicle) -> dict[str, float | str]:
    """Return every bound of a vehicle, with "unlimited" where a limit was not declared."""
    values = {item.name: getattr(vehicle.bounds, item.name) for item in fields(Bounds)}
    return {name: "unlimited" if value is None else float(value) for name, value in values.items()}


def load_certificate(path: str | Path) -> VehicleCertificate:
    """Read a certificate file.

    Raises:
        CertificateError: no such file; not a certificate of this version; changed since it was written.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CertificateError(f"cannot read the certificate {source}: {error}") from error
    return parse_certificate(text, str(source))


def parse_certificate(text: str, origin: str = "certificate") -> VehicleCertificate:
    """Read a certificate's text; `origin` is named in errors. Raises as `load_certificate`."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CertificateError(f"{origin} is not JSON: {error}") from error
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise CertificateError(f"{origin} is not a certificate: format must be {FORMAT!r}")
    if table.get("version") != VERSION:
        raise CertificateError(f"{origin}: version {table.get('version')!r} is not the version {VERSION} read here")
    if table.keys() != _KEYS:
        raise CertificateError(f"{origin}: keys missing or unknown: {', '.join(sorted(table.keys() ^ _KEYS))}")
    found = table.pop("id")
    try:
        right = identify(table)
    except ValueError as error:
        raise CertificateError(f"{origin} holds a number that is none: {error}") from error
    if found != right:
        raise CertificateError(
            f"{origin} was changed after it was written: its id is {found!r}, its content's {right!r}"
        )
    try:
        claims = {name: Claim(**claim) for name, claim in table["claims"].items()}
        parts = {name: table[name] for name in _KEYS - {"format", "version", "id", "claims"}}
        certificate = VehicleCertificate(id=found, claims=claims, **parts)
        certificate.fingerprint  # noqa: B018  a certificate without one is damaged
    except (AttributeError, KeyError, TypeError) as error:
        raise CertificateError(f"{origin} is damaged: {error!r}") from error
    return certificate


def shipped_certificate(vehicle: Vehicle) -> VehicleCertificate | None:
    """Return the shipped certificate with this vehicle's fingerprint, or None."""
    for item in sorted((files("shield") / "certificates").iterdir(), key=lambda item: item.name):
        if item.name.endswith(".json"):
            certificate = parse_certificate(item.read_text(encoding="utf-8"), item.name)
            if certificate.fingerprint == vehicle.fingerprint():
                return certificate
    return None


def require_cover(certificate: VehicleCertificate, vehicle: Vehicle) -> None:
    """Check that a guard of `vehicle` may rely on a certificate.

    Raises:
        CertificateError: it is for other parameters or bounds, which are named; a claim a guard needs is not proved; it
            was proved over a smaller or coarser domain than a guard relies on; or with other sources than the ones
            installed, which are named.
    """
    if certificate.fingerprint != vehicle.fingerprint():
        raise CertificateError(
            f"certificate {certificate.id[:12]} is for vehicle {certificate.vehicle.get('name')!r} and does not cover "
            f"{vehicle.name!r}: {_difference(certificate, vehicle)}"
        )
    for name in NEEDED:
        claim = certificate.claims.get(name)
        if claim is None or claim.result != "proved":
            state = "missing" if claim is None else f"{claim.result} ({claim.note or claim.counter_example})"
            raise CertificateError(f"certificate {certificate.id[:12]} does not prove {name!r}: {state}")
    if short := _short_of(certificate.domain):
        raise CertificateError(
            f"certificate {certificate.id[:12]} was proved over less than a guard relies on: {'; '.join(short)}; run "
            f"`headway verify` again for vehicle {vehicle.name!r}"
        )
    installed = source_hashes(RESTS_ON)
    if other := [name for name in RESTS_ON if certificate.sources.get(name) != installed[name]]:
        raise CertificateError(
            f"certificate {certificate.id[:12]} was proved with other sources than the ones installed: shield/"
            f"{', shield/'.join(other)}; run `headway verify` again for vehicle {vehicle.name!r}"
        )


def _short_of(domain: Mapping[str, Any]) -> list[str]:
    """Say in what a domain is smaller or coarser than a guard relies on."""
    wanted: dict[str, float] = {"states": STATES, "farthest_m": FARTHEST_M, "cap_s": CAP_S}
    short = [
        f"{name} = {domain.get(name)!r} there, at least {least!r} wanted"
        for name, least in wanted.items()
        if not _reaches(domain.get(name), least)
    ]
    cells = domain.get("cells")
    fine = isinstance(cells, list) and len(cells) == len(CELLS) and all(map(_reaches, cells, CELLS))
    return short if fine else [*short, f"cells = {cells!r} there, at least {list(CELLS)!r} wanted"]


def _reaches(value: object, least: float) -> bool:
    return isinstance(value, int | float) and value >= least


def source_hashes(names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 (hex) of installed source files of the shield, by their path inside it."""
    root = files("shield")
    return {name: hashlib.sha256(root.joinpath(*name.split("/")).read_bytes()).hexdigest() for name in names}


def covers(certificate: VehicleCertificate, vehicle: Vehicle) -> bool:
    """Return whether a guard of `vehicle` may rely on a certificate; `require_cover` says why not."""
    try:
        require_cover(certificate, vehicle)
    except CertificateError:
        return False
    return True


def vehicle_table(vehicle: Vehicle) -> dict[str, Any]:
    """Return name, fingerprint and parameters of a vehicle as they stand in a certificate."""
    table = asdict(vehicle)
    del table["bounds"]
    return {**table, "fingerprint": vehicle.fingerprint()}


def _difference(certificate: VehicleCertificate, vehicle: Vehicle) -> str:
    """Name the parameters in which the two differ."""
    there = {**certificate.vehicle, **{f"bounds.{name}": value for name, value in certificate.bounds.items()}}
    here = {**vehicle_table(vehicle), **{f"bounds.{name}": value for name, value in declared_bounds(vehicle).items()}}
    differ = [
        f"{name} = {there.get(name)!r} there, {here.get(name)!r} here"
        for name in sorted(there.keys() | here.keys())
        if name not in ("name", "fingerprint") and there.get(name) != here.get(name)
    ]
    return "; ".join(differ) or "its fingerprint does not fit its own parameters"
