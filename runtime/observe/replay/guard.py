"""Makes each recorded decision of a guard again, from the recorded clock, observation and proposal.

A guard is set up with what the recorded one remembered at some tick, and from there on given the same inputs. What it
answers must be what was recorded, in every field and every bit; what it remembers, whenever that was recorded, too.
Ticks before the first memory, or behind lost ones until the next, cannot be made again: they are counted as left out.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from runtime.observe.replay.difference import Difference, first_difference
from runtime.observe.replay.log import Entry, LogError
from runtime.serve.guard_process import decision_message
from runtime.serve.guard_ticks import Followed, Tick, guard_with, memory_of, observation_of, proposal_of
from shield.guard import Guard


@dataclass(slots=True)
class GuardReplay:
    """Takes the messages of a guard in their order.

    Attributes:
        repeated: Ticks whose decision was made again.
        left_out: Ticks that could not be.
    """

    repeated: int = 0
    left_out: int = 0
    _rules: Followed | None = None
    _guard: Guard | None = None
    _pid: int = 0
    _number: int = 0

    def rules(self, entry: Entry) -> None:
        """Take in the vehicle and the settings.

        Raises:
            LogError: the vehicle is not the one that was recorded.
        """
        rules = _read(entry, Followed)
        if rules.vehicle.fingerprint() != rules.fingerprint:
            raise LogError(
                f"{entry.path}: the vehicle's fingerprint is {rules.vehicle.fingerprint()[:12]}, recorded was "
                f"{rules.fingerprint[:12]}: the log was changed, or another version of this program recorded it"
            )
        if self._rules is None or rules != self._rules:
            self._guard = None
        self._rules = rules

    def tick(self, entry: Entry) -> Difference | None:
        """Make a tick's decision again and return where it differs from the recorded one."""
        tick = _read(entry, Tick)
        if (tick.pid, tick.number) != (self._pid, self._number + 1):
            self._guard = None
        self._pid, self._number = tick.pid, tick.number
        where = f"tick {tick.number} of guard {tick.pid}, now_s {tick.now_s!r}"
        if tick.memory is not None and self._rules is not None:
            if self._guard is not None:
                found = first_difference(msgspec.to_builtins(tick.memory), msgspec.to_builtins(memory_of(self._guard)))
                if found is not None:
                    return Difference(entry.path, where, f"memory.{found[0]}", *found[1:])
            self._guard = guard_with(self._rules.vehicle, self._rules.settings, tick.memory)
        if self._guard is None:
            self.left_out += 1
            return None
        observation = None if tick.observation is None else observation_of(tick.observation)
        proposal = None if tick.proposal is None else proposal_of(tick.proposal)
        made = decision_message(self._guard.tick(tick.now_s, observation, proposal))
        self.repeated += 1
        found = first_difference(msgspec.to_builtins(tick.decision), msgspec.to_builtins(made))
        return None if found is None else Difference(entry.path, where, f"decision.{found[0]}", *found[1:])


def _read(entry: Entry, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(entry.data, kind, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise LogError(f"{entry.path}: a message of {entry.topic} cannot be read: {error}") from error
