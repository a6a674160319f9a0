"""Cycles and buffer accesses of a layer under the two dataflows.

The array works in steps. A step costs the longest of computing, bringing operands in and taking results out, since
the next operands come while it computes; filling a cluster is not hidden, so that computing is

    ceil(r s / lanes) + ceil(operands of a cluster / noc)

Weight stationary (NVDLA-like): clusters split the output channels, the 64 elements of a cluster the input channels;
a step is one output position; weights stay for a whole sweep over positions; partial sums go to the buffer once for
every 64 input channels. A depthwise layer spreads its channels over all elements and needs no sum across them, so
that its fill is hidden. Checked against MAESTRO's own results (tests/chiplet).

Output stationary (ShiDianNao-like): clusters split the output rows, the elements of a cluster (8) the columns; a step
is one (output channel, input channel) pair over a tile; sums stay until all input channels are done, and the tile's
input is read again for every output channel. Kernels of 1 x 1 have no neighbours, so that positions are laid out over
all elements. Not validated against any tool: no samples of it are public in our reference data.

Reference: MAESTRO, Kwon et al., MICRO 2019 (steps, double buffering, clusters).
"""

from functools import lru_cache

from devices.chiplet.chip import WS_CLUSTER, Chiplet, LayerCost
from devices.chiplet.layer import Layer


@lru_cache(maxsize=65536)
def layer_cost(layer: Layer, chiplet: Chiplet) -> LayerCost:
    """Return what a layer costs on a chiplet; of several samples at once, see `Layer.batched`."""
    if chiplet.dataflow == "os":
        return _output_stationary(layer, chiplet)
    return _depthwise(layer, chiplet) if layer.kind == "depthwise" else _weight_stationary(layer, chiplet)


def _over(amount: int, per: int) -> int:
    return -(-amount // per)


def _parts(total: int, size: int) -> list[tuple[int, int]]:
    """Return (size of a part, how many) for a total cut into parts of `size` and a rest."""
    whole, rest = divmod(total, size)
    return [(amount, count) for amount, count in ((size, whole), (rest, 1)) if amount and count]


def _sweep(layer: Layer, chiplet: Chiplet, channels: int, compute: int, weights: int) -> int:
    """Return the cycles of one sweep over all output positions with `channels` inputs side by side."""
    column = channels * layer.r * min(layer.s, layer.stride)
    patch = channels * layer.r * layer.s
    first = max(compute, _over(patch + weights, chiplet.noc))
    at_row = max(compute, _over(patch, chiplet.noc))
    along = max(compute, _over(column, chiplet.noc))
    return first + (layer.y - 1) * at_row + layer.y * (layer.x - 1) * along


def _patches(layer: Layer) -> int:
    """Return how many elements of one channel a sweep reads."""
    return layer.y * layer.r * (layer.s + (layer.x - 1) * min(layer.s, layer.stride))


def _weight_stationary(layer: Layer, chiplet: Chiplet) -> LayerCost:
    clusters = chiplet.pes // WS_CLUSTER
    kernel = layer.r * layer.s
    cycles = 0
    for inputs, input_folds in _parts(layer.c, WS_CLUSTER):
        compute = _over(kernel, chiplet.lanes) + _over(2 * inputs * kernel, chiplet.noc)
        for outputs, output_folds in _parts(layer.k, clusters):
            sweep = _sweep(layer, chiplet, inputs, compute, outputs * inputs * kernel)
            cycles += input_folds * output_folds * sweep
    reads = _over(layer.k, clusters) * layer.c * _patches(layer)
    return _cost(layer, cycles, reads, layer.k * layer.c * kernel, _over(layer.c, WS_CLUSTER))


def _depthwise(layer: Layer, chiplet: Chiplet) -> LayerCost:
    kernel = layer.r * layer.s
    compute = _over(kernel, chiplet.lanes)
    channels = layer.k * layer.copies
    cycles = sum(
        folds * _sweep(layer, chiplet, amount, compute, amount * kernel)
        for amount, folds in _parts(channels, chiplet.pes)
    )
    reads, weights, outputs = channels * _patches(layer), channels * kernel, layer.output_bytes
    l1 = 4 * layer.macs + reads + weights
    return LayerCost(cycles + 1, layer.macs, l1, reads + weights + outputs)


def _output_stationary(layer: Layer, chiplet: Chiplet) -> LayerCost:
    kernel = layer.r * layer.s
    cycles = reads = weights = 0
    for rows, columns, count in _tiles(layer, chiplet):
        width = (min(columns, chiplet.os_cluster) - 1) * layer.stride + layer.s
        tile = ((rows - 1) * layer.stride + layer.r) * ((columns - 1) * layer.stride + layer.s)
        if kernel == 1:
            tile = rows * columns
        compute = _over(kernel, chiplet.lanes) + _over(layer.r * width + kernel, chiplet.noc)
        step = max(compute, _over(tile + kernel, chiplet.noc))
        cycles += count * layer.k * max(layer.c * step, _over(rows * columns, chiplet.noc))
        reads += count * layer.k * layer.c * tile
        weights += count * layer.k * layer.c * kernel
    return _cost(layer, cycles, reads, weights, 1)


def _tiles(layer: Layer, chiplet: Chiplet) -> list[tuple[int, int, int]]:
    """Return (rows, columns, how many) of the tiles that cover the output."""
    if layer.r == layer.s == 1:
        return [(1, positions, count) for positions, count in _parts(layer.y * layer.x, chiplet.pes)]
    return [
        (rows, columns, row_count * column_count)
        for rows, row_count in _parts(layer.y, chiplet.pes // chiplet.os_cluster)
        for columns, column_count in _parts(layer.x, chiplet.os_cluster)
    ]


def _cost(layer: Layer, cycles: int, reads: int, weights: int, sums: int) -> LayerCost:
    """Return a copy's figures times the copies; `sums` is how often a partial sum goes to the buffer."""
    outputs = layer.k * layer.y * layer.x
    l1 = 4 * (layer.macs // layer.copies) + reads + weights
    l2 = reads + weights + outputs * (2 * sums - 1)
    return LayerCost(layer.copies * (cycles + 1), layer.macs, layer.copies * l1, layer.copies * l2)
