"""The certificate: its path, its test, and that it fails no more often than declared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runtime.pack.exits.binomial import binomial_cdf, most_disagreements
from runtime.pack.exits.certify import certify
from runtime.pack.exits.errors import TooFewSamplesError
from runtime.pack.exits.evidence import Evidence
from runtime.pack.exits.path import make_path
from tests.runtime.pack_exits.populations import Population, resample


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    exits, samples = draw(st.integers(1, 3)), draw(st.integers(1, 40))
    gates = tuple(e for e in range(exits) for _ in range(draw(st.integers(1, 2))))
    scores = draw(arrays(np.float64, (len(gates), samples), elements=st.integers(-4, 4).map(float)))
    differs = draw(arrays(np.bool_, (exits, samples)))
    steps = draw(st.lists(st.integers(0, 9), min_size=exits + 1, max_size=exits + 1))
    return Evidence(scores, gates, differs, np.cumsum(np.array(steps) + 1.0))


@given(evidence=evidences(), levels=st.integers(1, 12))
def test_a_path_begins_closed_only_opens_and_saves_at_every_step(evidence: Evidence, levels: int) -> None:
    path = make_path(evidence, levels)
    assert np.isposinf(path[0]).all()
    assert np.all(path[1:] <= path[:-1])
    costs = [evidence.mean_cost(thresholds) for thresholds in path]
    assert np.all(np.diff(costs) < 0)
    counts = [evidence.disagreements(thresholds) for thresholds in path]
    assert np.all(np.diff(counts) >= 0)


@given(evidence=evidences(), data=st.data())
def test_disagreement_counts_bound_every_way_of_walking(evidence: Evidence, data: st.DataObject) -> None:
    thresholds = data.draw(arrays(np.float64, len(evidence.gates), elements=st.integers(-5, 5).map(float)))
    confident = evidence.confident(thresholds)
    for first_exit in range(evidence.exits):  # a request may ask for a deeper exit at least
        wrong = 0
        for sample in range(evidence.samples):
            sure = [e for e in range(first_exit, evidence.exits) if confident[e, sample]]
            wrong += bool(sure) and bool(evidence.differs[sure[0], sample])
        assert wrong <= evidence.disagreements(thresholds)
    leaves = evidence.leaves_at(thresholds)
    for sample in range(evidence.samples):
        sure = [e for e in range(evidence.exits) if confident[e, sample]]
        assert leaves[sample] == (sure[0] if sure else evidence.exits)


@given(seed=st.integers(0, 10_000), samples=st.integers(60, 400), alpha=st.floats(0.05, 0.3))
def test_the_last_step_that_the_count_allows_is_taken(seed: int, samples: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    path = make_path(Population().draw(200, rng))
    evidence = Population().draw(samples, rng)
    found = certify(path, evidence, alpha, 0.05)
    allowed = most_disagreements(samples, alpha, 0.05)
    assert evidence.disagreements(found.thresholds) == found.disagreements <= allowed
    assert found.p_value == binomial_cdf(found.disagreements, samples, alpha) <= 0.05
    if found.step + 1 < len(path):
        assert evidence.disagreements(path[found.step + 1]) > allowed


def _failures(population: Evidence, path_from: Evidence, samples: int, alpha: float, delta: float, runs: int) -> int:
    """Return in how many of `runs` draws the certified thresholds disagree more often than alpha in the population."""
    path = make_path(path_from)
    rng = np.random.default_rng(7)
    failures = 0
    for _ in range(runs):
        found = certify(path, resample(population, samples, rng), alpha, delta)
        failures += population.disagreements(found.thresholds) > alpha * population.samples
    return failures


@pytest.mark.parametrize("delta", [0.05, 0.2])
def test_the_certificate_fails_no_more_often_than_delta_on_synthetic_data(delta: float) -> None:
    rng = np.random.default_rng(0)
    population = Population().draw(20_000, rng)
    runs = 300
    failures = _failures(population, Population().draw(300, rng), 300, 0.05, delta, runs)
    assert binomial_cdf(failures - 1, runs, delta) < 1.0 - 1e-4  # P(so many or more) is not below 1e-4
    assert failures > 0  # the bound is used, not merely kept by never leaving


def test_naive_thresholds_would_fail() -> None:
    """What the certificate is for: the last step whose count is just within alpha fails about half of the time."""
    rng = np.random.default_rng(0)
    population, path = Population().draw(20_000, rng), make_path(Population().draw(300, rng))
    failures = 0
    for _ in range(100):
        drawn = resample(population, 300, rng)
        within = [t for t in path if drawn.disagreements(t) <= 0.05 * drawn.samples]
        failures += population.disagreements(within[-1]) > 0.05 * population.samples
    assert failures > 25


def test_poor_exits_stay_closed_while_good_ones_open() -> None:
    rng = np.random.default_rng(3)
    population = Population(rates=(0.9, 0.02), power=0.5)
    path = make_path(population.draw(400, rng))
    found = certify(path, population.draw(1000, rng), 0.05, 0.05)
    opened = population.draw(2000, rng).confident(found.thresholds).mean(axis=1)
    assert opened[0] < 0.1
    assert opened[1] > 0.8


def test_two_gates_of_one_exit_are_opened_apart() -> None:
    rng = np.random.default_rng(4)
    evidence = Population().draw(500, rng, windows=True)
    assert make_path(evidence).shape[1] == len(evidence.gates) == 4


@pytest.mark.parametrize(("samples", "enough"), [(298, False), (299, True)])
def test_fewer_samples_than_any_guarantee_needs_are_refused(samples: int, enough: bool) -> None:
    rng = np.random.default_rng(5)
    path = make_path(Population().draw(100, rng))
    drawn = Population().draw(samples, rng)
    if enough:
        certify(path, drawn, 0.01, 0.05)
        return
    with pytest.raises(TooFewSamplesError, match=r"298 calibration samples.* needs at least 299") as caught:
        certify(path, drawn, 0.01, 0.05)
    assert (caught.value.samples, caught.value.needed) == (298, 299)


def test_a_path_that_does_not_begin_closed_or_closes_again_is_refused() -> None:
    drawn = Population().draw(100, np.random.default_rng(6))
    for path in ([[0.5, np.inf]], [[np.inf, np.inf], [0.5, 0.5], [0.6, 0.4]]):
        with pytest.raises(ValueError, match="begin with every gate closed"):
            certify(np.array(path), drawn, 0.1, 0.1)


@pytest.mark.parametrize(
    ("scores", "gates", "exits", "message"),
    [
        (np.zeros((2, 3)), (0,), 1, "must be"),
        (np.zeros((1, 3)), (0,), 2, "must name each of 2 exits"),
        (np.array([[0.0, np.nan, 0.0]]), (0,), 1, "NaN"),
    ],
)
def test_unsound_evidence_is_refused(
    scores: np.ndarray[tuple[int, int], np.dtype[np.float64]], gates: tuple[int, ...], exits: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Evidence(scores, gates, np.zeros((exits, 3), bool), np.arange(exits + 1.0))
