"""The parts of the proof under every bound: each number is that of its formula, rounded to the safe side."""

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flint")

from flint import arb, ctx

from shield.arc import advance
from shield.deadline import Certificate, Deadline, Interval
from shield.manoeuvre import Manoeuvre, backup_slip_rad, grip_slip_rad
from shield.vehicle import Bounds, Vehicle, load_vehicle
from shield.verify import worst
from shield.verify.cells import PRECISION_BITS
from shield.verify.deadlines import Pace, Seen
from shield.verify.everywhere import RANGE_SLACK_M
from shield.verify.worst import follows, sound_under_bounds

CAR = load_vehicle("passenger_car")
ERRS = Bounds(
    position_m=0.3,
    heading_rad=0.04,
    steering_rad=0.02,
    steering_bias_rad=0.01,
    speed_mps=0.2,
    obstacle_speed_mps=1.5,
    sensing_age_s=0.125,
    odometry_drift=0.25,
    actuation_delay_s=0.0625,
    tick_s=0.0625,
    brake_build_s=0.25,
    slip_rate_radps=0.5,
)
ERRING = Vehicle(2.0, 0.5, 12.0, radius_m=1.0, a_max_mps2=2.0, deceleration_mps2=5.0, bounds=ERRS, name="erring")
SPEED, DISTANCE_M, HELD_S = 4.0, 30.0, 1.5


@pytest.fixture(autouse=True)
def _working_precision() -> None:
    ctx.prec = PRECISION_BITS


def just_above(value: float, exact: float | Fraction) -> bool:
    """Whether a number is what it should be, a grain more: rounded up and not by much."""
    return 1e-13 < float(Fraction(value) / Fraction(exact) - 1) < 1e-11


def bounds_of(vehicle: Vehicle = ERRING, speed: float | None = SPEED) -> worst._Bounds:
    return worst._Bounds(vehicle, DISTANCE_M, HELD_S, Pace(vehicle, speed))


def test_what_the_bounds_come_to() -> None:
    found, start, switch = bounds_of(), SPEED + 0.2, ERRS.switch_time_s
    assert switch > 0.0625
    assert found.error == pytest.approx(0.03, rel=1e-15)
    assert (found.l_r, found.deceleration, found.rate, found.obstacle, found.build_s) == (2.0, 5.0, 0.5, 1.5, 0.25)
    assert just_above(found.switched_s, Fraction(0.125) + Fraction(1.5) + Fraction(switch))
    assert found.held == pytest.approx(start * 1.625 + 1.625**2, rel=1e-11)
    late = 1.625 + switch
    assert found.farthest == pytest.approx(start * late + late**2, rel=1e-11)
    assert just_above(found.delay, Fraction(12) * Fraction(switch))
    assert just_above(found.along, Fraction(0.3) + Fraction(1.5) + Fraction(0.25) * Fraction(found.held))
    fast = math.sqrt(start**2 + 4.0 * found.farthest)
    assert found.braking == pytest.approx(fast**2 / 10.0 + fast * 0.25, rel=1e-11)
    aside = 2.0 * math.sin(0.02) * DISTANCE_M
    assert just_above(found.radius, Fraction(3.0) + Fraction(0.3) + Fraction(aside) + Fraction(0.375))
    turned_round = replace(ERRING, bounds=replace(ERRS, heading_rad=4.0))
    assert bounds_of(turned_round).radius == pytest.approx(3.0 + 0.3 + 2.0 * DISTANCE_M + 0.375)


def test_how_far_a_path_strays() -> None:
    found = bounds_of()
    for x in (0.5, 2.0, 7.0):
        # direction off by E + E x/l at most: its integral over the way
        way = np.linspace(0.0, x, 20001)
        assert found.pad(x) == pytest.approx(float(np.trapezoid(0.03 * (1.0 + way / 2.0), way)), rel=1e-8)
    assert found.pad(0.0) == 0.0


def test_how_far_a_path_lags_behind() -> None:
    """A slip angle that arrives late: the integral of what is left of the change, and of that again over l."""
    found, change, s = bounds_of(), 0.35, 3.0
    speed = math.sqrt((SPEED + 0.2) ** 2 + 4.0 * s)
    for q in (0.3, 2.0, 9.0):
        way = np.linspace(0.0, q, 40001)
        left = np.maximum(0.0, change - 0.5 * way / speed)
        gathered = np.concatenate([[0.0], np.cumsum(0.5 * (left[1:] + left[:-1]) * np.diff(way))])
        lag = gathered[-1] + float(np.trapezoid(gathered, way)) / 2.0
        assert found.lag(change, s, q) == pytest.approx(lag, rel=1e-6)
    assert found.lag(0.0, s, 2.0) == 0.0
    assert found.lag(1.0, s, 2.0) > found.lag(0.5, s, 2.0) > 0.0
    at_once = replace(ERRING, bounds=replace(ERRS, slip_rate_radps=None))
    assert bounds_of(at_once).lag(change, s, 2.0) == 0.0
    at_rest = replace(ERRING, bounds=replace(ERRS, speed_mps=0.0))
    assert bounds_of(at_rest, 0.0).lag(change, 0.0, 2.0) == 0.0  # it turns the wheels before it moves
    # a ramp of just one metre is a ramp
    slow = replace(ERRING, a_max_mps2=None, v_max_mps=1.0, bounds=replace(ERRS, slip_rate_radps=0.35))
    assert bounds_of(slow, None).lag(change, 0.0, 0.5) == pytest.approx(change * (0.375 + 0.5 * (0.125 - 0.125 / 6.0)))


def test_how_long_it_brakes_and_when_it_passes() -> None:
    found, s = bounds_of(), 3.0
    speed = found.pace.speed_mps(s)
    exact = Fraction(speed) ** 2 / 10 + Fraction(speed) / 4
    assert just_above(found.stops_after(s), exact)
    for q in (0.1, 1.0, 100.0):
        # the latest that a vehicle which still moves can pass q: braked from as slow as reaches it, or at rest by then
        braked = min(math.sqrt(2.0 * q / 5.0), speed / 5.0)
        assert just_above(found.passed_s(s, q), Fraction(found.switched_s) + Fraction(1, 4) + Fraction(braked))


def test_where_an_arc_leads() -> None:
    for slip, q in ((0.3, 5.0), (-0.45, 2.0), (0.0, 3.0)):
        path = Seen(CAR, (0.0, 0.0), slip)
        x, y, _ = advance(0.0, 0.0, 0.0, slip, CAR.l_r_m, q)
        exact_x, exact_y = worst._carried(path, q, 0.0)
        assert (float(exact_x), float(exact_y)) == pytest.approx((float(x), float(y)), abs=1e-12)
        wide_x, wide_y = worst._carried(path, q, 0.25)
        for ball, centre in ((wide_x, x), (wide_y, y)):
            assert float(ball.mid()) == pytest.approx(float(centre), abs=1e-9)
            assert 0.25 < float(ball.rad()) < 0.25 * (1.0 + 1e-6)


def test_a_distance_counts_only_with_a_grain_to_spare() -> None:
    assert worst._at_least(arb(3.0), arb(4.0), 5.0 * (1.0 - 2e-12))
    assert not worst._at_least(arb(3.0), arb(4.0), 5.0)
    assert not worst._at_least(arb(3.0), arb(4.0), 5.0 * (1.0 - 0.5e-12))
    assert float(worst._norm(arb(3.0), arb(4.0))) == 5.0


def claimed(*pieces: tuple[float, float, Manoeuvre], hold_s: float = 0.5) -> Deadline:
    certificate = Certificate(tuple(Interval(*piece) for piece in pieces), None, 0.0, 0.0, "")
    return Deadline(hold_s, hold_s * CAR.v_max_mps, "cap", None, certificate, True)


def test_intervals_of_one_manoeuvre_are_merged() -> None:
    brake, left = Manoeuvre.BRAKE, Manoeuvre.BRAKE_LEFT
    pieces = [(0.0, 3.0, left), (0.0, 1.0, brake), (1.0, 2.0, brake), (1.5, 1.75, brake), (2.5, 3.0, brake)]
    assert worst._merged(claimed(*pieces, (3.0, 4.0, left))) == [
        (0.0, 3.0, left),
        (0.0, 2.0, brake),
        (2.5, 3.0, brake),  # a gap before it
        (3.0, 4.0, left),
    ]
    assert worst._merged(claimed()) == []


def test_a_piece_is_halved_until_it_is_decided() -> None:
    looked: list[tuple[float, float, float, float]] = []

    def small(s: float, ds: float, q: float, dq: float) -> bool:
        looked.append((s, ds, q, dq))
        return ds < 0.6 and dq < 0.6

    assert worst._everywhere((0.0, 4.0), (1.0, 3.0), small)
    done = [piece for piece in looked if piece[1] < 0.6 and piece[3] < 0.6]
    low = [(s - ds, q - dq) for s, ds, q, dq in done]
    # eight squares of side 1 tile the rectangle, with a grain to spare
    assert {(round(s), round(q)) for s, q in low} == {(s, q) for s in range(4) for q in (1, 2)}
    for s, ds, q, dq in done:
        assert just_above(ds, 0.5)
        assert just_above(dq, 0.5)
        assert (s % 1.0, q % 1.0) == (0.5, 0.5)
    assert looked[0][:3:2] == (2.0, 2.0)
    assert looked[1][1] < 1.1  # the longer side is cut first

    def but_for_a_point(s: float, ds: float, q: float, dq: float) -> bool:
        return abs(s - 0.3) > ds or abs(q - 1.7) > dq

    assert not worst._everywhere((0.0, 4.0), (1.0, 3.0), but_for_a_point)
    widths: list[float] = []

    def never(_s: float, ds: float, _q: float, dq: float) -> bool:
        widths.append(max(ds, dq))
        return False

    assert not worst._everywhere((0.0, 1.0), (0.0, 0.0), never)
    assert 0.5e-7 < widths[-1] <= 1e-7


def test_grip_is_asked_for_with_the_errors_and_the_brakes() -> None:
    gripping = replace(ERRING, bounds=replace(ERRS, lateral_accel_mps2=6.0))
    across = 9.0 * math.sin(0.15 + 0.03) / 2.0
    assert float(worst._across(gripping, -0.15, 3.0)) == pytest.approx(across, rel=1e-14)
    # held: any speed up to v_max, without the brakes, a decimal's grain of slip allowed
    limit = math.asin(6.0 * 2.0 / 144.0) - 0.03
    assert worst._held_within_grip(gripping, limit)
    assert worst._held_within_grip(gripping, -limit - 1e-9)
    assert not worst._held_within_grip(gripping, limit + 1e-7)
    assert not worst._held_within_grip(gripping, 0.4)
    assert worst._held_within_grip(ERRING, 0.4)
    # braking: both together, the slip angle the manoeuvre's own
    for manoeuvre in (Manoeuvre.BRAKE, Manoeuvre.BRAKE_LEFT):
        slip = backup_slip_rad(gripping, manoeuvre, 0.1)
        rate = math.sin(abs(slip) + 0.03) / 2.0
        fast = math.sqrt(math.sqrt(36.0 - 25.0) / rate)
        assert worst._within_grip(gripping, manoeuvre, 0.1, fast)
        assert not worst._within_grip(gripping, manoeuvre, 0.1, fast * (1.0 + 1e-6))
    assert worst._within_grip(ERRING, Manoeuvre.BRAKE_LEFT, 0.1, 12.0)


def test_what_keeps_the_proof_from_following() -> None:
    plain = Vehicle(2.0, 0.5, 12.0, deceleration_mps2=5.0)
    assert follows(plain) == ["steering_rad"]
    for name in ("steering_rad", "obstacle_speed_mps"):
        assert follows(replace(plain, bounds=replace(Bounds(), **{name: 0.5 if "speed" in name else 0.01}))) == []
    all_round = replace(ERRS, field_of_view_rad=2.0 * math.pi)
    assert follows(replace(ERRING, bounds=all_round)) == []
    assert follows(replace(ERRING, bounds=replace(ERRS, field_of_view_rad=6.28))) == ["field_of_view_rad"]
    # with a grip, the slip angle has to have arrived when the brakes bite: from full lock one way to the other
    gripping = replace(ERRING, bounds=replace(ERRS, lateral_accel_mps2=6.0))
    turned = grip_slip_rad(gripping) + abs(backup_slip_rad(gripping, Manoeuvre.BRAKE_LEFT, 0.0))
    for rate, wrong in ((turned / 0.25 * 1.001, []), (turned / 0.25 * 0.999, ["slip_rate_radps"])):
        other = replace(gripping, bounds=replace(gripping.bounds, slip_rate_radps=rate))
        assert grip_slip_rad(other) == grip_slip_rad(gripping)
        assert follows(other) == wrong
    assert follows(replace(gripping, bounds=replace(gripping.bounds, slip_rate_radps=None))) == []
    blind = replace(plain, name="erring", bounds=Bounds(field_of_view_rad=1.0))
    with pytest.raises(ValueError, match=r"'erring' declares steering_rad, field_of_view_rad, which the proof"):
        sound_under_bounds(blind, (-40.0, 0.0), 0.0, claimed((0.0, 9.0, Manoeuvre.BRAKE)))


def asked_of(monkeypatch: pytest.MonkeyPatch, vehicle: Vehicle, found: Deadline, **answers: bool) -> tuple[bool, Any]:
    """Run the proof with its parts recorded: the answer, and (manoeuvre, first, last) of every piece looked at."""
    asked: list[Any] = []

    def manoeuvre_clear(*given: Any) -> bool:
        assert given[0] is vehicle
        asked.append((given[3], *given[5]))
        return answers.get("clear", True)

    def within(_vehicle: Vehicle, manoeuvre: Manoeuvre, _beta: float, speed: float) -> bool:
        asked.append((manoeuvre, speed))
        return answers.get("within", True)

    monkeypatch.setattr(worst, "_manoeuvre_clear", manoeuvre_clear)
    monkeypatch.setattr(worst, "_within_grip", within)
    monkeypatch.setattr(worst, "_held_within_grip", lambda *_: answers.get("held_within", True))
    monkeypatch.setattr(worst, "_held_clear", lambda *_: answers.get("held", True))
    result = sound_under_bounds(vehicle, (-18.0, 24.0), 0.1, found, SPEED)
    return result, asked


def test_where_each_manoeuvre_may_start(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = bounds_of()
    brake, left, right = Manoeuvre.BRAKE, Manoeuvre.BRAKE_LEFT, Manoeuvre.BRAKE_RIGHT
    held, ends = bounds.held, bounds.along + bounds.delay
    pieces = ((0.0, 0.5, brake), (0.5, 4.5, left), (4.5, held + 1.0, right), (held, 99.0, brake))
    found = claimed(*pieces, hold_s=HELD_S)
    sound, asked = asked_of(monkeypatch, ERRING, found)
    assert sound
    speeds = [bounds.pace.speed_mps(last) for last in (0.5 + ends, 4.5 + ends, bounds.farthest)]
    assert 4.5 + ends < bounds.farthest < held + 1.0 + ends
    assert [entry[0] for entry in asked] == [brake, brake, left, left, right, right]
    assert [entry[1] for entry in asked[::2]] == pytest.approx(speeds)
    assert [entry[1:] for entry in asked[1::2]] == [
        pytest.approx((0.0, 0.5 + ends)),
        pytest.approx((0.0, 4.5 + ends)),  # it may start as much before its interval as the place is uncertain
        pytest.approx((4.5 - bounds.along, bounds.farthest)),
    ]
    near = claimed((0.0, 0.75, brake), (0.75, 99.0, left), hold_s=0.125)
    near_bounds = worst._Bounds(ERRING, 30.0, 0.125, Pace(ERRING, SPEED))
    assert near_bounds.along > 0.75
    far = asked_of(monkeypatch, ERRING, near)[1]
    assert far[3][1] == 0.0
    for answers in ({"clear": False}, {"within": False}, {"held_within": False}, {"held": False}):
        assert not asked_of(monkeypatch, ERRING, found, **answers)[0]
    for wrong in (
        ((0.0, held * (1.0 - 1e-9), brake),),  # ends too soon
        ((0.0, 1.0, brake), (1.0 + 1e-9, 99.0, left)),  # a gap
        ((1e-9, 99.0, brake),),  # begins too late
        ((0.0, 99.0, Manoeuvre.LEFT),),  # does not brake
    ):
        assert not asked_of(monkeypatch, ERRING, claimed(*wrong, hold_s=HELD_S))[0]
    assert asked_of(monkeypatch, ERRING, claimed((0.0, held * (1.0 - 1e-12), brake), hold_s=HELD_S))[0]
    later = asked_of(monkeypatch, ERRING, claimed((0.0, 8.0, brake), (4.0, 99.0, left), hold_s=HELD_S))[1]
    assert later[3][1] == pytest.approx(max(0.0, 4.0 - bounds.along))
    drifting = replace(ERRING, bounds=replace(ERRS, odometry_drift=0.0, position_m=0.125, sensing_age_s=0.0))
    along = worst._Bounds(drifting, 30.0, HELD_S, Pace(drifting, SPEED)).along
    exactly = asked_of(monkeypatch, drifting, claimed((0.0, 2.0, brake), (2.0, 99.0, left), hold_s=HELD_S))[1]
    assert exactly[3][1] == 2.0 - along
    assert asked_of(monkeypatch, drifting, claimed((0.0, 0.5, brake), (0.5, 99.0, left), hold_s=HELD_S))[1][3][
        1
    ] == pytest.approx(0.375)


def test_the_held_arc_keeps_its_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = bounds_of()
    asked: list[tuple[float, float]] = []

    class Sight:
        edge = 0.0

        def at(self, s: float, ds: float) -> tuple[arb, arb]:
            asked.append((s, ds))
            return arb(0.0), arb(self.edge)

    def looked(ranges: tuple[float, float], other: tuple[float, float], holds: Any) -> bool:
        assert (ranges, other) == ((0.0, bounds.farthest), (0.0, 0.0))
        return bool(holds(2.0, 0.5, 0.0, 0.0))

    monkeypatch.setattr(worst, "_everywhere", looked)
    sight: Any = Sight()
    need = bounds.radius + 1.5 * bounds.switched_s + bounds.pad(2.5)
    for sight.edge, clear in ((need * (1.0 + 1e-9), True), (need * (1.0 - 1e-9), False)):
        assert worst._held_clear(sight, bounds) is clear
    assert asked == [(2.0, 0.5)] * 2


def clear_at(vehicle: Vehicle, manoeuvre: Manoeuvre, piece: tuple[float, float, float, float], at: float) -> bool:
    """Whether the piece (s, ds, q, dq) of a braking path is clear of a disc whose centre is seen at (0, at)."""

    class Sight:
        def at(self, s: float, ds: float) -> tuple[arb, arb]:
            assert (s, ds) == piece[:2]
            return arb(0.0), arb(at)

    bounds, sight = bounds_of(vehicle), Sight()
    found: list[bool] = []

    def looked(starts: tuple[float, float], braking: tuple[float, float], holds: Any) -> bool:
        assert (starts, braking) == ((1.0, 6.0), (0.0, bounds.braking))
        found.append(bool(holds(*piece)))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worst, "_everywhere", looked)
        seen: Any = sight
        return worst._manoeuvre_clear(vehicle, seen, bounds, manoeuvre, 0.1, (1.0, 6.0))


@pytest.mark.parametrize("manoeuvre", [Manoeuvre.BRAKE, Manoeuvre.BRAKE_LEFT])
def test_a_braking_path_keeps_its_distance(manoeuvre: Manoeuvre) -> None:
    bounds, piece = bounds_of(), (2.0, 0.125, 1.0, 0.25)
    slip = backup_slip_rad(ERRING, manoeuvre, 0.1)
    need = bounds.radius + bounds.pad(2.125 + 1.25) + bounds.lag(abs(slip - 0.1), 2.125, 1.25)
    need += 1.5 * bounds.passed_s(2.125, 1.25)
    # the place on the path is somewhere in a square, the disc at (0, edge) as near as it may come
    px, py = worst._carried(Seen(ERRING, (0.0, 0.0), slip), 1.0, 0.25)
    low, high = 0.0, 50.0
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if worst._norm(-px, middle - py) >= need else (middle, high)
    edge = high
    assert clear_at(ERRING, manoeuvre, piece, edge + 1e-6)
    assert not clear_at(ERRING, manoeuvre, piece, edge - 1e-6)
    # a path that starts here has ended before: nothing to be clear of
    stops = bounds.stops_after(2.125)
    assert clear_at(ERRING, manoeuvre, (2.0, 0.125, stops + 0.2501, 0.25), 0.0)
    assert not clear_at(ERRING, manoeuvre, (2.0, 0.125, stops + 0.2499, 0.25), 0.0)


def test_a_braking_path_stays_within_the_range() -> None:
    piece, manoeuvre = (20.0, 0.0625, 1.0, 0.03125), Manoeuvre.BRAKE
    bounds = bounds_of()
    stray = bounds.pad(20.0625 + 1.03125)
    # the held arc goes on: 21 m along it, each place of the piece anywhere in its square
    path, origin = Seen(ERRING, (0.0, 0.0), 0.1), Seen(ERRING, (0.0, 0.0), 0.1)
    (px, py), (x0, y0) = worst._carried(path, 1.0, 0.03125), origin.at(20.0, 0.0625)
    farthest = float(worst._norm(px - x0, py - y0).upper()) + stray
    plain = float(worst._norm(px, py).upper())
    assert plain < farthest < 20.0625 + 1.03125 + stray
    for slack, clear in ((1e-6, True), (-1e-6, False)):
        sight = farthest + slack + 1.0 + 0.3 - RANGE_SLACK_M
        ranged = replace(ERRING, bounds=replace(ERRS, sensing_range_m=sight))
        assert clear_at(ranged, manoeuvre, piece, 500.0) is clear
    assert clear_at(replace(ERRING, bounds=replace(ERRS, sensing_range_m=60.0)), manoeuvre, piece, 500.0)
