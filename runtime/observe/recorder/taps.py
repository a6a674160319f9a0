"""What the scheduler decides, as events of the topic "decision": each with all that it was made from.

    admission  a request was taken or refused         exit   an exit answered, and the run went on or ended
    window     a window's action, by the run-time policy, with what the policy remembered before
    plan       a choice among plans, with what the chooser remembered before
    plans      what a chooser was made from, told before its first choice and again to whoever subscribes later

Where nobody listens a decision costs one look-up.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import msgspec

from offload.estimate import Estimate
from offload.policy import Action, PolicySettings, WindowPolicy
from runtime.execute.decisions import Admission, ExitReached, Verdict
from runtime.execute.job import Job
from runtime.execute.request import Ending
from runtime.plan.chooser import Asked, Choice, PlanChooser
from runtime.serve.events import EventHub, Topic

_DIGEST = 16  # hexadecimal digits that tell one set of plans from another


def tell_decisions(hub: EventHub) -> Callable[[Job, Admission | ExitReached, Verdict | Ending | None], None]:
    """Return what an executor tells its decisions to."""

    def told(job: Job, asked: Admission | ExitReached, made: Verdict | Ending | None) -> None:
        if not hub.wanted(Topic.DECISION):
            return
        what = "admission" if isinstance(asked, Admission) else "exit"
        decided = asdict(made) if isinstance(made, Verdict) else {"ending": None if made is None else str(made)}
        about = {"what": what, "request": str(job.request.id), "model": job.request.model}
        hub.publish(Topic.DECISION, {**about, "asked": asdict(asked), "decided": decided})

    return told


def tell_choices(hub: EventHub) -> Callable[[PlanChooser, Asked, Choice], None]:
    """Return what the choice among plans is told to."""
    known: tuple[PlanChooser, str] | None = None
    knowing = 0

    def told(chooser: PlanChooser, asked: Asked, made: Choice) -> None:
        nonlocal known, knowing
        if not hub.wanted(Topic.DECISION):
            return
        if known is None or known[0] is not chooser or knowing != hub.joined(Topic.DECISION):
            knowing = hub.joined(Topic.DECISION)
            made_from = msgspec.to_builtins(chooser.made_from, str_keys=True)
            known = chooser, hashlib.sha256(msgspec.json.encode(made_from)).hexdigest()[:_DIGEST]
            hub.publish(Topic.DECISION, {"what": "plans", "plans": known[1], "asked": made_from, "decided": None})
        about = {"what": "plan", "plans": known[1]}
        hub.publish(Topic.DECISION, {**about, "asked": msgspec.to_builtins(asked), "decided": asdict(made)})

    return told


class TappedPolicy:
    """A run-time policy whose every decision is told.

    Args:
        name: What the policy is called.
        policy: It.
        settings: What it was made with.
        hub: Where to tell.
    """

    def __init__(self, name: str, policy: WindowPolicy, settings: PolicySettings, hub: EventHub) -> None:
        self._name = name
        self._policy = policy
        self._settings = settings
        self._hub = hub

    def begin(self, window: int, deadline_s: float, estimate: Estimate | None) -> Action:
        """Start a window; see `WindowPolicy.begin`."""
        before = self._before()
        action = self._policy.begin(window, deadline_s, estimate)
        if before is not None:
            given = None if estimate is None else asdict(estimate)
            self._tell("begin", before, window, deadline_s, given, str(action))
        return action

    def reply(self, window: int) -> bool:
        """Tell that the reply came; see `WindowPolicy.reply`."""
        before = self._before()
        wanted = self._policy.reply(window)
        if before is not None:
            self._tell("reply", before, window, math.nan, None, wanted)
        return wanted

    def failed(self, window: int) -> bool:
        """Tell that no reply will come; see `WindowPolicy.failed`."""
        before = self._before()
        wanted = self._policy.failed(window)
        if before is not None:
            self._tell("failed", before, window, math.nan, None, wanted)
        return wanted

    def _before(self) -> dict[str, Any] | None:
        return memory_of(self._policy) if self._hub.wanted(Topic.DECISION) else None

    def _tell(
        self,
        call: str,
        before: dict[str, Any],
        window: int,
        deadline_s: float,
        estimate: dict[str, Any] | None,
        decided: str | bool,
    ) -> None:
        asked: dict[str, Any] = {"policy": self._name, "settings": asdict(self._settings), "before": before}
        asked |= {"call": call, "window": window, "estimate": estimate}
        asked["deadline_s"] = None if math.isnan(deadline_s) else deadline_s
        self._hub.publish(Topic.DECISION, {"what": "window", "asked": asked, "decided": decided})


def memory_of(policy: WindowPolicy) -> dict[str, Any]:
    """Return what a policy remembers between two windows."""
    held = {name: value for name, value in vars(policy).items() if name != "_settings"}
    return {name: str(value) if isinstance(value, Action) else value for name, value in held.items()}
