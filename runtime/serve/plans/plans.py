"""The choice among the plans of a folder as things are now, and what is loaded for it.

The chooser takes the cheapest plan whose p99 keeps the deadline. Looking, choosing and loading happen on one thread of
their own; until a new placement is warm the old one serves. The last few plans stay loaded, so that what was in force a
moment ago is again at once. While an edge server is asked, a plan without it is loaded, too; otherwise one without a
device of the plan in force, which takes over what that device fails.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devices.clock import Clock, MonotonicClock
from devices.errors import ClockError, DeviceError
from devices.package import Package
from offload.throttle import Throttle
from runtime.config import PlansSection
from runtime.errors import ConfigurationError
from runtime.execute.edge import EdgeDevice
from runtime.execute.model import ServedModel
from runtime.execute.request import Reply
from runtime.plan.chooser import Asked, Choice, PlanChooser
from runtime.plan.conditions import Conditions
from runtime.serve.plans.board import Board
from runtime.serve.plans.edges import Edges
from runtime.serve.plans.folder import Here, p50_s, read_folder, used_by
from runtime.serve.plans.loading import Loading, Runner
from runtime.serve.plans.replies import REMEMBERED_S, Replies

_log = logging.getLogger("headway.plans")
SLOWER = 1.2  # a device within this counts as planned
LEAST_WAIT_S = 1e-3
KEPT_SWITCHES = 32
PROBES_TO_SETTLE = 4
_MS = 1e-3


@dataclass(frozen=True, slots=True)
class Switch:
    """One plan taking the place of another."""

    at_s: float
    before: str | None
    now: str | None
    p99_ms: float | None
    fits: bool
    why: str

    def table(self) -> dict[str, Any]:
        """Return what is told of it."""
        return {"from": self.before, "to": self.now, "p99_ms": self.p99_ms, "fits": self.fits, "why": self.why}


class Plans:
    """Chooses among the plans of a folder, and loads what it chose.

    Args:
        folder: With `problem.json` and plans.
        packages: Packages by name: all models of the problem must be among them.
        devices: Names of the devices of this board that are configured.
        lost: Those that could not be opened, and why.
        edges: Connections to edge servers.
        settings: What plans need to know of here.
    Raises:
        ConfigurationError: The folder holds no plan that this daemon can run; says what stands in the way of each.
    """

    def __init__(
        self,
        folder: Path,
        packages: Mapping[str, Package],
        devices: Sequence[str],
        lost: Mapping[str, str],
        edges: Sequence[EdgeDevice] = (),
        settings: PlansSection | None = None,
        clock: Clock | None = None,
    ) -> None:
        settings = settings or PlansSection()
        root = Path(settings.host_root)
        self._clock = clock or MonotonicClock()
        self._packages, self._settle_s = packages, settings.settle_s
        self._loading = Loading(packages, devices, settings.kept)
        here = Here(packages, devices, [edge.name for edge in edges], settings.accuracy_floor, settings.names)
        found = read_folder(folder, here, settings.levels, root)
        self._problem, self._levels = found.problem, found.levels
        self._plans, self._left_out = dict(found.plans), dict(found.left_out)
        for name, reason in self._left_out.items():
            _log.warning("%s is left out: it %s", name, reason, extra={"code": "plan_left_out", "plan": name})
        self._chooser = self._make_chooser()
        local = [device.name for device in self._problem.devices if device.name in devices]
        self._replies = Replies(local, lost)
        complaints = Throttle(_log, self._clock)
        timing = (settings.probe_s, self._clock, complaints)
        self._edges = Edges(edges, self._problem, self._plans, packages, *timing)
        self._board = Board(devices, settings.heat, root)
        self._hot_slowdown: dict[str, float] = {}
        self._was_lost: dict[str, str] = dict(lost)
        self._was_hot: dict[str, str] = {}
        self._planned_s: Mapping[tuple[str, str, str], float] = {}
        self._lock = threading.Lock()
        self._conditions: Conditions | None = None
        self._settling = False
        self._choice: Choice | None = None
        self._in_force: str | None = None
        self._switches: deque[Switch] = deque(maxlen=KEPT_SWITCHES)
        self._count = 0
        self._asked_s = -math.inf
        self.on_switch: Callable[[dict[str, Any]], None] | None = None
        """Told of each switch, on the thread that made it."""
        self.on_choice: Callable[[PlanChooser, Asked, Choice], None] | None = None
        """Told of each choice, also those that keep the plan in force, and what each was made from."""

    @property
    def models(self) -> frozenset[str]:
        """Names of the models that the plans place."""
        return frozenset(model.name for model in self._problem.models)

    def asked(self, model: str, deadline_s: float | None, least_exit: str | None) -> None:
        """Take in what a request asks for: its deadline, counted from when it was sent [s], and its least exit."""
        if model not in self.models:
            return
        exits = [each.id for each in self._packages[model].exits]
        place = exits.index(least_exit) if least_exit in exits else 0
        now_s = self._clock.now_s()
        with self._lock:
            self._asked_s = now_s
            self._replies.asked(model, deadline_s, place, now_s)

    def take(self, reply: Reply) -> None:
        """Take in a reply: how long devices took, or which one failed."""
        with self._lock:
            self._replies.take(reply, self._planned_s, self._clock.now_s())

    def instead_of(self, reply: Reply) -> ServedModel | None:
        """Return what a request can run on whose device has failed: loaded, and without it; None where nothing is."""
        with self._lock:
            blamed = self._replies.blamed(reply.message)
        return None if blamed is None else self._loading.without(reply.model, {blamed, *self._was_lost})

    def begin(self, runner: Runner) -> None:
        """Load the first plan, and what stands in for it beside it.

        Raises:
            ConfigurationError: None can run.
        """
        for name, why in self._edges.await_connected().items():
            _log.warning("edge server %s does not answer: %s", name, why, extra={"code": "edge_silent", "edge": name})
        self.consider(runner)
        if self._in_force is None:
            raise ConfigurationError(f"serve.plans: every plan needs a lost device: {self.status()['lost']}")

    def consider(self, runner: Runner) -> None:
        """Choose for the conditions of now, and load what is new in force; on the thread that may take its time."""
        conditions = self._now(runner)
        if self._clock.now_s() - self._asked_s < REMEMBERED_S:  # nobody needs to know while nobody asks
            soon_s = self._settle_s / PROBES_TO_SETTLE if self._settling else math.inf
            self._edges.probe(conditions.deadline_s, soon_s)
        if conditions == self._conditions and not self._settling:
            return
        asked = Asked(self._clock.now_s(), conditions, self._chooser.memory)
        choice = self._chooser.choose(asked.now_s, conditions)
        if self.on_choice is not None:
            self.on_choice(self._chooser, asked, choice)
        self._conditions = conditions
        self._settling = choice.index is not None and not choice.switched and choice.reason.startswith("kept")
        if not choice.switched and self._choice is not None:
            return
        self._choice = choice
        name = None if choice.index is None else [*self._plans][choice.index]
        if name is None:
            _log.error("no plan is left: %s", choice.reason, extra={"code": "no_plan"})
        elif not self._put_in_force(runner, name):
            self.consider(runner)
            return
        else:
            told = {"code": "plan_in_force", "plan": name, "fits": choice.fits}
            (_log.info if choice.fits else _log.warning)("%s in force: %s", name, choice.reason, extra=told)
        p99_ms = None if math.isinf(choice.p99_s) else choice.p99_s / _MS
        switch = Switch(self._clock.now_s(), self._in_force, name, p99_ms, choice.fits, choice.reason)
        self._in_force = name
        self._count += 1
        self._switches.append(switch)
        if self.on_switch is not None:
            self.on_switch(switch.table())
        if name is not None:
            self._loading.load_beside(runner, name, self._plans, self._edges.names, self._was_lost)

    def status(self) -> dict[str, Any]:
        """Return what `headway status` tells of the plans."""
        choice, now = self._choice, self._conditions or Conditions()
        return {
            "in_force": self._in_force,
            "why": "" if choice is None else choice.reason,
            "fits": choice is not None and choice.fits,
            "p99_ms": None if choice is None or math.isinf(choice.p99_s) else choice.p99_s / _MS,
            "deadline_ms": None if math.isinf(now.deadline_s) else now.deadline_s / _MS,
            "slowdown": dict(now.slowdown),
            "waits_ms": {name: wait_s / _MS for name, wait_s in now.waits_s.items()},
            "lost": dict(self._was_lost),
            "hot": dict(self._was_hot),
            "avoided": dict(now.avoid),
            "least_exits": dict(now.least_exits),
            "edges": self._edges.status(),
            "left_out": dict(self._left_out),
            "switches": max(0, self._count - 1),
        }

    def describe(self) -> dict[str, Any]:
        """Return everything there is to tell: the status, each plan as it is now, and the last switches."""
        looks, now_s = self._chooser.looks, self._clock.now_s()
        rows = []
        for index, (name, plan) in enumerate(self._plans.items()):
            look = looks[index] if index < len(looks) else None
            rows.append(
                {
                    "name": name,
                    "in_force": name == self._in_force,
                    "placement": plan.placement,
                    "levels": {k: v for k, v in plan.levels.items() if k in self._levels},
                    "last_exit": plan.last_exit,
                    "energy_mj": plan.energy_mj,
                    "accuracy": plan.accuracy,
                    "planned_p99_ms": plan.latency_p99_ms,
                    "p99_ms": None if look is None or math.isinf(look.p99_s) else look.p99_s / _MS,
                    "fits": look is not None and look.fits,
                    "against": "" if look is None else look.against,
                }
            )
        switches = [{"ago_s": now_s - switch.at_s, **switch.table()} for switch in tuple(self._switches)]
        return {**self.status(), "plans": rows, "last_switches": switches}

    def close(self) -> None:
        """Set the clocks back to what they were."""
        for name, levels in self._levels.items():
            try:
                levels.restore()
            except ClockError as error:
                _log.error("the clock of %s could not be set back: %s", name, error, extra={"code": "clock_left"})

    def _make_chooser(self) -> PlanChooser:
        names, plans = tuple(self._plans), tuple(self._plans.values())
        return PlanChooser(self._problem, plans, names=names, settle_s=self._settle_s)

    # Conditions

    def _now(self, runner: Runner) -> Conditions:
        now_s = self._clock.now_s()
        declared = [model.deadline_s for model in self._problem.models if model.deadline_s is not None]
        with self._lock:
            self._replies.forget(now_s)
            self._edges.learn(self._planned_s)
            self._board.look(now_s, self._replies.idle_since)
            lost = self._replies.lost | runner.lost | self._edges.lost()
            measured = self._replies.slowdown
            waits_s = self._replies.waits_s | self._edges.waits_s()
            asked_s, least = self._replies.asked_s, self._replies.least_exits
        slowdown, avoid = self._heat(measured, lost)
        for found in (self._edges.slowdown(), self._board.slowdown()):
            slowdown |= {name: max(ratio, slowdown.get(name, 1.0)) for name, ratio in found.items()}
        self._tell(lost)
        return Conditions(
            min(declared, default=asked_s),
            {name: round(ratio, 1) for name, ratio in slowdown.items() if ratio >= SLOWER},
            self._edges.ways(),
            {name: math.ceil(wait_s / _MS) * _MS for name, wait_s in waits_s.items() if wait_s >= LEAST_WAIT_S},
            frozenset(lost),
            avoid,
            {model: self._packages[model].exits[place].id for model, place in least.items() if model in self.models},
            math.ceil(runner.reserve_s / _MS) * _MS,
        )

    def _heat(self, measured: dict[str, float], lost: Mapping[str, str]) -> tuple[dict[str, float], dict[str, str]]:
        """Return how slow devices are, and those to avoid as they are hot and nobody knows how slow that makes them."""
        slowdown, avoid = dict(measured), {}
        for name, why in self._board.hot.items():
            declared = self._board.declared_slowdown(name)
            if name in measured:
                self._hot_slowdown[name] = measured[name]
            known = [each for each in (measured.get(name), declared, self._hot_slowdown.get(name)) if each is not None]
            if known:
                slowdown[name] = max(known[0], declared or 1.0)
            elif name not in lost:
                avoid[name] = f"{why}, and how slow that makes it was never measured"
        return slowdown, avoid

    def _tell(self, lost: Mapping[str, str]) -> None:
        """Log what has changed of lost and hot devices."""
        for name in lost.keys() - self._was_lost.keys():
            _log.warning("device %s is lost: %s", name, lost[name], extra={"code": "device_lost", "device": name})
        for name in self._was_lost.keys() - lost.keys():
            _log.info("device %s is tried again", name, extra={"code": "device_back", "device": name})
        hot = dict(self._board.hot)
        for name in hot.keys() - self._was_hot.keys():
            known = self._hot_slowdown.get(name, self._board.declared_slowdown(name))
            told = "how slow that makes it isn't known" if known is None else f"it takes {known:.3g} times as long"
            extra = {"code": "device_hot", "device": name}
            _log.warning("device %s is hot: %s; %s", name, hot[name], told, extra=extra)
        for name in self._was_hot.keys() - hot.keys():
            _log.info("device %s is cool again", name, extra={"code": "device_cool", "device": name})
        self._was_lost, self._was_hot = dict(lost), hot

    # Loading

    def _put_in_force(self, runner: Runner, name: str) -> bool:
        """Set the clocks of a plan and serve its models; False where that can't be, which is then known."""
        plan = self._plans[name]
        try:
            for device, level in plan.levels.items():
                if device in self._levels:
                    self._levels[device].apply(level)
        except ClockError as error:
            self._bar(name, str(error))
            return False
        with self._lock:
            self._planned_s = p50_s(self._problem, plan)
        try:
            for model in self._loading.load(runner, name, plan, self._was_lost):
                runner.serve(model)
        except DeviceError as error:
            self._would_not_load(name, str(error))
            return False
        return True

    def _bar(self, name: str, why: str) -> None:
        """Leave a plan out from now on, unless it is the last."""
        _log.error("%s is left out: %s", name, why, extra={"code": "plan_left_out", "plan": name})
        if len(self._plans) == 1:
            raise ConfigurationError(f"serve.plans: the last plan can't run: {why}")
        self._left_out[name] = why
        del self._plans[name]
        self._chooser, self._conditions, self._choice = self._make_chooser(), None, None

    def _would_not_load(self, name: str, why: str) -> None:
        """Take the device or edge server that is blamed as lost for a while; where none is, all of the plan's."""
        used, now_s = used_by(self._plans[name]), self._clock.now_s()
        with self._lock:
            blamed = self._replies.blamed(why) or self._edges.blamed(why)
            for device in used if blamed is None else {blamed}:
                if device in self._edges.names:
                    self._edges.lose(device, why)
                else:
                    self._replies.lose(device, why, now_s)
