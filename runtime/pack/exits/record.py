"""The calibration record: what a package file's [calibration] says about how its thresholds were chosen.

It names method, bound, failure probability, counts, and hashes of the calibration inputs and of the segments that were
calibrated; `check_record` finds thresholds or segments that were exchanged afterwards.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from devices.package import Exit, Package, SegmentSource
from devices.tensor import Array
from runtime.pack.exits.errors import CalibrationError
from runtime.pack.exits.settings import ExitReport

RECORD_FORMAT = 1


def inputs_sha256(inputs: Mapping[str, Array]) -> str:
    """Return a hash over names, dtypes, shapes and values of the inputs, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(inputs):
        array = np.ascontiguousarray(inputs[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def model_sha256(hashes: Mapping[str, str]) -> str:
    """Return a hash over segment ids and the hashes of their files, hexadecimal."""
    return hashlib.sha256("".join(f"{key} {hashes[key]}\n" for key in sorted(hashes)).encode()).hexdigest()


def source_hashes(segments: Sequence[SegmentSource]) -> dict[str, str]:
    """Return the hash of each segment's file as it will be written."""
    return {source.id: hashlib.sha256(source.data()).hexdigest() for source in segments}


def make_record(
    segments: Sequence[SegmentSource],
    exits: Sequence[Exit],
    reports: Sequence[ExitReport],
    bands: Sequence[tuple[float, float]],
    figures: Mapping[str, object],
) -> dict[str, Any]:
    """Return the record as a package file's [calibration].

    Args:
        segments, exits: As they will be written.
        reports: On every exit that was asked for.
        bands: Band of the share of inputs that have left by each of those.
        figures: Method, bound, counts and whatever else shall stand in it.
    """
    by_id = {report.id: (report, band) for report, band in zip(reports, bands, strict=True)}
    return {
        "format": RECORD_FORMAT,
        **figures,
        "model_sha256": model_sha256(source_hashes(segments)),
        "exits": [_exit_table(taken, *by_id[taken.id]) for taken in exits[:-1]],
        "left_out": [report.id for report in reports if report.reason],
    }


def _exit_table(taken: Exit, report: ExitReport, band: tuple[float, float]) -> dict[str, Any]:
    """Return one [[calibration.exits]]; left_by is the band of the share of inputs that have left by this exit."""
    return {
        "id": taken.id,
        "threshold": taken.threshold,
        "tensors": list(report.tensors),
        "share": report.share,
        "disagreements": report.disagreements,
        "agreement": report.agreement,
        "left_by_low": band[0],
        "left_by_high": band[1],
    }


def check_record(package: Package) -> Mapping[str, Any]:
    """Return the package's calibration record if it is about this package as it is.

    Raises:
        CalibrationError: There is none, it is of another format, or a segment or threshold is not the calibrated one.
    """
    record = package.calibration
    if record.get("format") != RECORD_FORMAT:
        raise CalibrationError(
            f"package {package.name!r} has calibration format {record.get('format', 'missing')!r}: "
            f"must be {RECORD_FORMAT}; calibrate it"
        )
    actual = model_sha256({segment.id: segment.sha256 for segment in package.segments})
    if record.get("model_sha256") != actual:
        raise CalibrationError(
            f"package {package.name!r} was calibrated with segments of hash {record.get('model_sha256')}, "
            f"it holds {actual}: calibrate it again"
        )
    thresholds = {table["id"]: table.get("threshold") for table in record.get("exits", [])}
    for taken in package.exits[:-1]:
        if taken.id not in thresholds or thresholds[taken.id] != taken.threshold:
            raise CalibrationError(
                f"exit {taken.id!r} has threshold {taken.threshold}, it was calibrated with "
                f"{thresholds.get(taken.id, 'none')}: calibrate the package again"
            )
    return record
