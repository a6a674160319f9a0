"""The sensors of a scenario, and what they make of the bounds that the vehicle declares.

A sensor is never better or worse than declared: what the file says of errors, range and rate becomes the vehicle's
declared bound. Declared range R_d of a sensor that sees R metres, looks every p seconds and may meet obstacles of top
speed w, where the vehicle needs at most H seconds from a look until it stands:

    R_d = R - p (v_max + w) - w H

Between two looks a moving obstacle is reported where it was seen last, its radius grown by w times the look's age.
"""

from dataclasses import dataclass, replace

from carla_bridge.errors import ScenarioError
from carla_bridge.scene.table import Table
from shield.guard import GuardSettings
from shield.vehicle import Vehicle


@dataclass(frozen=True, slots=True)
class Sensors:
    """What the vehicle is told with; a None leaves the vehicle file's bound as it is.

    Args:
        position_m: Greatest error of an obstacle's position relative to the vehicle [m].
        heading_rad: Greatest error of the heading [rad].
        speed_mps: Greatest error of the speed [m/s].
        range_m: How far the range sensor sees [m].
        rate_hz: Looks of the range sensor a second [1/s]; None: one at every tick of the world.
        error_share: Share of each declared bound that errors make use of, 0 to 1.
    """

    position_m: float | None = None
    heading_rad: float | None = None
    speed_mps: float | None = None
    range_m: float | None = None
    rate_hz: float | None = None
    error_share: float = 0.8

    @property
    def period_s(self) -> float:
        """Time between two looks of the range sensor [s]; 0: every tick."""
        return 0.0 if self.rate_hz is None else 1.0 / self.rate_hz

    def declare(self, vehicle: Vehicle, top_mps: float) -> Vehicle:
        """Return the vehicle with the bounds that hold with these sensors.

        Args:
            vehicle: As its file says.
            top_mps: Top speed of any obstacle [m/s].
        Raises:
            ScenarioError: the range is too short for the vehicle's speed and the obstacles'.
        """
        bounds = vehicle.bounds
        own = {"position_m": self.position_m, "heading_rad": self.heading_rad, "speed_mps": self.speed_mps}
        changes = {name: value for name, value in own.items() if value is not None}
        if self.range_m is not None:
            left_m = self.range_m - self.period_s * (vehicle.v_max_mps + top_mps) - top_mps * _until_rest_s(vehicle)
            if left_m <= 0.0:
                raise ScenarioError(
                    f"sensors.range_m = {self.range_m:g}: too short, must be above {self.range_m - left_m:.1f} m for "
                    f"obstacles of up to {top_mps:g} m/s and vehicle {vehicle.name!r}"
                )
            known = bounds.sensing_range_m
            changes["sensing_range_m"] = left_m if known is None else min(known, left_m)
        return replace(vehicle, bounds=replace(bounds, **changes)) if changes else vehicle


def _until_rest_s(vehicle: Vehicle) -> float:
    """Longest time from an observation until a vehicle that lost sight of everything stands [s]."""
    braking_s = vehicle.v_max_mps / (vehicle.deceleration_mps2 or 6.0) + vehicle.bounds.brake_build_s
    return GuardSettings().state_max_age_s + vehicle.bounds.switch_time_s + braking_s


def read_sensors(table: Table) -> Sensors:
    """Read the table `[sensors]`.

    Raises:
        ScenarioError: an unknown key or an impossible value.
    """
    own = table.table("sensors", Sensors.__dataclass_fields__)
    share = own.number("error_share", 0.8, least=0.0)
    if share > 1.0:
        raise ScenarioError(f"{own.where('error_share')} = {share:g}: must lie between 0 and 1")
    return Sensors(
        position_m=own.optional("position_m", positive=False),
        heading_rad=own.optional("heading_rad", positive=False),
        speed_mps=own.optional("speed_mps", positive=False),
        range_m=own.optional("range_m"),
        rate_hz=own.optional("rate_hz"),
        error_share=share,
    )
