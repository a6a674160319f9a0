"""Predicted finishes, percentiles and the budget of copies."""

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from offload.client.choice import HedgeBudget, Latencies, Service, two_of


@given(st.lists(st.floats(0.0, 1.0), min_size=24, max_size=64).filter(lambda samples: len(samples) % 8 == 0))
def test_the_percentile_is_that_of_the_sorted_samples(samples: list[float]) -> None:
    latencies = Latencies()
    for sample in samples:
        latencies.add(sample)
    above = sum(sample > latencies.p95_s for sample in samples)
    at_most = sum(sample <= latencies.p95_s for sample in samples)
    assert above <= 0.05 * len(samples)
    assert at_most >= 0.95 * len(samples)
    assert latencies.p95_s in samples


def test_no_percentile_of_few_samples() -> None:
    latencies = Latencies()
    for _ in range(19):
        latencies.add(1.0)
    assert latencies.p95_s == math.inf
    assert Service().p95_s("driver") == math.inf


def test_a_prediction_adds_link_queue_and_computation() -> None:
    service = Service()
    service.rtt_s = 0.01
    service.answered("driver", compute_s=0.02, latency_s=0.03, predicted_s=0.03, now_s=5.0)
    service.report(load_s=0.1, now_s=5.0)
    assert math.isclose(service.latency_s("driver", 5.0), 0.01 + 0.1 + 0.02)
    # What was reported is worked off meanwhile; what was sent since comes on top.
    assert math.isclose(service.latency_s("driver", 5.04), 0.01 + 0.06 + 0.02)
    service.sent()
    assert math.isclose(service.latency_s("driver", 6.0), 0.01 + 0.04)
    assert math.isclose(service.latency_s("other", 6.0), 0.01)


def test_a_server_that_lies_about_its_load_is_believed_less() -> None:
    liar = Service()
    for _ in range(30):
        liar.report(load_s=0.0, now_s=1.0)
        predicted_s = liar.latency_s("driver", 1.0)
        liar.answered("driver", compute_s=0.001, latency_s=0.2, predicted_s=predicted_s, now_s=1.0)
    assert 0.15 < liar.latency_s("driver", 1.0) < 0.25
    assert 0.07 < liar.latency_s("driver", 3.0) < 0.13
    liar.forget()
    assert liar.latency_s("driver", 1.0) < 0.01


def test_one_request_in_ten_may_be_sent_twice() -> None:
    budget = HedgeBudget()
    spent = 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert 99 <= spent <= 102


@given(st.lists(st.integers(), unique=True), st.integers(0, 100))
def test_two_are_drawn_from_the_candidates(candidates: list[int], seed: int) -> None:
    drawn = two_of(candidates, random.Random(seed))
    assert len(drawn) == min(2, len(candidates))
    assert set(drawn) <= set(candidates)
    assert len(set(drawn)) == len(drawn)
