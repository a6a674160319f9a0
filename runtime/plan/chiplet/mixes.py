"""The mixes and packages that are compared: two language and image mixes of a data centre and a headset, a car.

The models are those of SCAR's scenarios as far as their layers follow from public definitions; batches, and the
networks that stand in for a headset's tasks, are ours: the paper's headset models are not all public.

    data centre   3 x 3 chiplets of 4096 elements        headset   3 x 3 chiplets of 256
    car           6 x 6 chiplets of 256 elements, 8 cameras

Reference: SCAR, arXiv 2405.00790. The car: Odema et al., DATE 2025, arXiv 2411.16007; grid and queue are assumptions.
"""

from devices.chiplet.tables import load_table
from runtime.plan.chiplet.mix import Mix, Work

CENTRE_PES, HEADSET_PES, CAR_PES = 4096, 256, 256
CENTRE = {
    "language": {"gpt2_large": 1, "bert_large": 3},
    "language-image": {"gpt2_large": 1, "bert_large": 3, "resnet50": 1},
    "language-images": {"gpt2_large": 8, "bert_large": 24, "resnet50": 32},
    "segmentation": {"gpt2_large": 8, "bert_base": 24, "resnet50": 32, "unet": 1},
    "images": {"bert_base": 8, "resnet50": 32, "googlenet": 32, "unet": 1},
}
HEADSET = {
    "scene": {"lraspp": 1, "mobilenet_v2": 2},
    "hands": {"mobilenet_v3_large": 2, "efficientnet_b0": 1, "lraspp": 1},
    "depth": {"resnet50": 1, "efficientnet_b0": 2, "mobilenet_v2": 2},
    "objects": {"googlenet": 1, "mobilenet_v2": 2, "lraspp": 1},
    "dense": {"densenet121": 1, "mobilenet_v3_large": 2, "efficientnet_b0": 1, "bert_base": 1},
}
CAR = {"camera": 8, "spatial_fusion": 1, "temporal_fusion": 1, "occupancy": 1, "lanes": 1, "detector": 1}
FROM_MEMORY = ("camera",)


def make_mix(name: str, batches: dict[str, int]) -> Mix:
    """Return a mix of layer tables with a batch each."""
    return Mix(name, tuple(Work(table, load_table(table), batch) for table, batch in batches.items()))


def car_mix(side_by_side: bool = False) -> Mix:
    """Return the perception pipeline of eight cameras.

    Args:
        side_by_side: The cameras' rows as one tall picture, which is the most that one large array can make of them.
    """
    mix = make_mix("car", CAR)
    if not side_by_side:
        return mix
    camera = mix.works[0]
    tall = tuple(layer.batched(camera.batch) for layer in camera.layers)
    return Mix("car, cameras side by side", (Work(camera.name, tall), *mix.works[1:]))
