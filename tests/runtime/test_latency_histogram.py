"""The histogram's quantile is at most 3 % above the true one and never below it."""

import math

from hypothesis import given
from hypothesis import strategies as st

from runtime.serve.latency import LatencyHistogram

durations = st.lists(st.floats(1e-6, 50.0), min_size=1, max_size=200)


@given(durations, st.floats(0.0, 1.0))
def test_quantiles_lie_within_a_bucket_of_the_truth(samples: list[float], share: float) -> None:
    histogram = LatencyHistogram()
    for sample in samples:
        histogram.add(sample)
    true = sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]
    assert true * (1 - 1e-9) <= histogram.quantile(share) <= true * 1.03 * (1 + 1e-9)
    assert histogram.largest == max(samples)
    assert histogram.count == len(samples)


def test_an_empty_histogram_has_no_delay() -> None:
    assert LatencyHistogram().quantile(0.99) == 0.0
