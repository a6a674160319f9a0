"""A vehicle measured from the log that the daemon's recorder kept of real drives."""

from pathlib import Path

import pytest

import headway
from carla_bridge.calibrate.measure import Measured, measure
from carla_bridge.calibrate.samples import samples_of_log
from carla_bridge.calibrate.vehicle_file import calibrated
from carla_bridge.errors import CalibrationError
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.loop import RealTimeLoop
from carla_bridge.scenario import load_scenario
from shield.vehicle import load_vehicle
from tests.observe.drives import driven

TRUTH = load_vehicle("demo")
MOST_DRIVES = 12
DELTA = 0.001


def measured_from(log: Path) -> Measured | None:
    try:
        return measure(samples_of_log([log]), DELTA)
    except CalibrationError:
        return None  # it has not driven enough yet


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_truth_lies_inside_what_a_recorded_drive_tells(tmp_path: Path) -> None:
    log, found = tmp_path / "log", None
    with driven(tmp_path, "--record", str(log)) as running:
        for seed in range(3, 3 + MOST_DRIVES):
            world = KinematicWorld(load_scenario("town04_curves"), TRUTH, seed)
            with headway.Session(running.socket, running.guard) as session:
                RealTimeLoop(world, session).run(16.0)
            found = measured_from(log)
            if found is not None:
                break
    assert found is not None
    l_r = found.estimates["l_r_m"]
    assert l_r.low <= TRUTH.l_r_m <= l_r.high
    made = calibrated(TRUTH, found, "made", only_worse=True)
    assert made.v_max_mps >= TRUTH.v_max_mps
    assert (made.deceleration_mps2 or 0.0) <= (TRUTH.deceleration_mps2 or 0.0)
    for key in ("position_m", "heading_rad", "speed_mps"):
        assert getattr(made.bounds, key) >= getattr(TRUTH.bounds, key)
