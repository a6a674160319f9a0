"""Random crops of the photographs that come with installed packages, as unlabelled calibration inputs.

    python examples/photographs.py crops.npz [--count 1000] [--seed 0]

scikit-image and scikit-learn bring ten colour photographs. A sample is a random one of them, a random square of it, at
least a fifth of its height, mirrored or not, scaled to 224 x 224: samples are independent draws from that distribution,
which is what a certificate needs. It is no ImageNet: figures made with it show the mechanism, not what a user's own
inputs would give.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 224
_LEAST_SIDE = 0.2
_FILES = {
    "skimage": (
        "data/astronaut.png",
        "data/chelsea.png",
        "data/coffee.png",
        "data/hubble_deep_field.jpg",
        "data/ihc.png",
        "data/motorcycle_left.png",
        "data/retina.jpg",
        "data/rocket.jpg",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}


def photographs() -> list[Image.Image]:
    """Return the photographs, in RGB.

    Raises:
        SystemExit: scikit-image or scikit-learn is not installed.
    """
    found = []
    for package, files in _FILES.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"{package} is not installed: pip install scikit-image scikit-learn")
        found += [Image.open(Path(spec.origin).parent / file).convert("RGB") for file in files]
    return found


def crops(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return random crops as (pixel - 127) / 128, shape (count, 3, 224, 224)."""
    rng = np.random.default_rng(seed)
    pictures = photographs()
    samples = np.empty((count, 3, SIZE, SIZE), np.float32)
    for sample in samples:
        picture = pictures[rng.integers(len(pictures))]
        most = min(picture.size)
        side = round(float(rng.uniform(_LEAST_SIDE, 1.0)) * most)
        left, top = (int(rng.integers(size - side + 1)) for size in picture.size)
        crop = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
        pixels = np.asarray(crop, np.float32)[:, :: rng.choice((-1, 1))]
        sample[:] = (pixels.transpose(2, 0, 1) - 127.0) / 128.0
    return samples


def main() -> None:
    """Write crops to a file."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--count", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    np.savez(chosen.file, image=crops(chosen.count, chosen.seed))


if __name__ == "__main__":
    main()
