"""Which certificate covers the vehicle that a guard is started for."""

from pathlib import Path

from runtime.errors import ConfigurationError
from shield.certificate import load_certificate, require_cover, shipped_certificate
from shield.vehicle import Vehicle


def covering_certificate(vehicle: Vehicle, path: str | Path | None, *, uncertified: bool) -> str | None:
    """Return the id of the certificate that covers `vehicle`; None when told to do without.

    Args:
        vehicle: The vehicle with its declared bounds.
        path: The certificate's file; None: the shipped one for this vehicle.
        uncertified: Whether to do without; the guard's status then says so.
    Raises:
        ConfigurationError: there is none.
        CertificateError: it is damaged, for another vehicle, or does not prove what a guard needs.
    """
    if uncertified:
        return None
    certificate = shipped_certificate(vehicle) if path is None else load_certificate(path)
    if certificate is None:
        raise ConfigurationError(
            f"no shipped certificate covers vehicle {vehicle.name!r} ({vehicle.fingerprint()[:12]}): make one with "
            "headway verify --vehicle FILE --out CERT.json and give it with --certificate, or start with --uncertified"
        )
    require_cover(certificate, vehicle)
    return certificate.id
