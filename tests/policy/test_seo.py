"""SEO: several models under one deadline."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.estimate import Estimate
from offload.policy import Action, PolicySettings, Saving, SeoPolicy, Task

SETTINGS = PolicySettings(0.1, max_wait_windows=8)
EVERY = Task("every", 1, 0.1, 1e5)
SECOND = Task("second", 2, 0.1, 1e5)
STATE = Task("state", 1, 0.02, 1e5, critical=True)
GOOD = Estimate(0.015, 0.05)
LETTERS = {
    Action.LOCAL: "L",
    Action.OFFLOAD: "O",
    Action.TRANSIT: "t",
    Action.IDLE: ".",
    Action.FAILSAFE_LOCAL: "F",
}


def run(saving: Saving, windows: int, deadline_s: float, estimate: Estimate | None, replies: bool) -> dict[str, str]:
    policy = SeoPolicy((EVERY, SECOND, STATE), saving, SETTINGS)
    found = {"every": "", "second": "", "state": ""}
    for window in range(windows):
        for name, action in policy.begin(window, deadline_s, dict.fromkeys(found, estimate)).items():
            found[name] += LETTERS[action]
            if replies:
                policy.reply(name)
    return found


def test_gating_leaves_out_all_but_the_last_due_run_of_an_interval() -> None:
    # delta_max = 4: the first model runs in full in slot 3, the second, due every other slot, from slot 2 on.
    found = run(Saving.GATE, 8, 0.08, GOOD, replies=False)
    assert found == {"every": "...L...L", "second": "..L...L.", "state": "LLLLLLLL"}


def test_offloads_take_the_place_of_early_runs() -> None:
    found = run(Saving.OFFLOAD, 8, 0.08, GOOD, replies=True)
    assert found == {"every": "OOOLOOOL", "second": "O.L.O.L.", "state": "LLLLLLLL"}


def test_a_request_still_out_at_the_full_run_is_given_up() -> None:
    found = run(Saving.OFFLOAD, 8, 0.08, GOOD, replies=False)
    assert found == {"every": "OttFOttF", "second": "OtF.OtF.", "state": "LLLLLLLL"}


def test_without_time_every_model_keeps_its_base_rate() -> None:
    for saving in Saving:
        found = run(saving, 6, 0.02, GOOD, replies=True)
        assert found == {"every": "LLLLLL", "second": "L.L.L.", "state": "LLLLLL"}


@pytest.mark.parametrize("estimate", [None, Estimate(0.015, 0.1), Estimate(0.2, 0.05)])
def test_what_is_not_worth_sending_runs_here(estimate: Estimate | None) -> None:
    found = run(Saving.OFFLOAD, 8, 0.08, estimate, replies=True)
    assert found == {"every": "LLLLLLLL", "second": "L.L.L.L.", "state": "LLLLLLLL"}


def test_a_failed_request_leaves_the_model_free_to_send_again() -> None:
    policy = SeoPolicy((EVERY,), Saving.OFFLOAD, SETTINGS)
    assert policy.begin(0, 0.16, {"every": GOOD}) == {"every": Action.OFFLOAD}
    assert policy.failed("every")
    assert not policy.reply("every")
    assert policy.begin(1, 0.16, {"every": GOOD}) == {"every": Action.OFFLOAD}


def test_impossible_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="every name once"):
        SeoPolicy((EVERY, EVERY), Saving.GATE, SETTINGS)
    with pytest.raises(ValueError, match="at least one"):
        SeoPolicy((), Saving.GATE, SETTINGS)
    with pytest.raises(ValueError, match="slow: period_windows = 0"):
        Task("slow", 0, 0.1, 1.0)
    with pytest.raises(ValueError, match=r"free: energy_j = 0\.0"):
        Task("free", 1, 0.0, 1.0)
    policy = SeoPolicy((EVERY,), Saving.GATE, SETTINGS)
    policy.begin(3, 0.1, {})
    with pytest.raises(ValueError, match="window = 3: must be greater than 3"):
        policy.begin(3, 0.1, {})


@given(
    st.sampled_from(list(Saving)),
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(-0.1, 0.3), st.booleans()), min_size=1, max_size=80),
)
def test_every_interval_ends_with_a_full_run_of_every_model(
    saving: Saving, period: int, script: list[tuple[float, bool]]
) -> None:
    slow = Task("slow", period, 0.1, 1e5)
    policy = SeoPolicy((slow, STATE), saving, SETTINGS)
    full: list[int] = []
    for window, (deadline_s, replies) in enumerate(script):
        actions = policy.begin(window, deadline_s, {"slow": GOOD})
        assert actions["state"] is Action.LOCAL
        if actions["slow"] in (Action.LOCAL, Action.FAILSAFE_LOCAL):
            full.append(window)
        last = policy.interval_start + policy.interval_windows - 1
        if window == last and policy.interval_windows >= period:
            assert any(window - period < one <= window for one in full)
        if replies:
            policy.reply("slow")
    assert all(later - earlier >= period for earlier, later in pairwise(full))
