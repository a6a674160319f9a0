"""Poolings as steps: an adaptive mean over cells of one size is a plain mean."""

from typing import Any

from torch import nn

from runtime.pack.width.errors import WidthError
from runtime.pack.width.graph import StepKind
from runtime.pack.width.network import Draft


def pair(value: Any) -> tuple[int, int]:
    """Return a size given as one number or as two."""
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def max_pool(draft: Draft, name: str, x: str, module: Any) -> str:
    """Append a MaxPool2d and return its feature.

    Raises:
        WidthError: It has a ceil mode or a dilation, or is not square.
    """
    if module.ceil_mode or pair(module.dilation) != (1, 1):
        raise WidthError(f"{name}: {module}: must have no ceil mode and no dilation")
    sizes = [pair(value) for value in (module.kernel_size, module.stride, module.padding)]
    if any(height != width for height, width in sizes):
        raise WidthError(f"{name}: {module}: must be square")
    return draft.step(StepKind.MAX_POOL, name, [x], [height for height, _ in sizes])


def adaptive(draft: Draft, name: str, x: str, module: Any) -> str:
    """Append an AdaptiveAvgPool2d and return its feature; one that keeps the size is left out.

    Raises:
        WidthError: Its cells differ in size.
    """
    if not isinstance(module, nn.AdaptiveAvgPool2d):
        raise WidthError(f"{name} is a {type(module).__name__}: must be an AdaptiveAvgPool2d")
    there, wanted = draft.shape(x)[2:], pair(module.output_size)
    if any(have % want for have, want in zip(there, wanted, strict=True)):
        raise WidthError(f"{name}: features of {there} cannot be pooled to {wanted} in cells of one size: give images "
                         "of another size")  # fmt: skip
    cells = [have // want for have, want in zip(there, wanted, strict=True)]
    return x if cells == [1, 1] else draft.step(StepKind.MEAN_POOL, name, [x], cells)
