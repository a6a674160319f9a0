"""One model's windows over the emulated link, against a simulation written from the published rules alone."""

from collections.abc import Callable

import pytest

from carla_bridge.experiment.links import link_model
from carla_bridge.experiment.one_model import FRAME_BITS, OneModel
from carla_bridge.virtual import Sighting
from offload.link import Channel
from offload.policy import Action, PolicySettings
from offload.radio import load_radio
from shield.state import State

LOCAL_J = 0.11348
RADIO = load_radio("wifi")
TAU_S = 0.02


def look_at(now_s: float) -> Callable[[bool], Sighting]:
    return lambda deepest: Sighting((0.0,) * 6, "exit3" if deepest else "exit1", 1.0, State(0.0, 0.0, 0.0), now_s)


def drive(model: OneModel, deadlines_s: list[float]) -> list[list[float]]:
    """Run one window a deadline and return, for each window, the stamps of the answers that are in at its start."""
    stamps = []
    for window, deadline_s in enumerate(deadlines_s):
        stamps.append([seen.stamp_s for seen in model.answers(window)])
        model.begin(window, window * TAU_S, deadline_s, look_at(window * TAU_S))
    return stamps


def by_the_book(policy: str, link: str, seed: int, deadlines_s: list[float], longest: int) -> list[float]:
    """Return the energy of every window [J]: the published policies and channel, straight from their description."""
    channel = Channel(link_model(link), seed)
    energies: list[float] = []
    window = 0
    while window < len(deadlines_s):
        n = max(1, min(longest, int(deadlines_s[window] / TAU_S + 1e-12)))
        seen = [channel.sample(one) for one in range(max(0, window - 4), window + 1)]
        rate = sum(one.rate_bps for one in seen) / len(seen)
        wait_s = sum(one.rtt_s + one.queue_s for one in seen) / len(seen)
        estimate_s, estimate_j = FRAME_BITS / rate + wait_s, RADIO.up_w(rate) * FRAME_BITS / rate
        if n < 2 or window < 4 or estimate_j >= LOCAL_J or estimate_s >= (n - 1) * TAU_S:
            energies.append(LOCAL_J)
            window += 1
            continue
        bits, still_s, answered = float(FRAME_BITS), None, False
        for slot in range(n):
            if slot == n - 1:
                energies.append(LOCAL_J)
                break
            sample = channel.sample(window + slot)
            room_s, spent_j = TAU_S, 0.0
            if bits > 0.0:
                sending_s = min(TAU_S, bits / sample.rate_bps)
                bits -= sample.rate_bps * sending_s
                spent_j = RADIO.up_w(sample.rate_bps) * sending_s
                room_s -= sending_s
                if bits < 1e-6:
                    bits, still_s = 0.0, sample.rtt_s + sample.queue_s
            energies.append(spent_j)
            if still_s is not None:
                answered = still_s < room_s
                still_s -= room_s
            if answered:
                break
        if answered and policy == "uniform":
            energies += [0.0] * (n - 1 - slot)
        window += slot + 1 if policy == "eager" or not answered else n
    return energies[: len(deadlines_s)]


@pytest.mark.parametrize("policy", ["eager", "uniform"])
@pytest.mark.parametrize("link", ["20mbps", "10mbps", "5mbps", "10mbps+50ms"])
def test_energies_are_those_of_the_published_rules(policy: str, link: str) -> None:
    deadlines_s = [0.005 + 0.021 * (7 * window % 13) for window in range(400)]
    settings = PolicySettings(LOCAL_J, max_wait_windows=9)
    model = OneModel(policy, settings, link_model(link), RADIO, seed=3, reissued=False)
    drive(model, deadlines_s)
    expected = by_the_book(policy, link, 3, deadlines_s, 9)
    assert model.account.energy_j == pytest.approx(expected, abs=1e-12)
    assert {Action.OFFLOAD, Action.TRANSIT, Action.LOCAL} <= set(model.account.actions)
    assert Action.FAILSAFE_LOCAL in model.account.actions or (policy, link) != ("eager", "10mbps")


def test_local_answers_every_window_and_costs_as_published() -> None:
    model = OneModel("local", PolicySettings(LOCAL_J), link_model("20mbps"), RADIO, 1, reissued=True)
    stamps = drive(model, [1.0] * 5)
    assert stamps == [[], [0.0], [pytest.approx(0.02)], [pytest.approx(0.04)], [pytest.approx(0.06)]]
    assert model.account.energy_j == [LOCAL_J] * 5


def test_answers_from_the_edge_are_of_the_frame_that_was_sent() -> None:
    model = OneModel("uniform", PolicySettings(LOCAL_J), link_model("200mbps"), RADIO, 1, reissued=False)
    stamps = drive(model, [0.1] * 15)
    # Four windows fill the estimate; then a frame every five windows, each back by the window after.
    assert [len(seen) for seen in stamps] == [0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert stamps[10] == [pytest.approx(9 * TAU_S)]


def test_a_deadline_issued_anew_ends_transit_and_idling() -> None:
    def actions(deadlines_s: list[float], link: str, reissued: bool) -> dict[Action, int]:
        model = OneModel("uniform", PolicySettings(LOCAL_J), link_model(link), RADIO, 1, reissued)
        drive(model, deadlines_s)
        return model.account.actions

    idling = [0.2] * 6 + [0.01] + [0.2] * 3
    assert actions(idling, "200mbps", True)[Action.LOCAL] == 5
    assert actions(idling, "200mbps", False)[Action.LOCAL] == 4
    waiting = [0.2] * 6 + [0.03] * 2 + [0.2] * 2
    assert actions(waiting, "20mbps+90ms", True)[Action.FAILSAFE_LOCAL] == 1
    assert actions(waiting, "20mbps+90ms", False)[Action.FAILSAFE_LOCAL] == 0
