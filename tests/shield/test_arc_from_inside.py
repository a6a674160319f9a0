"""A braking turn that leads all round a disc hardly smaller than itself: touched wherever the path meets the disc."""

import math

import numpy as np

from shield.backup.clear import blocked, point_on_turn
from shield.backup.family import Kind, Sweep
from shield.backup.many import blocked_many
from shield.deadline import Method, tolerable_deadline
from shield.events import LEAST_INNER_M, Arc
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Vehicle

L_M = 1.6


def near_the_centre(rng: np.random.Generator) -> tuple[Sweep, Arc, tuple[float, float, float]]:
    """A turn, a held arc, and a disc whose centre passes the turn's centre closely, its edge just inside the turn."""
    slip, end, side = float(rng.uniform(0.3, 0.89)), float(rng.uniform(0.5, 6.0)), int(rng.choice([1, -1]))
    rho = L_M / math.sin(slip)
    sweep = Sweep(
        Manoeuvre.BRAKE_LEFT, Kind.ARC, 0.0, side, rho, side * rho * math.cos(slip), end * rho, 0.0, end, slip_rad=slip
    )
    arc = Arc(float(rng.uniform(-0.89, 0.89)), L_M, 25.0)
    s, way, off = rng.uniform(0.0, arc.length), rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.0, LEAST_INNER_M)
    # where a disc that is there after s metres was at the start: seen from the arc driven backwards
    back = Arc(math.asin(arc.sin_beta), L_M, 25.0)
    x0, y0 = back.seen_from(-s, -L_M + off * math.cos(way), sweep.centre_y_m + off * math.sin(way))
    return sweep, arc, (x0, y0, rho - float(rng.uniform(0.0, LEAST_INNER_M)))


def test_no_touch_is_missed_between_the_small_ring_inside_and_the_turn() -> None:
    rng, missed = np.random.default_rng(1), {"alone": 0.0, "many": 0.0}
    for _ in range(400):
        sweep, arc, (x, y, radius) = near_the_centre(rng)
        points = [point_on_turn(L_M, sweep, float(turn)) for turn in np.linspace(0.0, sweep.end_rad, 200)]
        px, py = np.array(points).T
        alone = blocked(arc, L_M, sweep, x, y, radius)
        table = blocked_many(arc, L_M, sweep, np.array([x]), np.array([y]), np.array([radius]))
        for name, stretches in (("alone", alone), ("many", [row[:2] for row in table])):
            for s in np.linspace(0.0, arc.length, 62)[1:-1]:
                if not any(start <= s <= end for start, end in stretches):
                    ex, ey = arc.seen_from(float(s), x, y)
                    missed[name] = max(missed[name], radius - float(np.hypot(px - ex, py - ey).min()))
    assert missed["many"] < 1e-3
    assert missed["alone"] < 1e-3


def test_no_certificate_leads_through_a_disc_hardly_smaller_than_the_turn() -> None:
    car = Vehicle(L_M, 0.6002044493143643, 12.0, deceleration_mps2=10.061762654701704)
    beta, (x, y, radius) = -0.2543481637873541, (1.4659702142513487, -4.089140988151921, 2.644801417680253)
    wall = Disc(-7.318869707893736, -9.431665653965313, 0.252447350023544)
    answer = tolerable_deadline(Method.BACKUP, car, State(0.0, 0.0, 0.0, beta), [Disc(x, y, radius), wall], 3.0)
    arc, slip = Arc(beta, L_M, 60.0), car.beta_max_rad
    braking_m = 12.0**2 / (2.0 * 10.061762654701704)
    for piece in answer.certificate.intervals:
        if piece.manoeuvre is Manoeuvre.BRAKE_RIGHT:
            rho = L_M / math.sin(slip)
            angle = slip - 0.5 * math.pi + np.linspace(0.0, braking_m / rho, 200)
            px, py = -L_M + rho * np.cos(angle), -(rho * math.cos(slip) + rho * np.sin(angle))
            for s in np.linspace(piece.start_m, piece.end_m, 40):
                ex, ey = arc.seen_from(float(s), x, y)
                assert np.hypot(px - ex, py - ey).min() > radius
