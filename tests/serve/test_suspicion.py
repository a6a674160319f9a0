"""What an edge server's answers say against it, in virtual time."""

import logging

import pytest

from devices.clock import VirtualClock
from offload.link import WINDOW_S
from offload.link.emulated import Transmission
from offload.outcome import Handle, Outcome
from offload.wire import Code
from runtime.serve.suspicion import Suspicion

SERVER = "tcp://10.0.0.5:5555"
RTT_S = 0.004


def answer(
    latency_s: float,
    *,
    code: Code = Code.OK,
    queue_s: float = 0.0,
    compute_s: float = 0.0,
    load_s: float = 0.0,
    transmission: Transmission | None = None,
) -> Outcome:
    handle = Handle(1, 100.0, 101.0, transmission)
    return Outcome(
        handle, code, "", 100.0 + latency_s, queue_s=queue_s, compute_s=compute_s, load_s=load_s, endpoint=SERVER
    )


@pytest.fixture
def suspicion() -> Suspicion:
    return Suspicion(VirtualClock())


@pytest.mark.parametrize(("late_s", "slow"), [(-1e-6, 0), (1e-6, 1)])
def test_an_answer_is_slow_from_a_window_beyond_what_is_known(
    suspicion: Suspicion, caplog: pytest.LogCaptureFixture, late_s: float, slow: int
) -> None:
    suspicion.take(answer(RTT_S + 0.03 + 0.05 + WINDOW_S + late_s, queue_s=0.03, compute_s=0.05), RTT_S)
    assert suspicion.counts["slow"] == slow
    assert len(caplog.messages) == slow
    if slow:
        assert f"{SERVER} is slow: its answer took 0.104 s, 0.020 s more than the link" in caplog.text


@pytest.mark.parametrize(("late_s", "slow"), [(-1e-6, 0), (1e-6, 1)])
def test_the_time_on_an_emulated_link_is_the_links_own(suspicion: Suspicion, late_s: float, slow: int) -> None:
    # Waits .01 s for the uplink, is sent in .06 s, and takes .02 s each way and .005 s in a queue.
    way = Transmission(1e6, 100.01, 100.07, (), rtt_s=0.04, queue_s=0.005)
    suspicion.take(answer(0.07 + 0.02 + 0.025 + WINDOW_S + late_s, transmission=way), RTT_S)
    assert suspicion.counts["slow"] == slow


@pytest.mark.parametrize(
    ("load_s", "latency_s", "disbelieved"), [(1.0, 0.001, 0), (1.1, 0.109, 1), (1.1, 0.111, 0), (1000.0, 0.05, 1)]
)
def test_a_load_that_an_answer_belies_is_not_believed(
    suspicion: Suspicion, caplog: pytest.LogCaptureFixture, load_s: float, latency_s: float, disbelieved: int
) -> None:
    suspicion.take(answer(latency_s, compute_s=latency_s, load_s=load_s), RTT_S)
    assert (suspicion.counts["load_disbelieved"], suspicion.counts["slow"]) == (disbelieved, 0)
    assert (f"it tells of {load_s:.1f} s of work" in caplog.text) == bool(disbelieved)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_what_is_no_answer_says_nothing(suspicion: Suspicion, code: Code) -> None:
    suspicion.take(answer(10.0, code=code, load_s=1000.0), RTT_S)
    assert not suspicion.counts


def test_all_are_counted_and_one_a_second_is_told_of_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()
    suspicion = Suspicion(clock)
    caplog.set_level(logging.WARNING, "headway.offload")
    for _ in range(3):
        suspicion.take(answer(0.09, load_s=1000.0), RTT_S)
    assert [("is slow" in text, "is not believed" in text) for text in caplog.messages] == [
        (True, False),
        (False, True),
    ]
    clock.advance(1.0)
    suspicion.take(answer(0.09), RTT_S)
    assert caplog.messages[-1].endswith("(2 more went unsaid)")
    assert suspicion.counts == {"slow": 4, "load_disbelieved": 3}
