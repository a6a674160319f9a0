"""A run on the caller's thread that takes too long is stopped, with one timer for all of them."""

from collections.abc import Callable

from devices.clock import TimerHandle, VirtualClock
from runtime.execute.leash import IDLE_LOOKS, Leash

MS = 1_000_000
MOST_S = 0.02


class Clock(VirtualClock):
    """Counts the timers that were set."""

    set = 0

    def call_at(self, at_ns: int, action: Callable[[], None]) -> TimerHandle:
        self.set += 1
        return super().call_at(at_ns, action)


class Held:
    """A leash on a virtual clock, and what it stopped."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.leash = Leash(self.clock, self.clock, MOST_S)
        self.stopped: list[tuple[str, float]] = []

    def begin(self, name: str, deadline_s: float | None = None) -> None:
        deadline_ns = None if deadline_s is None else round(deadline_s * 1e9)
        self.leash.begin(lambda: self.stopped.append((name, self.clock.now_s())), deadline_ns)

    def run(self, name: str, took_s: float, deadline_s: float | None = None) -> None:
        self.begin(name, deadline_s)
        self.clock.advance(took_s)
        self.leash.end()


def test_a_run_is_stopped_at_its_deadline_or_after_the_most_it_may_take() -> None:
    held = Held()
    held.begin("long")
    held.clock.advance(1.0)
    assert held.stopped[0] == ("long", MOST_S)
    held = Held()
    held.run("in time", 0.001)
    held.begin("late", deadline_s=0.005)
    held.clock.advance(1.0)
    assert held.stopped[0] == ("late", 0.005)
    assert {name for name, _ in held.stopped} == {"late"}


def test_what_ends_in_time_is_left_alone_however_many_there_are() -> None:
    held = Held()
    for number in range(200):
        held.run(f"run {number}", 0.0004, deadline_s=held.clock.now_s() + 0.01)
        held.clock.advance(0.0001 * (number % 7))
    assert held.stopped == []
    assert held.clock.set < 20
    held.begin("the next", deadline_s=held.clock.now_s() + 0.003)
    begun_s = held.clock.now_s()
    held.clock.advance(0.1)
    assert held.stopped[0] == ("the next", round(begun_s + 0.003, 9))


def test_it_rests_after_a_while_and_begins_again() -> None:
    held = Held()
    held.run("first", 0.001)
    held.clock.advance((IDLE_LOOKS + 3) * MOST_S)
    resting = held.clock.set
    held.clock.advance(10.0)
    assert held.clock.set == resting
    begun_s = held.clock.now_s()
    held.begin("second")
    held.clock.advance(1.0)
    assert held.stopped[0] == ("second", round(begun_s + MOST_S, 9))
