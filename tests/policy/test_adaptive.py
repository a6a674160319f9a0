"""The adaptive policy: expected energy decides where the one answer of an interval comes from."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.estimate import Estimate
from offload.policy import Action, AdaptivePolicy, Outlook, PolicySettings, make_policy
from offload.policy.outlook import Course

LOCAL_J = 0.11348
SETTINGS = PolicySettings(LOCAL_J)
LETTERS = {
    Action.LOCAL: "L",
    Action.OFFLOAD: "O",
    Action.TRANSIT: "t",
    Action.IDLE: ".",
    Action.FAILSAFE_LOCAL: "F",
}


def outlook(*courses: tuple[float, float]) -> Outlook:
    """Return an outlook of courses (latency [s], energy [J])."""
    found = tuple(Course(latency_s, latency_s, energy_j) for latency_s, energy_j in courses)
    return Outlook(found[0].latency_s, found[0].energy_j, found)


SURE = outlook(*[(0.015, 0.05)] * 20)
BAD = outlook(*[(0.5, 0.09)] * 20)


def run(windows: int, deadline_s: float, estimate: Estimate | None, replies: set[int]) -> str:
    policy = make_policy("adaptive", SETTINGS)
    letters = []
    for window in range(windows):
        letters.append(LETTERS[policy.begin(window, deadline_s, estimate)])
        if window in replies:
            policy.reply(window)
    return "".join(letters)


@pytest.mark.parametrize(
    ("deadline_s", "estimate", "replies", "expected"),
    [
        (0.10, SURE, {0, 6}, "O....Ot...Ot"),
        (0.10, SURE, set(), "OtttFOtttFOt"),
        (0.10, BAD, set(), "L....L....L."),
        (0.10, None, set(), "L....L....L."),
        (10.0, None, set(), "L.........L."),
        (0.03, SURE, {0, 1, 2}, "LLLLLLLLLLLL"),
        (math.nan, SURE, set(), "LLLLLLLLLLLL"),
        (0.10, Estimate(0.015, 0.05), {0, 5, 10}, "O....O....O."),
        (0.10, Estimate(0.015, 0.12), set(), "L....L....L."),
    ],
)
def test_one_answer_an_interval(deadline_s: float, estimate: Estimate | None, replies: set[int], expected: str) -> None:
    assert run(12, deadline_s, estimate, replies) == expected


def test_the_expected_energy_counts_late_courses_and_one_unseen() -> None:
    # One of three courses is late: 4/5 of its sending in vain, then the fail-safe; the unseen one is the dearest.
    seen = Outlook(0.0, 0.0, (Course(0.03, 0.03, 0.04), Course(0.04, 0.04, 0.05), Course(0.12, 0.10, 0.09)))
    expected_j = (0.04 + 0.05 + (0.09 * 0.08 / 0.10 + LOCAL_J) + (0.09 + LOCAL_J)) / 4.0
    assert AdaptivePolicy(SETTINGS).expected_j(seen, 5) == pytest.approx(expected_j)


def test_a_likely_miss_keeps_it_here_though_the_mean_speaks_for_sending() -> None:
    mean = Estimate(0.015, 0.085)
    unsure = Outlook(0.015, 0.085, (Course(0.015, 0.015, 0.085),) * 6 + (Course(0.3, 0.3, 0.085),) * 4)
    policy = AdaptivePolicy(SETTINGS)
    assert policy.expected_j(mean, 5) < LOCAL_J < policy.expected_j(unsure, 5)


@given(st.lists(st.tuples(st.floats(0.001, 1.0), st.floats(0.001, 0.3)), min_size=1, max_size=30), st.integers(1, 20))
def test_the_expected_energy_lies_between_best_and_worst(courses: list[tuple[float, float]], windows: int) -> None:
    expected_j = AdaptivePolicy(SETTINGS).expected_j(outlook(*courses), windows)
    energies = [energy_j for _, energy_j in courses]
    assert expected_j <= (max(energies) + LOCAL_J) * (1 + 1e-12)
    if all(latency_s < (windows - 1) * SETTINGS.window_s for latency_s, _ in courses):
        assert expected_j >= min(energies)
    if all(latency_s >= (windows - 1) * SETTINGS.window_s for latency_s, _ in courses):
        assert expected_j >= LOCAL_J


@given(st.lists(st.tuples(st.floats(0.0, 0.5), st.sampled_from([SURE, BAD, None]), st.booleans()), max_size=60))
def test_every_interval_has_an_answer_or_its_fail_safe(
    script: list[tuple[float, Outlook | None, bool]],
) -> None:
    policy = AdaptivePolicy(SETTINGS)
    end, answered = 0, True
    for window, (deadline_s, estimate, replies) in enumerate(script):
        action = policy.begin(window, deadline_s, estimate)
        if window >= end:
            assert answered
            assert action in (Action.LOCAL, Action.OFFLOAD)
            end, answered = window + SETTINGS.windows(deadline_s), action is Action.LOCAL
        elif action is Action.FAILSAFE_LOCAL:
            assert not answered
            assert window == end - 1
            answered, end = True, window + 1
        else:
            assert action is (Action.IDLE if answered else Action.TRANSIT)
        if replies and policy.reply(window):
            answered = True
