"""How the socket thread waits, and when it and ZeroMQ's threads are run before others."""

import os

import pytest
import zmq

from runtime.serve import realtime
from runtime.serve.patience import Patience
from runtime.serve.realtime import Promptness


class Poller(zmq.Poller):
    """Is ready at the `after`-th look; keeps how long each was allowed to take [ms]."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.looks: list[float | None] = []
        self._after = after

    def poll(self, timeout: float | None = None) -> list[tuple[object, int]]:
        self.looks.append(timeout)
        return [(7, 1)] if len(self.looks) >= self._after else []


@pytest.mark.parametrize(
    ("busy_us", "told", "most_ms", "looks"),
    [
        (10**9, True, 50, [0, 0, 0]),
        (10**9, False, 50, [20]),
        (10**9, True, 0, [0]),
        (0, True, 50, [20]),
        (0, False, 5, [5]),
    ],
)
def test_it_looks_without_sleeping_after_what_it_was_told_of(
    monkeypatch: pytest.MonkeyPatch, busy_us: int, told: bool, most_ms: int, looks: list[int]
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    poller = Poller(after=len(looks))
    patience = Patience(poller, 20, busy_us)
    if told:
        patience.stay()
    assert patience.wait(most_ms) == {7: 1}
    assert poller.looks == looks


def test_with_one_core_it_sleeps_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    poller = Poller(after=1)
    patience = Patience(poller, 20, 10**9)
    patience.stay()
    patience.wait(50)
    assert poller.looks == [20]


def test_threads_are_prompt_while_devices_owe_answers_and_a_second_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def fifo(thread: int, priority: int) -> str:
        asked.append((thread, priority))
        return "yes"

    def short_slice(thread: int) -> str:
        asked.append((thread, 0))
        return "yes"

    monkeypatch.setattr(realtime, "_fifo", fifo)
    monkeypatch.setattr(realtime, "_short_slice", short_slice)
    promptness = Promptness([11], [22])
    for busy, now_s, then in [
        (False, 0.0, []),
        (True, 1.0, [(11, 1), (22, 2)]),  # ZeroMQ's before the one that hands replies to them
        (True, 5.0, []),
        (False, 5.9, []),
        (False, 6.0, [(11, 0), (22, 0)]),
        (False, 9.0, []),
        (True, 9.1, [(11, 1), (22, 2)]),
    ]:
        asked.clear()
        promptness.attend(busy, now_s)
        assert asked == then


def test_where_real_time_is_refused_the_short_slice_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sliced: list[int] = []
    monkeypatch.setattr(realtime, "_fifo", lambda thread, priority: "Operation not permitted")
    monkeypatch.setattr(realtime, "_short_slice", sliced.append)
    Promptness([1], [2]).urgent()
    assert sliced == [1, 2]
