"""Makes each recorded decision of the scheduler again: admissions, exits, windows."""

from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from offload.estimate import Estimate
from offload.policy import Action, Outlook, PolicySettings, make_policy
from runtime.execute.decisions import Admission, ExitReached, admit, end_at
from runtime.observe.recorder.taps import memory_of
from runtime.observe.replay.difference import Difference, first_difference
from runtime.observe.replay.log import Entry, LogError


@dataclass(slots=True)
class SchedulerReplay:
    """Takes recorded decisions, in any order.

    Attributes:
        repeated: How many were made again, by kind.
    """

    repeated: dict[str, int] = field(default_factory=dict)

    def decision(self, entry: Entry) -> Difference | None:
        """Make a decision again and return where it differs from the recorded one.

        Raises:
            LogError: the message is no decision.
        """
        what, asked = entry.data.get("what"), entry.data.get("asked")
        again = {"admission": _admission, "exit": _exit, "window": _window}.get(str(what))
        if again is None or not isinstance(asked, dict):
            raise LogError(f"{entry.path}: a decision about {what!r}: known are admission, exit and window")
        try:
            made = again(asked)
        except (msgspec.ValidationError, ValueError, KeyError, TypeError) as error:
            raise LogError(f"{entry.path}: a decision of {what} cannot be read: {error}") from error
        self.repeated[str(what)] = self.repeated.get(str(what), 0) + 1
        found = first_difference({"decided": entry.data.get("decided")}, {"decided": made})
        if found is None:
            return None
        about = f" request {entry.data['request']}" if "request" in entry.data else f" {asked.get('window')}"
        return Difference(entry.path, f"{what}{about} at {entry.log_ns} ns", *found)


def _admission(asked: dict[str, Any]) -> Any:
    return asdict(admit(msgspec.convert(asked, Admission, strict=False)))


def _exit(asked: dict[str, Any]) -> Any:
    ending = end_at(msgspec.convert(asked, ExitReached, strict=False))
    return {"ending": None if ending is None else str(ending)}


def _window(asked: dict[str, Any]) -> Any:
    policy = make_policy(asked["policy"], msgspec.convert(asked["settings"], PolicySettings, strict=False))
    memory = memory_of(policy)
    for name, value in asked["before"].items():
        if name not in memory:
            raise KeyError(f"policy {asked['policy']!r} remembers no {name!r}")
        setattr(policy, name, Action(value) if isinstance(value, str) else value)
    window = int(asked["window"])
    if asked["call"] == "reply":
        return policy.reply(window)
    if asked["call"] == "failed":
        return policy.failed(window)
    given, estimate = asked["estimate"], None
    if given is not None:
        estimate = msgspec.convert(given, Outlook if "courses" in given else Estimate, strict=False)
    deadline_s = float("nan") if asked["deadline_s"] is None else float(asked["deadline_s"])
    return str(policy.begin(window, deadline_s, estimate))
