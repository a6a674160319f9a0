"""Errors of the shield.

ShieldError
├── VehicleFileError   a vehicle file lacks a key, has an unknown one, or holds an impossible value
├── InfeasibleError    no admissible control exists for the state asked about
└── CertificateError   a certificate is damaged, stale, or does not cover what is asked of it

A wrong argument (not finite, negative radius) is a plain ``ValueError``.
"""


class ShieldError(Exception):
    """Base of every error the shield raises on its own account."""

    exit_code = 78  # of a command that ends with it


class VehicleFileError(ShieldError):
    """A vehicle file cannot be used; the message names the key, its value and what would be right."""


class InfeasibleError(ShieldError):
    """No control of the vehicle is admissible in the given state."""


class CertificateError(ShieldError):
    """A certificate does not hold for the vehicle, bounds or state it was asked about."""
