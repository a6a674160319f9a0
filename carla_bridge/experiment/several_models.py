"""Several models under SEO: two detectors that may be saved, and one that supplies the safety state.

The detectors are ResNet-152 at 160x80, one run every window and one every second window, as published; the third model,
a ResNet-50 at the published 6.16 ms and, for want of a figure of its own, the same 7 W, keeps its base rate. Both
detectors see the same camera: whichever answers, the controller takes it in. They share one uplink.

Reference: Odema et al., SEO, arXiv 2302.12493.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from carla_bridge.experiment.account import Account
from carla_bridge.experiment.one_model import FRAME_BITS
from carla_bridge.virtual import WINDOW_S, Look, Sighting
from offload.link import EmulatedLink, LinkModel, Transmission
from offload.policy import Action, PolicySettings, Saving, SeoPolicy, Task, make_estimator
from offload.radio import Radio

CRITICAL_J = 6.16e-3 * 7.0


def seo_tasks(detector_j: float) -> tuple[Task, ...]:
    """Return the two detectors, of `detector_j` [J] a run, and the model that supplies the safety state."""
    return (
        Task("every_window", 1, detector_j, FRAME_BITS),
        Task("every_second", 2, detector_j, FRAME_BITS),
        Task("safety_state", 1, CRITICAL_J, FRAME_BITS, critical=True),
    )


def base_j_per_window(detector_j: float) -> float:
    """Return what the models that may be saved cost a window at their base rates [J]."""
    return sum(task.energy_j / task.period_windows for task in seo_tasks(detector_j) if not task.critical)


@dataclass(frozen=True, slots=True)
class _Out:
    transmission: Transmission
    reply_window: float
    answer: Sighting


class SeveralModels:
    """Decides the windows of several models by SEO; the account holds those that may be saved.

    Args:
        saving: What becomes of a model that is due early.
        settings: Local energy of a detector, window and longest interval.
        link: What the link is declared to be.
        radio: Whose power is charged.
        seed: Of the channel.
    """

    def __init__(self, saving: Saving, settings: PolicySettings, link: LinkModel, radio: Radio, seed: int) -> None:
        self.account = Account(radio)
        self._tasks = {task.name: task for task in seo_tasks(settings.local_energy_j)}
        self._policy = SeoPolicy(tuple(self._tasks.values()), saving, settings)
        self._estimator = make_estimator("seo", radio)
        self._link = EmulatedLink(link, seed)
        self._out: dict[str, _Out] = {}
        self._ready: list[Sighting] = []

    def answers(self, window: int) -> Sequence[Sighting]:
        """Return what came in during the window before."""
        ready, self._ready = self._ready, []
        return sorted(ready, key=lambda seen: seen.stamp_s)

    def begin(self, window: int, now_s: float, deadline_s: float, look: Look) -> None:
        """Decide what each model does in the window, and let it pass."""
        self.account.open_window()
        self._estimator.observe(self._link.channel.sample(window))
        estimate = self._estimator.estimate(FRAME_BITS)
        actions = self._policy.begin(window, deadline_s, dict.fromkeys(self._tasks, estimate))
        for name, action in actions.items():
            if not self._tasks[name].critical:
                self.account.actions[action] += 1
                self._act(name, action, now_s, look)
        self._pass(window)

    def _act(self, name: str, action: Action, now_s: float, look: Look) -> None:
        if action in (Action.LOCAL, Action.FAILSAFE_LOCAL):
            if name in self._out:
                self._link.cancel(self._out.pop(name).transmission, now_s)
            answer = look(False)
            self.account.local(self._tasks[name].energy_j, answer.mac_share)
            self._ready.append(answer)
        elif action is Action.OFFLOAD:
            sent = self._link.send(self._tasks[name].bits, now_s)
            back = self._link.window(sent.reply_s) if sent.reply_s < now_s + 1e3 * WINDOW_S else float("inf")
            self._out[name] = _Out(sent, back, look(True))

    def _pass(self, window: int) -> None:
        for name, out in list(self._out.items()):
            self.account.sent(out.transmission, window)
            if window >= out.reply_window:
                if self._policy.reply(name):
                    self._ready.append(out.answer)
                del self._out[name]
