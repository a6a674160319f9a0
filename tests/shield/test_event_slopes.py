"""The event's slopes: where they are said to have one sign, they have it in every neighbour, way by way."""

import math
from dataclasses import replace

import numpy as np
import pytest

from shield.deadline import Method
from shield.vehicle import load_vehicle

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
