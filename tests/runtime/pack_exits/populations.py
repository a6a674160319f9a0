"""Made-up evidence with a known disagreement rate, for tests of the certificate."""

from dataclasses import dataclass

import numpy as np

from runtime.pack.exits.evidence import Evidence, Floats


@dataclass(frozen=True)
class Population:
    """Exits whose chance to differ from the final answer falls with their confidence.

    A sample has a difficulty u in 0..1; exit e's score is 1 - u + noise and it differs with probability
    rate_e u^power.
    """

    rates: tuple[float, ...] = (0.3, 0.12)
    power: float = 3.0
    noise: float = 0.08

    def draw(self, samples: int, rng: np.random.Generator, windows: bool = False) -> Evidence:
        """Return independent samples."""
        difficulty = rng.random(samples)
        scores: list[Floats] = []
        differs = []
        for rate in self.rates:
            differs.append(rng.random(samples) < rate * difficulty**self.power)
            score = 1.0 - difficulty + self.noise * rng.standard_normal(samples)
            scores += [score, rng.permutation(score)] if windows else [score]
        gates = tuple(e for e in range(len(self.rates)) for _ in range(2 if windows else 1))
        costs = np.arange(1.0, len(self.rates) + 2.0)
        return Evidence(np.array(scores), gates, np.array(differs), costs)


def resample(evidence: Evidence, samples: int, rng: np.random.Generator) -> Evidence:
    """Return samples drawn from the evidence with replacement: independent, of a population that is known wholly."""
    rows = rng.integers(0, evidence.samples, samples)
    return Evidence(evidence.scores[:, rows], evidence.gates, evidence.differs[:, rows], evidence.costs)
