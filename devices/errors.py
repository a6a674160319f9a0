"""Errors of the devices room.

DeviceError
├── PackageError        a model package is damaged, inconsistent or of an unknown format; nothing of it was run
├── ProfileError        a device profile lacks a figure, contradicts itself or names an unknown unit
├── InputError          a tensor given to a model does not fit its declaration; also a ValueError
├── MeterError          an energy meter is missing, may not be read, or its readings can't be trusted
├── ClockError          a device's clock is not shown, or may not be set
├── BackendError        a backend is not installed, fell back to another provider, or refused a model
└── SegmentError        a segment failed while it ran
    └── RunCancelledError   the run was stopped from outside

A wrong argument (negative time, unknown option) is a plain ``ValueError``.
"""


class DeviceError(Exception):
    """Base of every error the devices room raises on its own account."""

    exit_code = 78  # of a command that ends with it


class PackageError(DeviceError):
    """A model package cannot be used; the message names the file, the value and what would be right."""


class ProfileError(DeviceError):
    """A device profile cannot be used; the message names the key, its value and what would be right."""


class InputError(DeviceError, ValueError):
    """A tensor does not fit the model's declaration: name, dtype, shape, or a value that is not finite."""


class MeterError(DeviceError):
    """An energy meter cannot be used; the message says why and, for a missing permission, how to grant it."""

    exit_code = 69


class ClockError(DeviceError):
    """A device's clock cannot be read or set; the message names the file and what the host says."""

    exit_code = 69


class BackendError(DeviceError):
    """A backend cannot open a device or load a model on it."""


class SegmentError(DeviceError):
    """A segment failed while it ran on a device."""


class RunCancelledError(SegmentError):
    """A run was stopped from outside before it finished."""
