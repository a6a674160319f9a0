"""Repeats a flight log decision by decision, and says the first difference."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.observe.recorder.channels import DECISION, EVENT, GAP, RULES, TICK
from runtime.observe.replay.difference import Difference
from runtime.observe.replay.guard import GuardReplay
from runtime.observe.replay.log import Entry, FlightLog
from runtime.observe.replay.scheduler import SchedulerReplay


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a replay.

    Args:
        ticks: Ticks of the guard that were repeated.
        left_out: Ticks that could not be: before the first memory, or behind lost ones.
        decisions: Decisions of the scheduler that were repeated, by kind.
        choices_left_out: Choices among plans that could not be: what they chose from is not in the log.
        unrecorded_switches: Switches of plan in a log that holds no choice before them, as older recorders wrote it.
        lost: Messages that never reached the recorder, by where they came from.
        unfinished: Files without an end.
        difference: The first decision that came out otherwise; None: none did.
    """

    ticks: int
    left_out: int
    decisions: dict[str, int]
    choices_left_out: int
    unrecorded_switches: int
    lost: dict[str, int]
    unfinished: list[str]
    difference: Difference | None = None


@dataclass(slots=True)
class _Replay:
    guard: GuardReplay = field(default_factory=GuardReplay)
    scheduler: SchedulerReplay = field(default_factory=SchedulerReplay)
    lost: dict[str, int] = field(default_factory=dict)
    unrecorded_switches: int = 0

    def take(self, entry: Entry) -> Difference | None:
        if entry.topic == RULES.topic:
            self.guard.rules(entry)
        elif entry.topic == TICK.topic:
            return self.guard.tick(entry)
        elif entry.topic == DECISION.topic:
            return self.scheduler.decision(entry)
        elif entry.topic == EVENT.topic:
            chose = self.scheduler.repeated.get("plan", 0) + self.scheduler.left_out
            self.unrecorded_switches += entry.data.get("topic") == "plan" and not chose
        elif entry.topic == GAP.topic:
            source = str(entry.data.get("source"))
            self.lost[source] = self.lost.get(source, 0) + int(entry.data.get("lost", 0))
        return None


def replay(paths: Sequence[Path]) -> Outcome:
    """Repeat the decisions of a log until one differs.

    Args:
        paths: Files, or folders of a recorder; of one recording, the oldest first.
    Raises:
        LogError: a file cannot be read, or was damaged.
    """
    log, running = FlightLog(paths), _Replay()
    difference = None
    for entry in log:
        difference = running.take(entry)
        if difference is not None:
            break
    return Outcome(
        ticks=running.guard.repeated,
        left_out=running.guard.left_out,
        decisions=running.scheduler.repeated,
        choices_left_out=running.scheduler.left_out,
        unrecorded_switches=running.unrecorded_switches,
        lost=running.lost,
        unfinished=[path.name for path in log.unfinished],
        difference=difference,
    )
