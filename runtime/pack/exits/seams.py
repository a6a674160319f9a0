"""Where a package may get exits: the tensors that cross from the segments run so far to those still to run."""

from collections.abc import Sequence

from devices.package import Package
from devices.tensor import TensorSpec
from runtime.pack.exits.errors import CutError
from runtime.pack.exits.pooling import batch_sizes, check_poolable, is_poolable

Cut = tuple[TensorSpec, ...]


def seams(package: Package, grid: int = 1) -> tuple[tuple[float, Cut], ...]:
    """Return, shallow to deep, the share of the model's work done and the poolable tensors that cross there."""
    found: list[tuple[float, Cut]] = []
    batches = batch_sizes(package.inputs)
    weights = [segment.macs for segment in package.segments]
    if not any(weights):
        weights = [1] * len(weights)
    for index in range(1, len(package.segments)):
        later = {spec.name for segment in package.segments[index:] for spec in segment.inputs}
        crossing = [s for segment in package.segments[:index] for s in segment.outputs if s.name in later]
        cut = tuple(spec for spec in crossing if is_poolable(spec, grid, batches))
        if cut and cut not in [known for _, known in found]:
            found.append((sum(weights[:index]) / sum(weights), cut))
    return tuple(found)


def choose_cuts(package: Package, count: int, at: Sequence[Sequence[str]] | None, grid: int) -> tuple[Cut, ...]:
    """Return the cuts at which exits are fitted.

    Args:
        count: How many, spread evenly over the model's work, when `at` is None.
        at: Tensor names of each cut, shallow to deep.
    Raises:
        CutError: Fewer seams than exits, an unknown tensor, or one that cannot be pooled.
    """
    if at is not None:
        return tuple(_named(package, names, grid) for names in at)
    found = list(seams(package, grid))
    if len(found) < count:
        raise CutError(
            f"{count} exits were asked for, but package {package.name!r} has {len(found)} places for one: "
            f"{[[spec.name for spec in cut] for _, cut in found]}; cut it at more places"
        )
    chosen = []
    for index in range(count):
        target = (index + 1) / (count + 1)
        usable = found[: len(found) - (count - 1 - index)]
        best = min(range(len(usable)), key=lambda i: abs(usable[i][0] - target))
        chosen.append(found[best][1])
        del found[: best + 1]
    return tuple(chosen)


def _named(package: Package, names: Sequence[str], grid: int) -> Cut:
    known = {name: package.tensors[name] for name in package.producers}
    unknown = sorted(set(names) - known.keys())
    if unknown or not names:
        raise CutError(f"no exit can read {unknown or 'nothing'}: tensors between segments are {sorted(known)}")
    cut = tuple(known[name] for name in names)
    for spec in cut:
        check_poolable(spec, grid, batch_sizes(package.inputs))
    return cut
