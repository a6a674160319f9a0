"""The event's slopes: where they are said to have one sign, they have it in every neighbour, way by way."""

import math
from dataclasses import replace

import numpy as np
import pytest

from shield.barrier import barrier_of, barrier_slope
from shield.deadline import Method
from shield.vehicle import Vehicle, load_vehicle

pytest.importorskip("flint")

from shield.verify.event import Event


@pytest.mark.parametrize("name", ["config1", "config2"])
@pytest.mark.parametrize("shorter", [1.0, 0.2])
def test_every_way_that_matters_falls_or_rises_in_every_neighbour(name: str, shorter: float) -> None:
    vehicle = load_vehicle(name)
    vehicle = replace(vehicle, l_r_m=shorter * vehicle.l_r_m)
    event, rng, count = Event(vehicle, Method.BACKUP), np.random.default_rng(3), 20_000
    far, around = rng.uniform(3.0, 14.0, count), rng.uniform(-math.pi, math.pi, count)
    x, y = far * np.cos(around), far * np.sin(around)
    eps, dbeta = rng.uniform(0.0, 1.5, count) ** 2, rng.uniform(0.0, 0.3, count)
    beta = rng.uniform(-1.0, 1.0, count) * vehicle.beta_max_rad
    falls, rises = event.slopes(x, y, eps, beta, dbeta)
    seen = 0
    for _ in range(12):
        way, size = rng.uniform(-math.pi, math.pi, count), eps * np.sqrt(rng.random(count))
        ex, ey, b = x + size * np.cos(way), y + size * np.sin(way), beta + dbeta * rng.uniform(-1.0, 1.0, count)
        _hold, ways, gradients = event.parts(ex, ey)
        k = np.sin(b) / vehicle.l_r_m
        wx, wy = np.cos(b) - k * ey, np.sin(b) + k * ex
        rate = -(gradients[:, :, 0] * wx[:, None] + gradients[:, :, 1] * wy[:, None])
        rate0 = -(ex * wx + ey * wy) / np.hypot(ex, ey)
        # where a way is clear all over, the held arc alone decides; elsewhere each way counts where it can be the best
        clear = event.parts(x, y)[1].max(axis=1) > eps
        outside = event.parts(x, y)[0] > eps
        for said, sign in ((falls, -1.0), (rises, 1.0)):
            assert (sign * rate0 > 0.0)[said & ~outside].all()
            some = said & ~clear
            assert ((ways < 0.0) | (sign * rate > 0.0))[some].all()
            seen += int(((ways >= 0.0).any(axis=1) & some).sum())
    assert seen > 5


def sure_slopes(vehicle: Vehicle, r: float, xi: float, eps: float, beta: float, dbeta: float) -> tuple[float, float]:
    """dh/ds and how far it can be off within eps of the centre and dbeta of the slip angle, term by term."""
    barrier = barrier_of(vehicle)
    gain, k = barrier.sigma / (2.0 * barrier.r_bar_m), math.sin(beta) / vehicle.l_r_m
    near = max(r - eps, 1e-9)
    # seen from the vehicle the centre turns by at most asin(eps/r) <= 1.2 eps/r, as long as eps < 0.7 r
    swing = min(1.2 * eps / r, 10.0) if eps < 0.7 * r else 10.0
    spin = swing + dbeta
    push = math.sin(xi - beta) / r + k
    half = gain * math.sin(0.5 * xi)
    outward_error = spin / near**2 + 2.0 * eps / near**3
    push_error = spin / near + (1.0 / near - 1.0 / r if near > 1e-9 else eps / (r * near)) + dbeta / vehicle.l_r_m
    half_error = 2.0 * gain if abs(xi) + swing >= math.pi else 0.5 * gain * swing
    product = half_error * (abs(push) + push_error) + abs(half) * push_error
    return math.cos(xi - beta) / r**2 + half * push, outward_error + product


@pytest.mark.parametrize("name", ["config1", "config2"])
def test_the_barrier_falls_or_rises_where_the_sum_of_its_errors_says_so(name: str) -> None:
    vehicle = load_vehicle(name)
    event, rng, count = Event(vehicle, Method.BARRIER), np.random.default_rng(6), 3000
    far, xi = np.exp(rng.uniform(-3.0, 3.0, count)), rng.uniform(-math.pi, math.pi, count)
    eps, dbeta = far * rng.uniform(0.0, 1.1, count) ** 3, rng.uniform(0.0, 1.0, count) ** 3 * 0.2
    beta = rng.uniform(-1.0, 1.0, count) * vehicle.beta_max_rad
    falls, rises = event.slopes(-far * np.cos(xi), -far * np.sin(xi), eps, beta, dbeta)
    decided = 0
    for i in range(count):
        rate, error = sure_slopes(vehicle, far[i], xi[i], eps[i], beta[i], dbeta[i])
        if abs(abs(rate) - error) > 1e-5 * (1.0 + abs(rate) + error):
            assert (falls[i], rises[i]) == (rate < -error, rate > error)
            decided += falls[i] + rises[i]
    assert 300 < decided < count


@pytest.mark.parametrize("name", ["config1", "config2"])
def test_the_barrier_has_the_slope_it_is_said_to_have_in_every_neighbour(name: str) -> None:
    vehicle = load_vehicle(name)
    event, rng, count = Event(vehicle, Method.BARRIER), np.random.default_rng(9), 20_000
    far, xi = np.exp(rng.uniform(-1.0, 3.0, count)), rng.uniform(-math.pi, math.pi, count)
    x, y = -far * np.cos(xi), -far * np.sin(xi)
    eps, dbeta = far * rng.uniform(0.0, 0.9, count) ** 3, rng.uniform(0.0, 0.1, count)
    beta = rng.uniform(-1.0, 1.0, count) * vehicle.beta_max_rad
    falls, rises = event.slopes(x, y, eps, beta, dbeta)
    assert falls.sum() > 1000
    assert rises.sum() > 1000
    for _ in range(8):
        way, size = rng.uniform(-math.pi, math.pi, count), eps * np.sqrt(rng.random(count))
        ex, ey, b = x + size * np.cos(way), y + size * np.sin(way), beta + dbeta * rng.uniform(-1.0, 1.0, count)
        slope = barrier_slope(vehicle, np.hypot(ex, ey), np.arctan2(-ey, -ex), b)
        assert (slope[falls] < 0.0).all()
        assert (slope[rises] > 0.0).all()
