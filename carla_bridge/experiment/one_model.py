"""One perception model under an EnergyShield policy: windows in virtual time, over an emulated link.

In a window that runs here the frame is answered by the window's end and of use in the next. A frame that is sent takes
what the channel makes of it; its answer is of use in the window after the one in which the reply comes. A request still
out when the fail-safe runs is cancelled, and its radio stops.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from carla_bridge.experiment.account import Account
from carla_bridge.virtual import WINDOW_S, Look, Sighting
from offload.link import EmulatedLink, LinkModel, Transmission
from offload.policy import Action, PolicySettings, make_estimator, make_policy
from offload.radio import Radio

FRAME_BITS = 160 * 80 * 3 * 8


@dataclass(frozen=True, slots=True)
class _Out:
    """A frame that is out: its transmission, the window of its reply, and the answer it will bring."""

    transmission: Transmission
    reply_window: float
    answer: Sighting


class OneModel:
    """Decides the windows of one model by a policy.

    Args:
        policy: Name of the policy.
        settings: What it is told once.
        link: What the link is declared to be.
        radio: Whose power is charged.
        seed: Of the channel.
        reissued: Whether every window's deadline counts, as in the daemon, or, as published, only the one at which an
            interval starts. If it does, a request is given up as soon as the deadline leaves time for this window and a
            local run alone, and an idle window in which it leaves none runs here.
    """

    def __init__(
        self, policy: str, settings: PolicySettings, link: LinkModel, radio: Radio, seed: int, reissued: bool
    ) -> None:
        self.account = Account(radio)
        self._policy = make_policy(policy, settings)
        self._estimator = make_estimator(policy, radio)
        self._link = EmulatedLink(link, seed)
        self._local_j = settings.local_energy_j
        self._reissued = reissued
        self._out: _Out | None = None
        self._ready: list[Sighting] = []

    def answers(self, window: int) -> Sequence[Sighting]:
        """Return what came in during the window before."""
        ready, self._ready = self._ready, []
        return ready

    def begin(self, window: int, now_s: float, deadline_s: float, look: Look) -> None:
        """Decide what the window is for, and let it pass."""
        self.account.open_window()
        self._estimator.observe(self._link.channel.sample(window))
        action = self._decide(window, deadline_s)
        self.account.actions[action] += 1
        if action in (Action.LOCAL, Action.FAILSAFE_LOCAL):
            self._run_here(now_s, look(False))
        elif action is Action.OFFLOAD:
            sent = self._link.send(FRAME_BITS, now_s)
            back = self._link.window(sent.reply_s) if sent.reply_s < now_s + 1e3 * WINDOW_S else float("inf")
            self._out = _Out(sent, back, look(True))
        self._pass(window)

    def _decide(self, window: int, deadline_s: float) -> Action:
        if self._reissued and self._out is not None and deadline_s < 2.0 * WINDOW_S:
            self._policy.failed(window)
        action = self._policy.begin(window, deadline_s, self._estimator.estimate(FRAME_BITS))
        if self._reissued and action is Action.IDLE and deadline_s < WINDOW_S:
            return Action.LOCAL
        return action

    def _run_here(self, now_s: float, answer: Sighting) -> None:
        if self._out is not None:
            self._link.cancel(self._out.transmission, now_s)
            self._out = None
        self.account.local(self._local_j, answer.mac_share)
        self._ready.append(answer)

    def _pass(self, window: int) -> None:
        """Charge the radio for the window, and take in the reply if it comes before the window ends."""
        if self._out is None:
            return
        self.account.sent(self._out.transmission, window)
        if window >= self._out.reply_window:
            if self._policy.reply(window):
                self._ready.append(self._out.answer)
            self._out = None
