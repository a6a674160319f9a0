import pytest

from devices.clock import MonotonicClock, VirtualClock


def test_monotonic_clock_never_goes_back() -> None:
    clock = MonotonicClock()
    readings = [clock.now_ns() for _ in range(100)]
    assert readings == sorted(readings)
    assert clock.now_s() == pytest.approx(clock.now_ns() * 1e-9, abs=1.0)


def test_advance_fires_timers_in_order_of_time_at_their_time() -> None:
    clock = VirtualClock(start_s=1.0)
    fired: list[tuple[str, float]] = []
    for name, at_s in (("late", 1.3), ("early", 1.1), ("beyond", 2.0), ("twin", 1.3)):
        clock.call_at(round(at_s * 1e9), lambda name=name: fired.append((name, clock.now_s())))  # type: ignore[misc]
    clock.advance(0.5)
    assert fired == [("early", 1.1), ("late", 1.3), ("twin", 1.3)]
    assert clock.now_s() == 1.5


def test_a_timer_may_set_another_on_the_way() -> None:
    clock = VirtualClock()
    fired: list[float] = []

    def first() -> None:
        clock.call_at(round(0.2e9), lambda: fired.append(clock.now_s()))

    clock.call_at(round(0.1e9), first)
    clock.advance(1.0)
    assert fired == [0.2]


def test_advance_stops_at_the_timer_that_fulfils_until() -> None:
    clock = VirtualClock()
    stopped: list[bool] = []
    clock.call_at(round(0.4e9), lambda: stopped.append(True))
    clock.advance(1.0, until=lambda: bool(stopped))
    assert clock.now_s() == 0.4


def test_a_cancelled_timer_does_not_fire() -> None:
    clock = VirtualClock()
    handle = clock.call_at(1, lambda: pytest.fail("it was cancelled"))
    handle.cancel()
    clock.advance(1.0)


def test_a_timer_in_the_past_fires_without_turning_time_back() -> None:
    clock = VirtualClock(start_s=5.0)
    seen: list[float] = []
    clock.call_at(0, lambda: seen.append(clock.now_s()))
    clock.advance(0.0)
    assert seen == [5.0]


@pytest.mark.parametrize("duration_s", [-1.0, float("nan"), float("inf")])
def test_time_does_not_go_back_or_nowhere(duration_s: float) -> None:
    with pytest.raises(ValueError, match="must be a finite time"):
        VirtualClock().advance(duration_s)
