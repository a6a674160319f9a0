"""Makes each recorded decision of the scheduler again: admissions, exits, windows, choices among plans."""

from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from offload.estimate import Estimate
from offload.policy import Action, Outlook, PolicySettings, make_policy
from runtime.execute.decisions import Admission, ExitReached, admit, end_at
from runtime.observe.recorder.plain import encode_plain
from runtime.observe.recorder.taps import memory_of
from runtime.observe.replay.difference import Difference, first_difference
from runtime.observe.replay.log import Entry, LogError
from runtime.plan.chooser import Asked, PlanChooser
from runtime.plan.errors import PlanError
from runtime.plan.plan import Plan
from runtime.plan.problem import Problem


@dataclass(slots=True)
class SchedulerReplay:
    """Takes recorded decisions, in any order.

    Attributes:
        repeated: How many were made again, by kind.
        left_out: Choices among plans that the log does not hold.
    """

    repeated: dict[str, int] = field(default_factory=dict)
    left_out: int = 0
    _choosers: dict[str, PlanChooser] = field(default_factory=dict)

    def decision(self, entry: Entry) -> Difference | None:
        """Make a decision again and return where it differs from the recorded one.

        Raises:
            LogError: the message is no decision.
        """
        what, asked = entry.data.get("what"), entry.data.get("asked")
        again = {"admission": _admission, "exit": _exit, "window": _window}
        known = (*again, "plan", "plans")
        if what not in known or not isinstance(asked, dict):
            raise LogError(f"{entry.path}: a decision about {what!r}: known are {', '.join(known)}")
        plans = str(entry.data.get("plans"))
        if what == "plan" and plans not in self._choosers:
            self.left_out += 1
            return None
        try:
            if what == "plans":
                self._choosers[plans] = _chooser(asked)
                return None
            made = _plan(self._choosers[plans], asked) if what == "plan" else again[what](asked)
        except (msgspec.ValidationError, PlanError, ValueError, KeyError, TypeError) as error:
            raise LogError(f"{entry.path}: a decision of {what} cannot be read: {error}") from error
        self.repeated[str(what)] = self.repeated.get(str(what), 0) + 1
        found = first_difference(
            {"decided": entry.data.get("decided")}, {"decided": msgspec.json.decode(encode_plain(made))}
        )
        if found is None:
            return None
        about = f" request {entry.data['request']}" if "request" in entry.data else ""
        about = f" {asked['window']}" if "window" in asked else about
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


def _chooser(made_from: dict[str, Any]) -> PlanChooser:
    problem = msgspec.convert(made_from["problem"], Problem)
    plans = msgspec.convert(made_from["plans"], list[Plan])
    margin, settle_s = float(made_from["margin"]), float(made_from["settle_s"])
    return PlanChooser(problem, plans, margin=margin, settle_s=settle_s, names=made_from["names"])


def _plan(chooser: PlanChooser, asked: dict[str, Any]) -> Any:
    given = msgspec.convert(asked, Asked, strict=False)
    chooser.memory = given.before
    return asdict(chooser.choose(given.now_s, given.conditions))
