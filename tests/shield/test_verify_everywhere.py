"""The proof for every cell: its numbers bound what floating point does, its algebra refuses a wrong formula."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("flint")

from flint import arb, ctx

from shield import events
from shield.backup import many
from shield.backup.clear import blocked, first_hit
from shield.backup.family import Kind, Sweep
from shield.events import GRAZE, LEAST_INNER_M, Arc
from shield.manoeuvre import Manoeuvre
from shield.vehicle import Vehicle, load_vehicle
from shield.verify import everywhere, units
from shield.verify.cells import PRECISION_BITS, Cell, Verdict
from shield.verify.everywhere import Asked, Asking, decide, forms, noise_of, own_forms
from shield.verify.run import verify
from shield.verify.tracked import Tracked
from shield.verify.units import Settings, domain, run_unit

NAMES = ("config1", "config2", "demo", "passenger_car")
VEHICLES = {name: load_vehicle(name) for name in NAMES}
CAP_M = 48.0

names = st.sampled_from(NAMES)


@pytest.fixture(autouse=True)
def _working_precision() -> None:
    ctx.prec = PRECISION_BITS


# numbers that carry their rounding

OPERATIONS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a * a - b * b,
    lambda a, b: 0.25 * a * b - (a + b) * (1.0 - b),
    lambda a, b: -(a * a) + b,
]


@given(st.sampled_from(range(len(OPERATIONS))), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(0.0, 2.0))
def test_tracked_numbers_bound_floating_point(which: int, a: float, b: float, width: float) -> None:
    """The exact value lies in the ball of the cell, and the computed one within the error of the exact one."""
    operation = OPERATIONS[which]
    tracked = operation(Tracked(arb(a, width)), Tracked(arb(b, width)))
    exact = operation(arb(a), arb(b))
    assert tracked.ball.contains(exact)
    assert abs(float((exact - arb(operation(a, b))).mid())) <= tracked.error
    narrow = operation(Tracked(arb(a)), Tracked(arb(b)))
    assert narrow.error <= tracked.error
    assert narrow.error < 1e-9


def test_errors_add_up_as_they_must() -> None:
    two, three = Tracked(arb(2.0), 0.1), Tracked(arb(-3.0), 0.2)
    assert (two * three).error == pytest.approx(2.1 * 3.2 - 6.0)
    assert (two + three).error == pytest.approx(0.3)
    assert (two - three).error == pytest.approx(0.3)
    assert (two * two).error == pytest.approx(2.1**2 - 4.0)
    assert (-three).error == 0.2
    assert (1.0 - two).error == pytest.approx(0.1)
    assert (2.0 * three).error == pytest.approx(0.4)
    assert three.most == pytest.approx(3.2)


def test_tracked_numbers_compare_as_may_be() -> None:
    assert Tracked(arb(1.0, 0.5)) > 1.2
    assert not Tracked(arb(1.0, 0.5)) > 1.6


# the form of the quadratics


def test_the_formulas_are_those_of_their_events_and_a_wrong_sign_is_none() -> None:
    assert own_forms() == ""

    def circle(arc: Any, *rest: Any) -> Any:
        return Arc.add_circle(arc, [], *rest)

    def line(arc: Any, *rest: Any) -> Any:
        return Arc.add_line(arc, [], *rest)

    def ground(arc: Any, *rest: Any) -> Any:
        return Arc.add_ground_line(arc, [], *rest)

    def flipped(formula: Any, part: int) -> Any:
        def wrong(arc: Any, *rest: Any) -> Any:
            formula(arc, *rest)
            found = list(arc.quadratics[0])
            found[part] = -found[part]
            return tuple(found)

        return wrong

    assert forms(circle, line, ground) == ""
    for part in range(3):
        assert forms(flipped(circle, part), line, ground) == "circle"
        assert forms(circle, flipped(line, part), ground) == "line"
        assert forms(circle, line, flipped(ground, part)) == "ground line"


def test_a_wrong_sign_in_the_code_refutes_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    def mirrored(arc: Any, nx: Any, ny: Any, c: Any, ox: Any, oy: Any) -> Any:
        a, half_b, c0 = many.conic_of_line(arc, nx, ny, c, ox, oy)
        return a, -half_b, c0

    monkeypatch.setattr(everywhere, "conic_of_line", mirrored)
    small = Settings(cells=(2, 2, 2), states=0)
    outcome = run_unit(VEHICLES["config1"], small, "everywhere/0")
    assert outcome.result == "refuted"
    assert outcome.counter_example == {"formula": "line"}


# the noise


def asking_of(vehicle: Vehicle, cell: Cell, kind: Kind) -> tuple[Asking, list[Asked]]:
    sweep = next(sweep for sweep in everywhere._sweeps(vehicle, CAP_M, cell[2]) if sweep.kind is kind)
    asking = everywhere._asking(vehicle, CAP_M, cell, sweep)
    return asking, list(everywhere._asked_for(vehicle, asking, sweep))


def small_cell(vehicle: Vehicle, r: float, xi: float, share: float) -> Cell:
    beta = share * domain(vehicle, Settings())[2][1]
    return ((r, r + 1e-9), (xi, xi + 1e-9), (beta, beta + 1e-9))


@given(names, st.floats(4.0, 59.0), st.floats(-3.1, 3.1), st.floats(-0.99, 0.99), st.floats(0.0, 1.0))
def test_where_the_disc_is_seen_is_off_by_less_than_is_said(
    name: str, r: float, xi: float, share: float, along: float
) -> None:
    vehicle = VEHICLES[name]
    asking, _ = asking_of(vehicle, small_cell(vehicle, r, xi, share), Kind.HELD)
    beta = share * domain(vehicle, Settings())[2][1]
    arc = Arc(beta, vehicle.l_r_m, asking.length)
    assert arc.length <= asking.length
    s, x, y = along * arc.length, -r * math.cos(xi), -r * math.sin(xi)
    seen = arc.seen_from(s, x, y)
    # exactly, with the arc as the code has it
    kappa, cosine, sine = arb(arc.kappa), arb(arc.cos_beta), arb(arc.sin_beta)
    half = kappa * arb(s) / 2
    chord = arb(s) * half.sinc()
    away_x = arb(x) - chord * (cosine * half.cos() - sine * half.sin())
    away_y = arb(y) - chord * (sine * half.cos() + cosine * half.sin())
    turned = (
        (2 * half).cos() * away_x + (2 * half).sin() * away_y,
        (2 * half).cos() * away_y - (2 * half).sin() * away_x,
    )
    for found, exact, bound in zip(seen, turned, everywhere._seen(asking), strict=True):
        assert abs(float((exact - arb(found)).mid())) <= bound.error
        assert bound.error < 1e-11


@given(names, st.floats(6.0, 40.0), st.floats(-0.99, 0.99), st.floats(-1.0, 1.0), st.floats(0.0, 1.0))
@settings(max_examples=300)
def test_no_root_means_no_crossing_however_close(name: str, r: float, share: float, aside: float, off: float) -> None:
    """Circles of the radius that the arc just touches, give or take rounding: F keeps its sign between the roots."""
    vehicle = VEHICLES[name]
    beta = share * domain(vehicle, Settings())[2][1]
    arc = Arc(beta, vehicle.l_r_m, CAP_M)
    ox, oy = r, aside * r
    # where the centre comes nearest to the body's origin
    steps = [arc.length * i / 2000 for i in range(2001)]
    nearest = min(steps, key=lambda s: math.hypot(*arc.seen_from(s, ox, oy)))
    low, high = max(0.0, nearest - arc.length / 2000), min(arc.length, nearest + arc.length / 2000)
    for _ in range(100):
        one, two = low + (high - low) * 0.4, low + (high - low) * 0.6
        if math.hypot(*arc.seen_from(one, ox, oy)) < math.hypot(*arc.seen_from(two, ox, oy)):
            high = two
        else:
            low = one
    touch = math.hypot(*arc.seen_from(0.5 * (low + high), ox, oy))
    assume(touch > 1.0)
    assume(0.01 * arc.length < low < 0.99 * arc.length)
    for radius in (touch * (1.0 + (off - 0.5) * 1e-15), touch + (off - 0.5) * 1e-10, touch - off * 5e-11):
        roots: list[float] = []
        arc.add_circle(roots, 0.0, 0.0, radius, ox, oy)
        assert any(abs(root - low) < 1e-3 for root in roots)
    far: list[float] = []
    arc.add_circle(far, 0.0, 0.0, touch - 1e-6, ox, oy)
    assert not any(abs(root - low) < 1e-3 for root in far)


def cleared_by_a_graze() -> int:
    """Count discs that all along stand in a ring's way, but for one touch of its edge half way, and come out clear."""
    cleared = 0
    for step in range(60):
        beta, l_r, rho, centre_y, crest = 0.2 + 0.003 * step, 1.6, 2.0, 3.0, 3.0 + 0.01 * step
        arc = Arc(beta, l_r, 2.0 * crest)
        # seen from the body all turns about (-l, l cot beta); half way it is farthest from the ring's centre
        turn_y, far = l_r / math.tan(beta), 5.0 + 0.1 * step
        side = math.copysign(0.5 * math.pi, turn_y - centre_y) + arc.kappa * crest
        ox, oy = -l_r + far * math.cos(side), turn_y + far * math.sin(side)
        reach = abs(turn_y - centre_y) + far
        for units_off in range(-4, 5):
            radius = reach * (1.0 + units_off * 2.0**-53) - rho
            sweep = Sweep(Manoeuvre.LEFT, Kind.CIRCLE, side=1, rho_m=rho, centre_y_m=centre_y)
            found = blocked(arc, l_r, sweep, ox, oy, radius)
            cleared += not (found and found[0][0] == 0.0 and found[-1][1] == arc.length)
    return cleared


def test_a_graze_at_a_midpoint_does_not_clear_what_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the tolerance a touch has no root, its midpoint says clear, and the whole arc counts as that."""
    assert cleared_by_a_graze() == 0
    monkeypatch.setattr(events, "GRAZE", 0.0)
    assert cleared_by_a_graze() > 0


def test_touching_at_the_start_is_a_hit_and_a_ring_needs_room() -> None:
    assert first_hit(Arc(0.0, 1.6, 100.0), 4.0, 0.0, 4.0) == 0.0
    assert first_hit(Arc(0.0, 1.6, 100.0), 4.5, 0.0, 4.0) == 0.5
    assert 2.0 * math.sqrt(64.0 * GRAZE) < LEAST_INNER_M


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_is_proved(name: str) -> None:
    vehicle = VEHICLES[name]
    grid = Settings(cells=(3, 4, 4))
    for ring in range(3):
        outcome = run_unit(vehicle, grid, f"everywhere/{ring}")
        assert outcome.result == "proved"
        assert outcome.cells >= 16


def test_every_circle_and_line_of_a_manoeuvre_is_looked_at() -> None:
    cell = ((10.0, 11.0), (0.1, 0.2), (0.1, 0.2))
    counts = {
        kind: len(asking_of(VEHICLES[name], cell, kind)[1])
        for name, kind in (
            ("config2", Kind.CIRCLE),
            ("config2", Kind.LINE),
            ("config2", Kind.TURN),
            ("demo", Kind.HELD),
            ("demo", Kind.SEGMENT),
        )
    }
    assert counts == {Kind.CIRCLE: 2, Kind.LINE: 3, Kind.TURN: 6, Kind.HELD: 1, Kind.SEGMENT: 4}
    assert len(asking_of(VEHICLES["config1"], cell, Kind.CIRCLE)[1]) == 1  # a disc of 4 m is not inside 2 m


def test_more_noise_than_the_margin_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = ((10.0, 11.0), (0.1, 0.2), (0.1, 0.2))
    assert decide(VEHICLES["demo"], CAP_M, cell) is Verdict.TRUE
    lines = (*cell[:2], (-0.1, 0.1))
    assert decide(VEHICLES["demo"], CAP_M, lines) is Verdict.TRUE
    assert decide(VEHICLES["demo"], 1e5, lines) is Verdict.UNDECIDED  # a hundred kilometres ahead
    asking, asked = asking_of(VEHICLES["demo"], cell, Kind.HELD)
    assert 0.0 < noise_of(asking, asked[0]) < GRAZE / 2.0
    monkeypatch.setattr(everywhere, "MARGIN_M", 1e-9)
    assert decide(VEHICLES["demo"], CAP_M, cell) is Verdict.UNDECIDED
    outcome = run_unit(VEHICLES["demo"], Settings(cells=(2, 2, 2)), "everywhere/1")
    assert outcome.result == "undecided"
    assert len(outcome.counter_example) == 3


def test_the_claim_stands_in_every_certificate() -> None:
    tiny = Settings(cells=(1, 2, 2), states=0, cap_s=4.0)
    for name in ("demo", "passenger_car"):
        claim = verify(VEHICLES[name], tiny, workers=1).claims["everywhere"]
        assert claim.result == "proved"
        assert claim.cells >= 4
    assert units.EVERYWHERE == "everywhere"
