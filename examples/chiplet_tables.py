"""Make the layer tables of devices/chiplet/tables from architecture definitions.

Run: PYTHONPATH=. python examples/chiplet_tables.py [FOLDER]     (needs torch and torchvision)

Convolutional networks run without weights on torch's meta device and every convolution and linear layer writes down
its shape. Transformers are written out from their published sizes, since their products are no modules. What carries
no multiply-accumulates (pooling, normalisation, sums) is left out.
"""

import csv
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

Row = tuple[str, str, int, int, int, int, int, int, int, int]
FIELDS = ("name", "kind", "k", "c", "r", "s", "y", "x", "stride", "copies")


def row_of(name: str, module: nn.Module, given: torch.Tensor, made: torch.Tensor) -> Row | None:
    """Return a module's row; None where it multiplies nothing."""
    if isinstance(module, nn.Conv2d):
        (r, s), stride, groups = module.kernel_size, module.stride[0], module.groups
        y, x = int(made.shape[2]), int(made.shape[3])
        if groups == module.in_channels == module.out_channels and groups > 1:
            return name, "depthwise", groups, 1, int(r), int(s), y, x, int(stride), 1
        k, c = module.out_channels // groups, module.in_channels // groups
        return name, "conv", k, c, int(r), int(s), y, x, int(stride), groups
    if isinstance(module, nn.ConvTranspose2d):
        if module.kernel_size != module.stride:
            raise ValueError(f"{name}: only transposed convolutions without overlap are one product")
        taps = module.kernel_size[0] * module.kernel_size[1]
        y, x = int(given.shape[2]), int(given.shape[3])
        return name, "conv", module.out_channels * taps, module.in_channels, 1, 1, y, x, 1, 1
    if isinstance(module, nn.Linear):
        tokens = given.numel() // module.in_features
        return name, "gemm", module.out_features, module.in_features, 1, 1, tokens, 1, 1, 1
    return None


def trace(build: Callable[[], nn.Module], *shape: int) -> list[Row]:
    """Return the rows of a network in the order in which its layers run."""
    rows: list[Row] = []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def write(module: nn.Module, given: Any, made: Any) -> None:
            row = row_of(name, module, given[0], made)
            if row is not None:
                rows.append(row)

        return write

    network = build().eval().to("meta")
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.register_forward_hook(hook(name))
    with torch.no_grad():
        network(torch.empty(1, *shape, device="meta"))
    return rows


class UNet(nn.Module):
    """Ronneberger, Fischer, Brox, MICCAI 2015: 572 x 572, unpadded, 64 to 1024 channels, two classes."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (64, 128, 256, 512, 1024)
        self.down = nn.ModuleList(self.pair(a, b) for a, b in zip((1, *sizes), sizes, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * a, a, 2, 2) for a in sizes[-2::-1])
        self.after = nn.ModuleList(self.pair(2 * a, a) for a in sizes[-2::-1])
        self.last = nn.Conv2d(64, 2, 1)

    @staticmethod
    def pair(a: int, b: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(a, b, 3), nn.Conv2d(b, b, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for index, block in enumerate(self.down):
            x = block(x if index == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for up, after, skip in zip(self.up, self.after, kept[-2::-1], strict=True):
            x = up(x)
            edge = (skip.shape[2] - x.shape[2]) // 2
            x = after(torch.cat([skip[:, :, edge : edge + x.shape[2], edge : edge + x.shape[3]], x], 1))
        return self.last(x)


class Separable(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.Conv2d(channels, channels, 1))


class Camera(nn.Module):
    """One camera's way: RegNetX-800MF and a BiFPN of EfficientDet-D0's size (64 channels, three layers, P3 to P7)."""

    def __init__(self) -> None:
        super().__init__()
        net = torchvision.models.regnet_x_800mf()
        self.stem, self.blocks = net.stem, net.trunk_output
        self.narrow = nn.ModuleList(nn.Conv2d(width, 64, 1) for width in (128, 288, 672))
        self.p6 = nn.Conv2d(672, 64, 1)
        self.layers = nn.ModuleList(nn.ModuleList(Separable(64) for _ in range(8)) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, features = self.stem(x), []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        levels = [narrow(f) for narrow, f in zip(self.narrow, features[1:], strict=True)]
        levels.append(nn.functional.max_pool2d(self.p6(features[-1]), 3, 2, 1))
        levels.append(nn.functional.max_pool2d(levels[-1], 3, 2, 1))
        for layer in self.layers:
            mids = list(levels)
            for index, level in enumerate((3, 2, 1, 0)):
                above = nn.functional.interpolate(mids[level + 1], size=levels[level].shape[2:])
                mids[level] = layer[index](levels[level] + above)
            for index, level in enumerate((1, 2, 3, 4)):
                below = nn.functional.adaptive_max_pool2d(mids[level - 1], levels[level].shape[2:])
                mids[level] = layer[4 + index](mids[level] + below)
            levels = mids
        return levels[2]


def product(name: str, kind: str, outputs: int, inputs: int, rows: int, copies: int = 1) -> Row:
    """Return the row of a matrix product of `rows` rows."""
    return name, kind, outputs, inputs, 1, 1, rows, 1, 1, copies


def attend(name: str, width: int, heads: int, queries: int, keys: int, hidden: int, source: int = 0) -> Iterator[Row]:
    """Give the products of one attention block and its feed-forward layers."""
    head = width // heads
    yield product(f"{name}.q", "gemm", width, width, queries)
    yield product(f"{name}.kv", "gemm", 2 * width, source or width, keys)
    yield product(f"{name}.scores", "attention", keys, head, queries, heads)
    yield product(f"{name}.context", "attention", head, keys, queries, heads)
    yield product(f"{name}.out", "gemm", width, width, queries)
    yield product(f"{name}.up", "gemm", hidden, width, queries)
    yield product(f"{name}.down", "gemm", width, hidden, queries)


def transformer(layers: int, width: int, heads: int, tokens: int) -> list[Row]:
    """Return an encoder's or decoder's products at a full sequence, the feed-forward four times as wide."""
    return [row for i in range(layers) for row in attend(f"layer{i}", width, heads, tokens, tokens, 4 * width)]


BEV, CAMERA_TOKENS = 20 * 80, 8 * 23 * 40


def trunk(name: str, widths: tuple[int, ...], y: int, x: int) -> Iterator[Row]:
    for index, (a, b) in enumerate(pairwise(widths)):
        yield f"{name}{index}", "conv", b, a, 3, 3, y, x, 1, 1


def tables() -> Iterator[tuple[str, str, list[Row]]]:
    """Give name, source and rows of every table."""
    models = torchvision.models
    made = f"torchvision {torchvision.__version__.split('+')[0]}"
    plain = "resnet50 googlenet vgg16 mobilenet_v2 mobilenet_v3_large efficientnet_b0 densenet121 regnet_x_800mf"
    for name in plain.split():
        more = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        rows = trace(lambda name=name, more=more: getattr(models, name)(**more), 3, 224, 224)
        yield name, f"{made} {name}, 224 x 224", rows
    seg = models.segmentation
    yield (
        "lraspp",
        f"{made} lraspp_mobilenet_v3_large, 520 x 520",
        trace(lambda: seg.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None), 3, 520, 520),
    )
    yield "unet", "U-Net of Ronneberger et al., MICCAI 2015, 572 x 572", trace(UNet, 1, 572, 572)
    sizes = "sizes of Devlin et al., NAACL 2019"
    yield "bert_base", f"BERT-base, {sizes}, 128 tokens", transformer(12, 768, 12, 128)
    yield "bert_large", f"BERT-large, {sizes}, 128 tokens", transformer(24, 1024, 16, 128)
    gpt = "GPT-2 large, sizes of Radford et al., 2019, 128 tokens in one pass, without the vocabulary's product"
    yield "gpt2_large", gpt, transformer(36, 1280, 20, 128)
    yield "camera", f"{made} regnet_x_800mf + BiFPN of EfficientDet-D0's size, 720 x 1280", trace(Camera, 3, 720, 1280)
    ours = "assumed here: a grid of 20 x 80 cells seen from above, 256 wide, a queue of 12 frames, 300 wide"
    yield "spatial_fusion", ours, list(attend("spatial", 256, 8, BEV, CAMERA_TOKENS, 1024, source=64))
    yield "temporal_fusion", ours, list(attend("temporal", 300, 10, BEV, 12 * BEV, 1200))
    wide = list(trunk("occupancy", (300, 128), 20, 80)) + list(trunk("wide", (128, 64), 40, 160))
    yield "occupancy", ours, [*wide, *trunk("wider", (64, 32), 80, 320)]
    yield "lanes", ours, [row for i in range(2) for row in attend(f"lanes{i}", 256, 8, 100, BEV, 1024, source=300)]
    yield "detector", ours, [*trunk("detector", (300, 256, 256, 256), 20, 80), product("boxes", "gemm", 80, 256, BEV)]


def main() -> None:
    default = Path(__file__).resolve().parents[1] / "devices" / "chiplet" / "tables"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    for name, source, rows in tables():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            file.write(f"# {source}; made by examples/chiplet_tables.py\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(FIELDS)
            writer.writerows(rows)
        print(f"{name}: {len(rows)} layers")


if __name__ == "__main__":
    main()
