"""What weather does to the camera's picture: a change of the scenery that the seed drew.

Only pictures change: grip and brakes are the vehicle file's business.
"""

import math
from dataclasses import dataclass, replace

from carla_bridge.scene.table import ONE, Range, Table
from carla_bridge.scenery import Colour, Scenery


@dataclass(frozen=True, slots=True)
class Weather:
    """Weather over the whole of an episode.

    Args:
        light: Factor of all light.
        shadow: Factor of the shadows' depth.
        noise: Added to the camera's noise [grey levels].
        shake: Factor of the mount's shaking.
        visibility_m: Way on which fog leaves 5 % of contrast [m]; None: clear.
        name: What the file calls it; "own" for numbers of its own.
    """

    light: Range = ONE
    shadow: float = 1.0
    noise: float = 0.0
    shake: float = 1.0
    visibility_m: float | None = None
    name: str = "clear"

    def over(self, scenery: Scenery, draw: float) -> Scenery:
        """Return a scenery in this weather; `draw` in [0, 1) picks the light of the range."""
        if self == Weather():
            return scenery
        factor = self.light.low + (self.light.high - self.light.low) * draw
        red, green, blue = scenery.light
        light: Colour = (factor * red, factor * green, factor * blue)
        return replace(
            scenery,
            light=light,
            shadow_depth=self.shadow * scenery.shadow_depth,
            noise=scenery.noise + self.noise,
            shake_rad=self.shake * scenery.shake_rad,
            visibility_m=self.visibility_m or math.inf,
        )


WEATHERS = {
    "clear": Weather(),
    "overcast": Weather(Range(0.7, 0.9), shadow=0.0, name="overcast"),
    "low_sun": Weather(Range(1.1, 1.3), shadow=1.5, name="low_sun"),
    "dusk": Weather(Range(0.3, 0.5), shadow=0.0, noise=4.0, name="dusk"),
    "night": Weather(Range(0.1, 0.2), shadow=0.0, noise=8.0, name="night"),
    "rain": Weather(Range(0.5, 0.8), shadow=0.0, noise=6.0, shake=1.5, visibility_m=150.0, name="rain"),
    "fog": Weather(Range(0.6, 0.9), shadow=0.0, noise=2.0, visibility_m=40.0, name="fog"),
}
"""Weather by its name in files."""

_KEYS = ("light", "shadow", "noise", "shake", "visibility_m")


def read_weather(table: Table) -> Weather:
    """Read the key `weather`: a name, or a table of numbers.

    Raises:
        ScenarioError: no such weather, or an impossible value.
    """
    value = table.raw("weather")
    if value is None or isinstance(value, str):
        return WEATHERS[table.choice("weather", tuple(WEATHERS), "clear")]
    own = table.table("weather", _KEYS)
    return Weather(
        light=own.range("light", ONE, positive=True),
        shadow=own.number("shadow", 1.0, least=0.0),
        noise=own.number("noise", 0.0, least=0.0),
        shake=own.number("shake", 1.0, least=0.0),
        visibility_m=own.optional("visibility_m"),
        name="own",
    )
