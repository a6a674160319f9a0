"""SEO: several models with periods of their own under one tolerable deadline.

Models that supply the safety state keep their base rate. The others, model i due every p_i = delta_i tau, may be
offloaded or gated while there is time. An interval has

    delta_max = max(1, floor(Delta / tau)),  at most `max_wait_windows`

slots; model i runs in full from slot delta_max - delta_i on, and what of it is due before that is offloaded or gated.
The interval restarts, with a new deadline, after delta_max slots. Any delta_i slots in a row hold one in which the
model is due, so that each interval of at least delta_i slots ends with a full answer of every model.

A model is offloaded when that is expected to take less energy than running it and to answer before its full run; else
it runs. A request that is still out when the full run begins is given up: the full run is its fail-safe.

Reference: Odema et al., SEO: safety-aware energy optimization framework for multi-sensor neural controllers at the
edge, DAC 2023, arXiv 2302.12493. Reconstructed: the authors' artifact was not at hand.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from offload.estimate import Estimate
from offload.policy.base import Action, PolicySettings


class Saving(StrEnum):
    """What becomes of a model that is due before its full run: sent to the edge server, or left out."""

    OFFLOAD = "offload"
    GATE = "gate"


@dataclass(frozen=True, slots=True)
class Task:
    """A model run again and again.

    Args:
        name: Its name.
        period_windows: Windows between two runs at its base rate, delta_i.
        energy_j: Energy of a full run here [J].
        bits: Size of its input [bit].
        critical: Whether it supplies the safety state and so keeps its base rate.
    """

    name: str
    period_windows: int
    energy_j: float
    bits: float
    critical: bool = False

    def __post_init__(self) -> None:
        if self.period_windows < 1:
            raise ValueError(f"{self.name}: period_windows = {self.period_windows}: must be at least 1")
        for name, value in (("energy_j", self.energy_j), ("bits", self.bits)):
            if not math.isfinite(value) or value <= 0.0:
                raise ValueError(f"{self.name}: {name} = {value!r}: must be a positive number")


class SeoPolicy:
    """Says for every window what each model does in it; pure: the caller brings time, deadline and estimates.

    LOCAL runs the model here, OFFLOAD sends its input, TRANSIT waits for the reply, IDLE: gated, or not due.
    FAILSAFE_LOCAL is a full run that takes the place of a request still out, which is to be cancelled.

    Args:
        tasks: The models, each with a name of its own.
        saving: What is done with those that may be saved.
        settings: Window and longest interval; the local energy in it is not used, every task has its own.
    Raises:
        ValueError: two tasks have one name, or there is none.
    """

    def __init__(self, tasks: Sequence[Task], saving: Saving, settings: PolicySettings) -> None:
        if not tasks or len({task.name for task in tasks}) < len(tasks):
            raise ValueError(f"tasks {[task.name for task in tasks]}: at least one, and every name once")
        self._tasks = tuple(tasks)
        self._saving = saving
        self._settings = settings
        self._last = -1
        self._due: dict[str, int] = {task.name: 0 for task in tasks}
        self._out: set[str] = set()
        self.interval_start = 0
        self.interval_windows = 0

    def begin(self, window: int, deadline_s: float, estimates: Mapping[str, Estimate | None]) -> dict[str, Action]:
        """Start `window` and return what each model does in it.

        Args:
            window: Index, greater than at every call before.
            deadline_s: Tolerable deadline now [s]; used where an interval starts.
            estimates: What an offload of each model would cost now; none where no edge server is reachable.
        Raises:
            ValueError: `window` was begun before.
        """
        if window <= self._last:
            raise ValueError(f"window = {window}: must be greater than {self._last}, the one begun last")
        self._last = window
        if window >= self.interval_start + self.interval_windows:
            self.interval_start = window
            self.interval_windows = self._settings.windows(deadline_s)
        return {task.name: self._act(task, window, estimates.get(task.name)) for task in self._tasks}

    def reply(self, name: str) -> bool:
        """Tell that the reply to a model's request came; False where none is waited for any more."""
        return self._no_longer_out(name)

    def failed(self, name: str) -> bool:
        """Tell that no reply to a model's request will come; False where none is waited for any more."""
        return self._no_longer_out(name)

    def _no_longer_out(self, name: str) -> bool:
        waited = name in self._out
        self._out.discard(name)
        return waited

    def _act(self, task: Task, window: int, estimate: Estimate | None) -> Action:
        waiting = Action.TRANSIT if task.name in self._out else Action.IDLE
        if window < self._due[task.name]:
            return waiting
        self._due[task.name] = window + task.period_windows
        slot = window - self.interval_start
        full_from = self.interval_windows - task.period_windows
        if task.critical or slot >= full_from:
            return Action.FAILSAFE_LOCAL if self._no_longer_out(task.name) else Action.LOCAL
        if self._saving is Saving.GATE or waiting is Action.TRANSIT:
            return waiting
        time_left_s = (full_from - slot) * self._settings.window_s
        if estimate is None or not (estimate.energy_j < task.energy_j and estimate.latency_s < time_left_s):
            return Action.LOCAL
        self._out.add(task.name)
        return Action.OFFLOAD
