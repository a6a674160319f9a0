"""Random problems of stated shape: chains, layered and randomly wired graphs on unlike devices (the DiviML setting).

Seeded: one seed gives one problem. Times are unrelated between devices: a device's speed times a factor drawn for each
segment, so that some segments run best on a slow device.

Reference: DiviML; randomly wired networks: Xie et al., ICCV 2019 (Watts-Strogatz graphs).
"""

import random
from itertools import pairwise

from runtime.plan.problem import Cost, Device, Edge, Link, Model, Problem, Segment

SPEEDS = (1.0, 2.5, 0.6, 1.6)
"""Speed of device k (k mod 4) relative to the first."""


def chain(count: int, devices: int, seed: int) -> Problem:
    """Return a chain of `count` segments."""
    return _problem(f"chain{count}x{devices}_{seed}", [(i, i + 1) for i in range(count - 1)], count, devices, seed)


def layered(count: int, devices: int, seed: int, width: int = 4) -> Problem:
    """Return a graph of layers of up to `width` segments, each reading one to three of the layer before."""
    rng = random.Random(seed)
    layers: list[list[int]] = []
    made = 0
    while made < count:
        size = min(rng.randint(1, width), count - made)
        layers.append(list(range(made, made + size)))
        made += size
    edges = [
        (source, reader)
        for before, layer in pairwise(layers)
        for reader in layer
        for source in sorted(rng.sample(before, min(len(before), rng.randint(1, 3))))
    ]
    return _problem(f"layered{count}x{devices}_{seed}", edges, count, devices, seed)


def wired(count: int, devices: int, seed: int, neighbours: int = 4, rewire: float = 0.5) -> Problem:
    """Return a randomly wired graph: a Watts-Strogatz ring, each edge directed from the lower to the higher node."""
    rng = random.Random(seed)
    edges = set()
    for node in range(count):
        for step in range(1, neighbours // 2 + 1):
            other = (node + step) % count
            if rng.random() < rewire:
                other = rng.choice([item for item in range(count) if item != node])
            edges.add((min(node, other), max(node, other)))
    return _problem(f"wired{count}x{devices}_{seed}", sorted(edges), count, devices, seed)


def _problem(name: str, edges: list[tuple[int, int]], count: int, devices: int, seed: int) -> Problem:
    rng = random.Random(f"{name} costs {seed}")
    names = [f"unit{k}" for k in range(devices)]
    segments = []
    for index in range(count):
        work_s = rng.lognormvariate(0.0, 0.6) * 1e-3
        costs: dict[str, Cost | tuple[Cost, ...] | None] = {}
        for k, device in enumerate(names):
            time_s = round(work_s / SPEEDS[k % 4] * rng.uniform(0.6, 1.7), 6)
            costs[device] = Cost(time_s, round(1.3 * time_s, 7), round(time_s * 4.0 * SPEEDS[k % 4] ** 1.5, 9))
        segments.append(Segment(f"s{index}", costs))
    readers: dict[int, list[str]] = {}
    for source, reader in edges:
        readers.setdefault(source, []).append(f"s{reader}")
    flows = tuple(
        Edge(f"s{source}", tuple(found), rng.choice((50_000, 100_000, 200_000, 400_000)))
        for source, found in sorted(readers.items())
    )
    links = tuple(
        Link(a, b, latency_s=2e-5, rate_bps=8e9, j_per_byte=1e-9) for i, a in enumerate(names) for b in names[i + 1 :]
    )
    origin = f"made by headway, seed {seed}: log-normal work, unrelated speeds; declared, not measured"
    return Problem(
        name, tuple(Device(item) for item in names), (Model(name, tuple(segments), flows),), links, source=origin
    )
