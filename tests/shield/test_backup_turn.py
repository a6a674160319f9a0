"""Turns followed by a straight among several obstacles: which angles are tried."""

import pytest

from shield.deadline import Method, tolerable_deadline
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import load_vehicle


def test_the_first_opening_is_tried_however_narrow_it_is() -> None:
    # Two wider openings lie behind a disc that the turn is about to meet, so that both end where the left circle does.
    discs = [
        Disc(-8.13534, -7.02755, 3.58633),
        Disc(14.08508, -2.518, 3.70413),
        Disc(15.15025, -2.66224, 3.95242),
        Disc(16.32056, 4.39617, 1.42328),
        Disc(1.67599, 4.74658, 1.84031),
        Disc(22.15901, 10.12296, 3.07495),
        Disc(6.6195, -0.50813, 4.70521),
        Disc(22.49437, 2.77412, 1.62783),
    ]
    found = tolerable_deadline(Method.BACKUP, load_vehicle("config1"), State(0.0, 0.0, 0.0, 0.212335), discs, 2.0)
    # 2.237 m: where stepping 1 mm at a time and sampling every turn angle finds the first place without a rescue.
    assert found.distance_m == pytest.approx(2.237, abs=2e-3)
    assert [item.manoeuvre for item in found.certificate.intervals] == [Manoeuvre.LEFT, Manoeuvre.LEFT_THEN_STRAIGHT]
