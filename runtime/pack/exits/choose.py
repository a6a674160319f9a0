"""Choose thresholds from evidence, by certificate or by budget, and sum up what each exit does with them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from runtime.pack.exits import budget as budgets
from runtime.pack.exits import certify as certificates
from runtime.pack.exits.binomial import clopper_pearson
from runtime.pack.exits.errors import CalibrationError
from runtime.pack.exits.evidence import Evidence, Floats
from runtime.pack.exits.path import make_path
from runtime.pack.exits.settings import ExitSettings


@dataclass(frozen=True)
class Choice:
    """Chosen thresholds.

    Args:
        thresholds: Of each gate, infinite where it stays closed, shape (G,).
        closed: Why an exit has no open gate, by exit; empty where it has one.
        record: Method and figures for the calibration record.
    """

    thresholds: Floats
    closed: tuple[str, ...]
    record: dict[str, Any]

    @property
    def open_exits(self) -> tuple[int, ...]:
        """The exits with an open gate, shallow to deep."""
        return tuple(index for index, reason in enumerate(self.closed) if not reason)

    def without(self, exit_index: int, gates: tuple[int, ...], reason: str) -> "Choice":
        """Return the choice with one exit closed."""
        thresholds = np.where(np.array(gates) == exit_index, np.inf, self.thresholds)
        closed = tuple(reason if index == exit_index else why for index, why in enumerate(self.closed))
        return replace(self, thresholds=thresholds, closed=closed)


def choose(design: Evidence, evidence: Evidence, settings: ExitSettings) -> Choice:
    """Return thresholds.

    Args:
        design: Samples that shape the path of thresholds.
        evidence: Other samples, that certify them or whose quantiles they are.
        settings: Bound or budget.
    Raises:
        TooFewSamplesError: Fewer certifying samples than the bound needs.
        CalibrationError: No exit can be opened, or the budget is below the first exit's work.
    """
    thresholds, record = (
        _within_budget(evidence, settings) if settings.budget else _certified(design, evidence, settings)
    )
    confident = {gate for gate, threshold in zip(evidence.gates, thresholds, strict=True) if threshold < np.inf}
    closed = tuple("" if index in confident else "no threshold of it holds" for index in range(evidence.exits))
    if not confident:
        agreement = [round(float(1.0 - row.mean()), 4) for row in evidence.differs]
        raise CalibrationError(
            f"no exit can be opened: already the surest answers disagree too often for {settings.max_disagreement:g} "
            f"at delta {settings.delta:g} on {evidence.samples} samples; the exits agree with the final answer on "
            f"{agreement} of all: fit deeper exits, allow more disagreement, or bring more calibration inputs"
        )
    return Choice(thresholds, closed, record)


def _certified(design: Evidence, evidence: Evidence, settings: ExitSettings) -> tuple[Floats, dict[str, Any]]:
    found = certificates.certify(make_path(design), evidence, settings.max_disagreement, settings.delta)
    return found.thresholds, {
        "method": certificates.METHOD,
        "max_disagreement": settings.max_disagreement,
        "delta": settings.delta,
        "samples": found.samples,
        "disagreements": found.disagreements,
        "p_value": found.p_value,
        "step": found.step,
    }


def _within_budget(evidence: Evidence, settings: ExitSettings) -> tuple[Floats, dict[str, Any]]:
    whole = float(evidence.costs[-1])
    costs = evidence.costs / whole
    disagreement = np.append(evidence.differs.mean(axis=1), 0.0)
    beta = budgets.default_beta(evidence.samples, evidence.exits)
    rates = budgets.exit_rates(disagreement, costs, float(settings.budget or 1.0), beta)
    thresholds = budgets.rate_thresholds(evidence, rates)
    disagreements = evidence.disagreements(thresholds)
    return thresholds, {
        "method": budgets.METHOD,
        "budget": settings.budget,
        "delta": settings.delta,
        "samples": evidence.samples,
        "rates": [float(rate) for rate in rates],
        "mean_cost": evidence.mean_cost(thresholds) / whole,
        "disagreements": disagreements,
        "disagreement_interval": list(clopper_pearson(disagreements, evidence.samples, settings.delta)),
    }
