"""The top view in a terminal, drawn with the eight dots of braille characters.

The vehicle drives up the picture, as on the page; the world turns under it. A character has one colour: of what lies
topmost in it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.text import Text

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800
_AHEAD_M = 50.0
_BEHIND_M = 8.0
_VEHICLE_M = (4.2, 1.8)
_STYLES = ("default", "dim", "dim blue", "bold blue", "bold yellow", "bold green")
_OBSTACLE, _TOLERABLE, _HELD, _BACKUP, _VEHICLE = range(1, 6)

Point = tuple[float, float]


class Picture:
    """A picture of dots.

    Args:
        width, height: How large [characters].
    """

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._cells = [[0] * width for _ in range(height)]
        self._layers = [[0] * width for _ in range(height)]
        self._m = (_AHEAD_M + _BEHIND_M) / (4 * height)

    def dot(self, ahead_m: float, left_m: float, layer: int) -> None:
        """Set the dot at a place of the vehicle's frame; what lies outside of the picture is left out."""
        x = round(self._width - left_m / self._m)
        y = round((_AHEAD_M - ahead_m) / self._m)
        column, row = x // 2, y // 4
        if 0 <= column < self._width and 0 <= row < self._height:
            self._cells[row][column] |= _DOTS[y % 4][x % 2]
            self._layers[row][column] = max(layer, self._layers[row][column])

    def line(self, points: Sequence[Point], layer: int) -> None:
        """Draw a line through points."""
        for (a, b), (c, d) in pairwise(points):
            steps = max(1, math.ceil(math.hypot(c - a, d - b) / self._m))
            for step in range(steps + 1):
                share = step / steps
                self.dot(a + share * (c - a), b + share * (d - b), layer)

    def disc(self, ahead_m: float, left_m: float, radius_m: float, layer: int) -> None:
        """Fill a disc."""
        reach = math.ceil(min(radius_m, _AHEAD_M) / self._m)
        for i in range(-reach, reach + 1):
            for j in range(-reach, reach + 1):
                if math.hypot(i, j) * self._m <= radius_m:
                    self.dot(ahead_m + i * self._m, left_m + j * self._m, layer)

    def text(self) -> Text:
        """Return the picture."""
        text = Text(no_wrap=True)
        for row, (cells, layers) in enumerate(zip(self._cells, self._layers, strict=True)):
            for cell, layer in zip(cells, layers, strict=True):
                text.append(chr(_BLANK + cell) if cell else " ", style=_STYLES[layer])
            if row < self._height - 1:
                text.append("\n")
        return text


def picture(view: Mapping[str, Any], width: int, height: int) -> Text:
    """Return the view of a feed's snapshot as characters."""
    x0, y0, heading = view["pose"]
    cosine, sine = math.cos(heading), math.sin(heading)

    def own(points: Sequence[Sequence[float]]) -> Iterator[Point]:
        for x, y, *_ in points:
            yield (x - x0) * cosine + (y - y0) * sine, (y - y0) * cosine - (x - x0) * sine

    drawn = Picture(width, height)
    for (ahead, left), (_, _, radius) in zip(own(view["obstacles"]), view["obstacles"], strict=True):
        drawn.disc(ahead, left, radius, _OBSTACLE)
    held, certain = list(own(view["held"])), view["certain"]
    drawn.line(held[certain:], _TOLERABLE)
    drawn.line(held[: certain + 1], _HELD)
    drawn.line(list(own(view["backup"])), _BACKUP)
    length, breadth = _VEHICLE_M
    for side in (-0.5, 0.0, 0.5):
        drawn.line([(-0.5 * length, side * breadth), (0.5 * length, side * breadth)], _VEHICLE)
    return drawn.text()
