"""What is said of a bound from n values holds as often as claimed."""

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carla_bridge.calibrate.statistics import coverage_of, lower_bound, median_of, upper_bound
from carla_bridge.errors import CalibrationError


def missed(count: int, trials: int, miss: str) -> float:
    rng = random.Random(5)
    lost = 0
    for _ in range(trials):
        values = [rng.random() for _ in range(count)]
        if miss in ("upper", "upper of ten"):
            lost += upper_bound("x", values, "m", 0.1, "", top=2 if miss == "upper" else 10).high < 1.0
        elif miss == "lower":
            lost += lower_bound("x", [value + 9.0 for value in values], "m", 0.1, "").low > 9.0
        elif miss == "median":
            found = median_of("x", values, "m", 0.1, "")
            lost += not found.low <= 0.5 <= found.high
        else:
            lost += max(values) < coverage_of(count, 0.1)
    return lost / trials


@pytest.mark.parametrize("what", ["upper", "upper of ten", "lower", "median", "coverage"])
@pytest.mark.parametrize("count", [12, 60])
def test_the_interval_misses_no_more_often_than_said(what: str, count: int) -> None:
    assert missed(count, 400, what) < 0.1 + 0.045


@settings(max_examples=20)
@given(st.lists(st.floats(0.0, 100.0), min_size=5, max_size=40), st.floats(0.01, 0.4))
def test_a_bound_is_never_better_than_the_worst_value(values: list[float], delta: float) -> None:
    found = upper_bound("x", values, "m", delta, "")
    assert found.value >= max(values) == found.low
    wider = upper_bound("x", values, "m", 0.5 * delta, "")
    assert wider.value >= found.value
    shifted = [200.0 + 200.0 * value for value in values]
    with contextlib.suppress(CalibrationError):  # the values may be too far apart for any bound above 0
        assert lower_bound("x", shifted, "m", delta, "").value <= min(shifted)


def test_values_too_far_apart_for_a_lower_bound_are_refused() -> None:
    with pytest.raises(CalibrationError, match="the least of 5 values is 1 m: the next ones are too far from it"):
        lower_bound("x", [1.0, 2.0, 3.0, 4.0, 5.0], "m", 0.05, "")


def test_the_interval_of_the_median_by_hand() -> None:
    # P(Binomial(10, 1/2) <= 1) = 11/1024, and with <= 2 it is 56/1024.
    found = median_of("x", [float(value) for value in range(1, 11)], "m", 0.05, "")
    assert (found.value, found.low, found.high) == (5.5, 2.0, 9.0)


def test_too_few_values_are_refused_with_how_many_would_do() -> None:
    with pytest.raises(CalibrationError, match="x: 4 values, at least 5"):
        upper_bound("x", [1.0] * 4, "m", 0.05, "")
    with pytest.raises(CalibrationError, match=r"5 values give no interval of confidence 0\.95, at least 6"):
        median_of("x", [1.0] * 5, "m", 0.05, "")
    with pytest.raises(CalibrationError, match="not finite"):
        upper_bound("x", [1.0] * 5 + [float("nan")], "m", 0.05, "")
