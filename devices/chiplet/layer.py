"""A layer as seven loops: what a dataflow maps onto processing elements, and the bytes it reads and leaves.

    out[k, y, x] = sum over c, r, s of in[c, y stride + r, x stride + s] w[k, c, r, s]      copies times

A matrix product of m rows is r = s = 1 with y x = m; attention's two products are the same without weights, since both
operands are activations; groups and heads are `copies`. Elements are bytes (8-bit tensors).
"""

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["conv", "depthwise", "gemm", "attention"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer.

    Args:
        k, c: Outputs and inputs a copy (channels).
        r, s: Height and width of the kernel.
        y, x: Height and width of the output.
        copies: How many independent copies run (groups, heads, cameras).
    Raises:
        ValueError: A size is below 1, or a depthwise layer has more than one input a copy.
    """

    name: str
    kind: Kind
    k: int
    c: int
    r: int
    s: int
    y: int
    x: int
    stride: int = 1
    copies: int = 1

    def __post_init__(self) -> None:
        for name in ("k", "c", "r", "s", "y", "x", "stride", "copies"):
            if getattr(self, name) < 1:
                raise ValueError(f"layer {self.name!r}: {name} is {getattr(self, name)}, must be at least 1")
        if self.kind == "depthwise" and self.c != 1:
            raise ValueError(f"layer {self.name!r}: a depthwise layer has c = 1, not {self.c}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return self.k * self.c * self.r * self.s * self.y * self.x * self.copies

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights; none for attention."""
        return 0 if self.kind == "attention" else self.k * self.c * self.r * self.s * self.copies

    @property
    def output_bytes(self) -> int:
        """Bytes that it leaves, of one sample."""
        return self.k * self.y * self.x * self.copies

    @property
    def input_bytes(self) -> int:
        """Bytes that it reads, of one sample: the patch under every kernel position, and attention's second operand."""
        height, width = (self.y - 1) * self.stride + self.r, (self.x - 1) * self.stride + self.s
        channels = self.k if self.kind == "depthwise" else self.c
        second = self.k * self.c * self.copies if self.kind == "attention" else 0
        return channels * height * width * self.copies + second

    def batched(self, samples: int) -> "Layer":
        """Return the layer of several samples at once: their rows one under another, attention's as more copies."""
        if self.kind == "attention":
            return replace(self, copies=self.copies * samples)
        return replace(self, y=self.y * samples)

    def rows(self, shards: int) -> "Layer":
        """Return the largest of `shards` equal parts of the output's rows; of its columns where it has one row."""
        if self.y > 1:
            return replace(self, y=-(-self.y // shards))
        return replace(self, x=-(-self.x // shards))
