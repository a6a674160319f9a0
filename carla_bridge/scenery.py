"""What a camera sees beside geometry: colours, light, shadows, worn marks, noise and the shaking of the mount.

A scenery is drawn once per episode from a seeded generator; every frame of the episode is then a pure function of the
scenery, the pose and the frame's number.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from carla_bridge.route import Floats

Colour = tuple[float, float, float]

HEIGHT_PX = 80
WIDTH_PX = 160
_BANK = 32


@dataclass(frozen=True, slots=True)
class Scenery:
    """The look of one episode; colours are RGB in 0..255.

    Args:
        sky_top, sky_low, verge, road, kerb, mark: Colours.
        lane_marks_m: Lateral places of the dashed lines [m].
        dash_m, gap_m, phase_m: Length of a dash, of the gap after it, and where the first begins [m].
        shadows: Shape (n, 4): start and end along the road, right and left edge [m].
        shadow_depth: Share of the light that a shadow takes away.
        light: Gain of each channel.
        flicker: Relative amplitude of the slow change of light; flicker_period_s: its period [s].
        shake_rad: Amplitude of the mount's pitch [rad]; shake_phase_rad: where it starts.
        noise: Standard deviation of the sensor's noise, in grey levels.
        seed: Picks the noise of each frame.
        visibility_m: Way on which fog leaves 5 % of contrast [m].
    """

    sky_top: Colour
    sky_low: Colour
    verge: Colour
    road: Colour
    kerb: Colour
    mark: Colour
    lane_marks_m: tuple[float, ...]
    dash_m: float
    gap_m: float
    phase_m: float
    shadows: Floats
    shadow_depth: float
    light: Colour
    flicker: float
    flicker_period_s: float
    shake_rad: float
    shake_phase_rad: float
    noise: float
    seed: int
    visibility_m: float = math.inf

    def pitch_rad(self, time_s: float) -> float:
        """Pitch that the mount adds at `time_s` [rad]: two sines, of 7.3 and of 2.1 radians a second."""
        phase = self.shake_phase_rad
        return self.shake_rad * (0.6 * math.sin(7.3 * time_s + phase) + 0.4 * math.sin(2.1 * time_s - 2.0 * phase))

    def gain_at(self, time_s: float) -> Floats:
        """Gain of each channel at `time_s`, shape (3,)."""
        swing = math.sin(2.0 * math.pi * time_s / self.flicker_period_s + self.shake_phase_rad)
        return np.array(self.light) * (1.0 + self.flicker * swing)


def draw_scenery(rng: np.random.Generator, length_m: float) -> Scenery:
    """Return a random scenery for a road of `length_m` metres."""
    haze = rng.uniform(150.0, 235.0)
    blue = rng.uniform(0.0, 60.0)
    grey = rng.uniform(60.0, 125.0)
    mark = rng.uniform(150.0, 245.0)
    kerb = rng.uniform(140.0, 220.0)
    lane = rng.uniform(3.6, 4.0)
    green = rng.uniform(70.0, 130.0)
    warmth = rng.uniform(-0.1, 0.1)
    gain = rng.uniform(0.65, 1.15)
    return Scenery(
        sky_top=(haze - blue - 30.0, haze - 0.5 * blue - 15.0, haze),
        sky_low=(haze, haze, min(255.0, haze + 10.0)),
        verge=(green * rng.uniform(0.5, 1.1), green, green * rng.uniform(0.3, 0.6)),
        road=(grey, grey, grey + rng.uniform(-4.0, 8.0)),
        kerb=(kerb, kerb * rng.uniform(0.9, 1.0), kerb * rng.uniform(0.8, 1.0)),
        mark=(mark, mark, mark * rng.uniform(0.75, 1.0)),
        lane_marks_m=(-1.5 * lane, -0.5 * lane, 0.5 * lane, 1.5 * lane),
        dash_m=rng.uniform(2.5, 5.0),
        gap_m=rng.uniform(3.0, 7.0),
        phase_m=rng.uniform(0.0, 10.0),
        shadows=_draw_shadows(rng, length_m),
        shadow_depth=rng.uniform(0.15, 0.55),
        light=(gain * (1.0 + warmth), gain, gain * (1.0 - warmth)),
        flicker=rng.uniform(0.0, 0.12),
        flicker_period_s=rng.uniform(3.0, 12.0),
        shake_rad=rng.uniform(0.0, 0.005),
        shake_phase_rad=rng.uniform(0.0, 2.0 * math.pi),
        noise=rng.uniform(1.0, 6.0),
        seed=int(rng.integers(0, 2**31)),
    )


def _draw_shadows(rng: np.random.Generator, length_m: float) -> Floats:
    count = int(rng.integers(0, max(2, int(length_m / 12.0))))
    start = rng.uniform(-10.0, length_m + 60.0, count)
    size = rng.uniform(0.6, 8.0, count)
    middle = rng.uniform(-12.0, 12.0, count)
    reach = rng.uniform(1.0, 12.0, count)
    return np.column_stack([start, start + size, middle - reach, middle + reach])


@cache
def noise_bank() -> NDArray[np.uint8]:
    """Return frames of normal noise about 128 with deviation 32, shape (32, 80, 160, 3), the same in every run."""
    rng = np.random.default_rng(20230214)
    noise = rng.standard_normal((_BANK, HEIGHT_PX, WIDTH_PX, 3), dtype=np.float32) * 32.0 + 128.0
    bank: NDArray[np.uint8] = np.clip(np.rint(noise), 0.0, 255.0).astype(np.uint8)
    return bank


def noise_frame(seed: int, number: int) -> NDArray[np.uint8]:
    """Return the noise of frame `number` (h, w, 3): one of the bank, mirrored two ways, chosen by a hash of both."""
    mixed = (seed * 0x9E3779B1 + number * 0x85EBCA77) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    picked = noise_bank()[(mixed >> 8) % _BANK]
    turned: NDArray[np.uint8] = picked[:: 1 if mixed & 1 else -1, :: 1 if mixed & 2 else -1]
    return turned
