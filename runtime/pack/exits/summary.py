"""Sum up chosen thresholds: reports on every exit, share bands, and the calibration record."""

from collections.abc import Mapping, Sequence

import numpy as np

from devices.package import Exit, SegmentSource
from runtime.pack.exits.band import share_bands
from runtime.pack.exits.choose import Choice
from runtime.pack.exits.evidence import Evidence, Floats
from runtime.pack.exits.record import make_record
from runtime.pack.exits.settings import ExitReport, ExitSettings, FittedExits


def summarise(
    segments: Sequence[SegmentSource],
    exits: Sequence[Exit],
    asked: Sequence[tuple[str, tuple[str, ...]]],
    evidence: Evidence,
    choice: Choice,
    mac_shares: Floats,
    settings: ExitSettings,
    figures: Mapping[str, object],
) -> FittedExits:
    """Sum up; `asked` names every exit that was asked for and its tensors, `mac_shares` is of those in `exits`."""
    thresholds = {taken.id: taken.threshold for taken in exits}
    shares = dict(zip((taken.id for taken in exits), mac_shares, strict=True))
    leaves, confident = evidence.leaves_at(choice.thresholds), evidence.confident(choice.thresholds)
    reports = tuple(
        ExitReport(
            id=exit_id,
            tensors=tensors,
            threshold=None if choice.closed[index] else thresholds[exit_id],
            share=float(np.mean(leaves == index)),
            disagreements=int((evidence.differs[index] & (leaves == index)).sum()),
            confident_disagreements=int((evidence.differs[index] & confident[index]).sum()),
            agreement=float(1.0 - evidence.differs[index].mean()),
            mac_share=float(shares.get(exit_id, 0.0)),
            reason=choice.closed[index],
        )
        for index, (exit_id, tensors) in enumerate(asked)
    )
    bands = share_bands(evidence, choice.thresholds, settings.delta, nested=settings.budget is None)
    record = make_record(segments, exits, reports, bands, {**choice.record, **figures})
    disagreements = evidence.disagreements(choice.thresholds)
    return FittedExits(tuple(segments), tuple(exits), record, reports, evidence.samples, disagreements)
