"""The adaptive policy: one answer an interval, got where that is expected to cost less.

With n windows tolerable an offload has until (n - 1) tau for its reply. Over the equally likely courses k of the
outlook, each weighing 1/(N + 1),

    E_offload = sum of [ E_k                            if L_k < (n - 1) tau
                         E_k min(1, (n - 1) tau / t_k) + E_local   otherwise: the fail-safe runs, the sending stops ]

plus 1/(N + 1) of the worst: the dearest course and the fail-safe. The interval begins with an offload iff
E_offload < E_local, with a local run otherwise; after either answer the windows that are left are idle. The published
policies differ twice: they compare mean estimates, and where those speak against offloading they run every window.
"""

from offload.estimate import Estimate
from offload.policy.base import Action, IntervalPolicy
from offload.policy.outlook import Course, Outlook


class AdaptivePolicy(IntervalPolicy):
    """Chooses by expected energy under the uncertainty of the estimate; without an outlook, by the means alone."""

    def _idles_after_reply(self) -> bool:
        return True

    def _sample(self, window: int, deadline_s: float, estimate: Estimate | None) -> Action:
        self.interval_start = window
        self.interval_windows = self._settings.windows(deadline_s)
        if estimate is not None and self.expected_j(estimate, self.interval_windows) < self._settings.local_energy_j:
            self._state = Action.TRANSIT
            return Action.OFFLOAD
        self._state = Action.IDLE
        return Action.LOCAL

    def expected_j(self, estimate: Estimate, windows: int) -> float:
        """Return E_offload [J] for an interval of `windows`; a single window leaves no time for a reply.

        Args:
            estimate: An `Outlook`; any other estimate counts as one course without a worst case.
            windows: n.
        """
        wait_s = (windows - 1) * self._settings.window_s
        local_j = self._settings.local_energy_j
        courses = estimate.courses if isinstance(estimate, Outlook) else ()
        if not courses:
            return self._cost_j(Course(estimate.latency_s, estimate.latency_s, estimate.energy_j), wait_s)
        worst_j = max(course.energy_j for course in courses) + local_j
        return (sum(self._cost_j(course, wait_s) for course in courses) + worst_j) / (len(courses) + 1)

    def _cost_j(self, course: Course, wait_s: float) -> float:
        if course.latency_s < wait_s:
            return course.energy_j
        sent = min(1.0, wait_s / course.send_s) if course.send_s > 0.0 else 1.0
        return course.energy_j * sent + self._settings.local_energy_j
