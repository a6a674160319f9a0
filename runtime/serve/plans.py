"""The daemon's plans: which placement is in force, when another takes its place, and why.

A folder as `headway plan --out` writes it: the problem, and a file for each plan. The chooser takes the cheapest plan
whose p99 keeps the deadline as things are now. What the daemon knows of now comes from its replies:

    slowdown of a device    median over its last runs of  (time its segments took) / (their p50 in the problem),
                            rounded to tenths; heat and load show in it alike
    lost device             it could not be opened, a plan would not load on it, or three runs in a row failed on it
    deadline                the problem's; where it has none, the median of what the last requests asked for

Plans that are best while all devices work may all need one of them: for each such device a spare plan without it is
made at the start. What was seen of a device that no run has used since counts for half a minute; then it is tried
again. Choosing and loading happen on one thread of their own; until the new placement is warm the old one serves.
"""

import logging
import math
import statistics
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devices.clock import Clock, MonotonicClock
from devices.errors import DeviceError
from runtime.errors import ConfigurationError
from runtime.execute.executor import Executor
from runtime.execute.request import Ending, Reply, Status
from runtime.plan.bounds import lower_bound_s
from runtime.plan.chooser import Choice, PlanChooser
from runtime.plan.conditions import Conditions
from runtime.plan.errors import PlanError
from runtime.plan.file import read_problem
from runtime.plan.instance import make_instance
from runtime.plan.plan import Plan, make_plan, read_plan
from runtime.plan.problem import Problem, cells
from runtime.plan.search import search

_log = logging.getLogger("headway.plans")
PROBLEM_FILE = "problem.json"
FAILURES = 3
REMEMBERED_S = 30.0
SEEN = 32
SPARE_STEPS = 2000
SLOWER = 1.2  # a device within this counts as planned


@dataclass(slots=True)
class _Seen:
    """What was seen of a device."""

    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=SEEN))
    failures: int = 0
    lost: str | None = None
    at_s: float = 0.0


class Plans:
    """Chooses among the plans of a folder, and loads what it chose.

    Args:
        folder: With `problem.json` and plans.
        packages: Packages by name: all models of the problem must be among them.
        devices: Names of the devices that are configured.
        lost: Those that could not be opened, and why.
    Raises:
        ConfigurationError: The folder holds no plan that this daemon can run; says what stands in the way of each.
    """

    def __init__(
        self,
        folder: Path,
        packages: Mapping[str, Any],
        devices: Sequence[str],
        lost: Mapping[str, str],
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or MonotonicClock()
        self._packages, self._lock = packages, threading.Lock()
        try:
            self._problem = read_problem(folder / PROBLEM_FILE)
            found = {path.stem: read_plan(path) for path in sorted(folder.glob("plan*.json"), key=_number)}
            reasons = {name: _unfit(self._problem, plan, packages, devices) for name, plan in found.items()}
            self._plans = {name: plan for name, plan in found.items() if reasons[name] is None}
            if not self._plans:
                told = "; ".join(f"{name} {reason}" for name, reason in reasons.items()) or "it holds no plan*.json"
                raise ConfigurationError(f"serve.plans {folder} has no plan that can run here: {told}")
            self._plans |= _spares(self._problem, self._plans.values(), devices)
            self._chooser = PlanChooser(self._problem, tuple(self._plans.values()), names=tuple(self._plans))
        except PlanError as error:
            raise ConfigurationError(f"serve.plans: {error}") from error
        for name, reason in reasons.items():
            if reason is not None:
                _log.warning("%s is left out: it %s", name, reason)
        self._p50_s = _p50_s(self._problem)
        self._seen = {device.name: _Seen() for device in self._problem.devices}
        for device in lost.keys() & self._seen.keys():
            self._seen[device].lost = lost[device]
            self._seen[device].at_s = math.inf  # what couldn't be opened doesn't come back by itself
        self._asked_s: deque[float] = deque(maxlen=SEEN)
        self._conditions: Conditions | None = None
        self._settling = False
        self._choice: Choice | None = None
        self._switches = 0

    @property
    def models(self) -> frozenset[str]:
        """Names of the models that the plans place."""
        return frozenset(model.name for model in self._problem.models)

    def asked(self, deadline_s: float) -> None:
        """Take in the deadline of a request, counted from when it was sent [s]."""
        with self._lock:
            self._asked_s.append(deadline_s)

    def take(self, reply: Reply) -> None:
        """Take in a reply: how long devices took, or which one failed."""
        now_s = self._clock.now_s()
        with self._lock:
            if reply.status is Status.UNAVAILABLE or reply.ending is Ending.FAILURE:
                blamed = _blamed(reply.message, self._seen)
                if blamed is not None:
                    self._failed(blamed, self._seen[blamed], reply.message, now_s)
                return
            took: dict[str, list[float]] = {}
            for part in reply.segments:
                planned_s = self._p50_s.get((reply.model, part.segment_id, part.device))
                if planned_s is not None:
                    pair = took.setdefault(part.device, [0.0, 0.0])
                    pair[0] += part.elapsed_s
                    pair[1] += planned_s
            for name, (real_s, planned_s) in took.items():
                seen = self._seen[name]
                seen.failures, seen.at_s = 0, now_s
                if planned_s > 0.0:
                    seen.ratios.append(real_s / planned_s)

    def begin(self, executor: Executor) -> None:
        """Load the first plan.

        Raises:
            ConfigurationError: None can run.
        """
        self.consider(executor)
        if self._choice is None or self._choice.index is None:
            why = self.status()["lost"]
            raise ConfigurationError(f"serve.plans: every plan needs a lost device: {why}")

    def consider(self, executor: Executor) -> None:
        """Choose for the conditions of now, and load what is new in force; on the thread that may take its time."""
        conditions = self._now()
        if conditions == self._conditions and not self._settling:
            return
        choice = self._chooser.choose(self._clock.now_s(), conditions)
        self._conditions = conditions
        self._settling = choice.index is not None and not choice.switched and choice.reason.startswith("kept")
        if not choice.switched and self._choice is not None:
            return
        self._choice = choice
        if choice.index is None:
            _log.error("no plan is left: %s", choice.reason)
            return
        name, plan = self._name(choice.index), tuple(self._plans.values())[choice.index]
        try:
            for model, placement in plan.placement.items():
                executor.load(self._packages[model], placement=placement)
        except DeviceError as error:
            self._would_not_load(plan, str(error))
            self.consider(executor)
            return
        self._switches += 1
        (_log.warning if not choice.fits else _log.info)("%s in force: %s", name, choice.reason)

    def status(self) -> dict[str, Any]:
        """Return what `headway status` tells of the plans."""
        choice, now = self._choice, self._conditions or Conditions()
        with self._lock:
            lost = {name: seen.lost for name, seen in self._seen.items() if seen.lost is not None}
        return {
            "in_force": None if choice is None or choice.index is None else self._name(choice.index),
            "why": "" if choice is None else choice.reason,
            "fits": choice is not None and choice.fits,
            "p99_ms": None if choice is None or math.isinf(choice.p99_s) else 1e3 * choice.p99_s,
            "deadline_ms": None if math.isinf(now.deadline_s) else 1e3 * now.deadline_s,
            "slowdown": dict(now.slowdown),
            "lost": lost,
            "switches": max(0, self._switches - 1),
        }

    def _name(self, index: int) -> str:
        return tuple(self._plans)[index]

    def _now(self) -> Conditions:
        now_s = self._clock.now_s()
        declared = [model.deadline_s for model in self._problem.models if model.deadline_s is not None]
        slowdown = {}
        with self._lock:
            for name, seen in self._seen.items():
                if now_s - seen.at_s > REMEMBERED_S:
                    seen.ratios.clear()
                    seen.failures, seen.lost = 0, None
                ratio = statistics.median(seen.ratios) if seen.ratios else 1.0
                if ratio >= SLOWER:
                    slowdown[name] = round(ratio, 1)
            asked_s = statistics.median_low(self._asked_s) if self._asked_s else math.inf
            lost = frozenset(name for name, seen in self._seen.items() if seen.lost is not None)
        return Conditions(min(declared, default=asked_s), slowdown, lost=lost)

    def _failed(self, name: str, seen: _Seen, why: str, now_s: float) -> None:
        seen.failures += 1
        seen.at_s = now_s
        if seen.failures >= FAILURES and seen.lost is None:
            seen.lost = why
            _log.warning("device %s is lost: %s", name, why)

    def _would_not_load(self, plan: Plan, why: str) -> None:
        """Take the device that is blamed as lost; where none is, all of the plan's."""
        used = {device for placed in plan.placement.values() for device in placed.values()}
        blamed = _blamed(why, used)
        with self._lock:
            for name in used if blamed is None else {blamed}:
                self._seen[name].lost, self._seen[name].at_s = why, self._clock.now_s()
                _log.warning("device %s is lost: %s", name, why)


def _number(path: Path) -> tuple[int, str]:
    digits = path.stem.removeprefix("plan")
    return (int(digits) if digits.isdecimal() else 0, path.stem)


def _blamed(message: str, devices: Iterable[str]) -> str | None:
    """Return the device that a failure was on, as backends and workers word it; of `cpu` and `cpu:0` the longer."""
    found = [name for name in devices if f" on {name}:" in message or f"backend of {name} failed" in message]
    return max(found, key=len, default=None)


def _spares(problem: Problem, plans: Iterable[Plan], devices: Sequence[str]) -> dict[str, Plan]:
    """Return for each device that every plan needs a plan without it, where there can be one."""
    needed = set(devices).intersection(*({d for p in plan.placement.values() for d in p.values()} for plan in plans))
    found = {}
    for lost in sorted(needed):
        left = problem
        for name in {device.name for device in problem.devices} - set(devices) | {lost}:
            left = left.without(name)
        if left.devices and all(any(s.costs.values()) for model in left.models for s in model.segments):
            instance = make_instance(left, quantile="p99")
            schedule = search(instance, steps=SPARE_STEPS)
            if schedule is not None:
                found[f"without {lost}"] = make_plan(instance, schedule, "search", lower_bound_s(instance), False)
    return found


def _unfit(problem: Problem, plan: Plan, packages: Mapping[str, Any], devices: Sequence[str]) -> str | None:
    """Return why this daemon can't run a plan, None where it can."""
    used = {device for placed in plan.placement.values() for device in placed.values()}
    missing = sorted(used - set(devices))
    if missing:
        return f"uses {missing}, and serve.devices has {list(devices)}"
    unknown = sorted(plan.placement.keys() - packages.keys())
    if unknown:
        return f"places models {unknown}, and served are {sorted(packages)}"
    if any(len(device.levels) > 1 for device in problem.devices if device.name in used):
        return "sets DVFS levels, which the daemon leaves to the system"
    for model, placed in plan.placement.items():
        segments = {segment.id for segment in packages[model].segments}
        if segments != set(placed):
            return f"places segments {sorted(placed)} of {model}, and the package has {sorted(segments)}"
    return None


def _p50_s(problem: Problem) -> dict[tuple[str, str, str], float]:
    """Return planned medians [s] by model, segment and device."""
    found = {}
    for model in problem.models:
        for segment in model.segments:
            for device in problem.devices:
                costs = cells(segment, device)
                if costs is not None:
                    found[model.name, segment.id, device.name] = costs[0].p50_s
    return found
