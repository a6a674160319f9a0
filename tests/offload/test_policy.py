"""The window policies: the published rules by example, their invariants by property."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.estimate import Estimate
from offload.policy import POLICIES, Action, EagerPolicy, PolicySettings, UniformPolicy, WindowPolicy, make_policy

SETTINGS = PolicySettings(local_energy_j=0.11348)
GOOD = Estimate(latency_s=0.015, energy_j=0.08)


def run(policy: WindowPolicy, windows: int, deadline_s: float, replies: set[int]) -> str:
    letters = {
        Action.LOCAL: "L",
        Action.OFFLOAD: "O",
        Action.TRANSIT: "t",
        Action.IDLE: ".",
        Action.FAILSAFE_LOCAL: "F",
    }
    actions = []
    for window in range(windows):
        actions.append(letters[policy.begin(window, deadline_s, GOOD)])
        if window in replies:
            policy.reply(window)
    return "".join(actions)


@pytest.mark.parametrize(
    ("name", "deadline_s", "replies", "expected"),
    [
        ("local", 0.10, set(), "LLLLLLLLLLLL"),
        ("eager", 0.10, set(), "OtttFOtttFOt"),
        ("uniform", 0.10, set(), "OtttFOtttFOt"),
        ("eager", 0.10, {0, 1, 4}, "OOOttOtttFOt"),
        ("uniform", 0.10, {0, 6}, "O....Ot...Ot"),
        ("eager", 0.039, set(range(12)), "LLLLLLLLLLLL"),
        ("uniform", 0.041, set(range(12)), "O.O.O.O.O.O."),
        ("uniform", 0.041, set(), "OFOFOFOFOFOF"),
        ("uniform", 10.0, {1}, "Ot........Ot"),
        ("uniform", math.inf, {1}, "Ot........Ot"),
        ("uniform", math.nan, {1}, "LLLLLLLLLLLL"),
        ("uniform", -math.inf, {1}, "LLLLLLLLLLLL"),
    ],
)
def test_published_rules(name: str, deadline_s: float, replies: set[int], expected: str) -> None:
    assert run(make_policy(name, SETTINGS), 12, deadline_s, replies) == expected


@pytest.mark.parametrize(
    "estimate",
    [None, Estimate(0.015, 0.11348), Estimate(0.08, 0.05), Estimate(math.nan, 0.05), Estimate(0.01, math.nan)],
)
def test_no_offload_when_the_estimate_says_no(estimate: Estimate | None) -> None:
    policy = UniformPolicy(SETTINGS)
    assert [policy.begin(window, 0.10, estimate) for window in range(3)] == [Action.LOCAL] * 3


def test_a_known_failure_makes_the_next_window_the_fail_safe() -> None:
    policy = UniformPolicy(SETTINGS)
    assert policy.begin(0, 0.2, GOOD) is Action.OFFLOAD
    assert policy.failed(0)
    assert not policy.reply(0)
    assert policy.begin(1, 0.2, GOOD) is Action.FAILSAFE_LOCAL
    assert policy.begin(2, 0.2, GOOD) is Action.OFFLOAD


def test_windows_left_out_count_as_passed() -> None:
    policy = UniformPolicy(SETTINGS)
    assert policy.begin(0, 0.1, GOOD) is Action.OFFLOAD
    assert policy.begin(30, 0.1, GOOD) is Action.FAILSAFE_LOCAL
    assert policy.begin(31, 0.1, GOOD) is Action.OFFLOAD


def test_a_late_reply_is_not_taken() -> None:
    policy = EagerPolicy(SETTINGS)
    for window in range(5):
        policy.begin(window, 0.1, GOOD)
    assert not policy.reply(4)


def test_a_window_is_begun_once() -> None:
    for name in POLICIES:
        policy = make_policy(name, SETTINGS)
        policy.begin(3, 0.1, GOOD)
        with pytest.raises(ValueError, match="window = 3: must be greater than 3"):
            policy.begin(3, 0.1, GOOD)


def test_impossible_settings_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"local_energy_j = 0\.0"):
        PolicySettings(0.0)
    with pytest.raises(ValueError, match="max_wait_windows = 0"):
        PolicySettings(1.0, max_wait_windows=0)
    with pytest.raises(ValueError, match="'greedy': there are local, eager, uniform"):
        make_policy("greedy", SETTINGS)


steps = st.tuples(
    st.sampled_from([1, 1, 1, 1, 2, 7]),
    st.floats(-0.1, 0.5) | st.sampled_from([math.nan, math.inf]),
    st.none() | st.builds(Estimate, st.floats(0.0, 0.3), st.floats(0.0, 0.2)),
    st.sampled_from(["", "", "reply", "failed"]),
)


@given(st.sampled_from([EagerPolicy, UniformPolicy]), st.integers(1, 12), st.lists(steps, max_size=80))
def test_invariants(
    kind: type[EagerPolicy | UniformPolicy],
    max_wait: int,
    script: list[tuple[int, float, Estimate | None, str]],
) -> None:
    settings = PolicySettings(local_energy_j=0.11348, max_wait_windows=max_wait)
    policy = kind(settings)
    window = -1
    start, n, waiting, answered = 0, 1, False, False
    for step, deadline_s, estimate, event in script:
        window += step
        action = policy.begin(window, deadline_s, estimate)
        if action is Action.OFFLOAD:
            assert not waiting
            start, n, waiting, answered = window, settings.windows(deadline_s), True, False
            assert 2 <= n <= max_wait
            assert n * settings.window_s <= deadline_s * (1 + 1e-12)
            assert estimate is not None
            assert estimate.energy_j < settings.local_energy_j
            assert estimate.latency_s < (n - 1) * settings.window_s
        elif action is Action.TRANSIT:
            assert waiting
            assert window < start + n - 1
        elif action is Action.IDLE:
            assert answered
            assert kind is UniformPolicy
            assert window <= start + n - 1
        else:
            assert (action is Action.FAILSAFE_LOCAL) == waiting
            waiting = False
            answered = False
        if event == "reply" and policy.reply(window):
            assert waiting
            waiting, answered = False, True
        elif event == "failed" and policy.failed(window):
            assert waiting
