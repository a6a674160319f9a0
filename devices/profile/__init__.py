"""What devices cost: figures with unit, origin and source, read from TOML and written to it; docs/profiles.md."""

from devices.errors import ProfileError
from devices.profile.figures import (
    Clocks,
    Figure,
    Latency,
    ModelFigures,
    Origin,
    Profile,
    SegmentFigures,
    Source,
    Transition,
    Unit,
)
from devices.profile.read import load_profile, shipped_profiles
from devices.profile.sharing import times_by_macs
from devices.profile.write import write_profile

__all__ = [
    "Clocks",
    "Figure",
    "Latency",
    "ModelFigures",
    "Origin",
    "Profile",
    "ProfileError",
    "SegmentFigures",
    "Source",
    "Transition",
    "Unit",
    "load_profile",
    "shipped_profiles",
    "times_by_macs",
    "write_profile",
]
