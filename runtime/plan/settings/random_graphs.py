"""Random problems of stated shape: chains, layered and randomly wired graphs on unlike devices (the DiviML setting).

Seeded: one seed gives one problem. Times are unrelated between devices: a device's speed times a factor drawn for each
segment, so that some segments run best on a slow device.

Reference: DiviML; randomly wired networks: Xie et al., ICCV 2019 (Watts-Strogatz graphs).
"""

import random
from collections.abc import Sequence
from itertools import combinations, pairwise

from runtime.plan.problem import Cost, Device, Edge, Link, Memory, Model, Problem, Segment

SPEEDS = (1.0, 2.5, 0.6, 1.6)
"""Speed of device k (k mod 4) relative to the first."""
SERVER = {"cpu": 1.0, "gpu0": 9.0, "gpu1": 5.0}
"""A CPU and two unlike GPUs: speed relative to the CPU; declared."""


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
    return _problem(f"wired{count}x{devices}_{seed}", _ring(count, seed, neighbours, rewire), count, devices, seed)


def server(count: int, seed: int, gpu_bytes: float = 256e6) -> Problem:
    """Return a randomly wired network on a CPU and two unlike GPUs over PCIe, the slower one short of memory.

    Speeds, the bus (10 us, 12 GB/s, one transfer at a time) and powers are declared. A segment's time on a device is
    drawn around its speed, so that some run best on the slower GPU; a GPU takes 20 us to be started at all.

    Args:
        gpu_bytes: Memory of the slower GPU [byte]; a segment holds 4 to 64 MB.
    """
    name = f"wired{count}_cpu_2gpu_{seed}"
    rng = random.Random(f"{name} costs")
    watts = {"cpu": 60.0, "gpu0": 220.0, "gpu1": 70.0}
    segments = []
    for index in range(count):
        work_s, held = rng.lognormvariate(0.0, 0.8) * 3e-3, rng.uniform(4e6, 64e6)
        costs: dict[str, Cost | tuple[Cost, ...] | None] = {}
        for device, speed in SERVER.items():
            start_s = 0.0 if device == "cpu" else 20e-6
            time_s = round(start_s + work_s / speed * rng.uniform(0.6, 1.7), 7)
            costs[device] = Cost(time_s, round(1.2 * time_s, 8), round(time_s * watts[device], 7), round(held))
        segments.append(Segment(f"s{index}", costs))
    ends = list(SERVER)
    links = tuple(
        Link(a, b, latency_s=10e-6, rate_bps=96e9, j_per_byte=1e-10, channel="pcie") for a, b in combinations(ends, 2)
    )
    model = Model(name, tuple(segments), _flows(_ring(count, seed, 4, 0.75), rng, (200_000, 800_000, 3_200_000)))
    return Problem(
        name,
        tuple(Device(device) for device in ends),
        (model,),
        links,
        (Memory("gpu1", gpu_bytes, ("gpu1",)),),
        source=f"made by headway, seed {seed}: a randomly wired network; speeds, bus and powers declared, not measured",
    )


def _ring(count: int, seed: int, neighbours: int, rewire: float) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    edges = set()
    for node in range(count):
        for step in range(1, neighbours // 2 + 1):
            other = (node + step) % count
            if rng.random() < rewire:
                other = rng.choice([item for item in range(count) if item != node])
            edges.add((min(node, other), max(node, other)))
    return sorted(edges)


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
    flows = _flows(edges, rng, (50_000, 100_000, 200_000, 400_000))
    links = tuple(
        Link(a, b, latency_s=2e-5, rate_bps=8e9, j_per_byte=1e-9) for i, a in enumerate(names) for b in names[i + 1 :]
    )
    origin = f"made by headway, seed {seed}: log-normal work, unrelated speeds; declared, not measured"
    return Problem(
        name, tuple(Device(item) for item in names), (Model(name, tuple(segments), flows),), links, source=origin
    )


def _flows(edges: list[tuple[int, int]], rng: random.Random, sizes: Sequence[int]) -> tuple[Edge, ...]:
    readers: dict[int, list[str]] = {}
    for source, reader in edges:
        readers.setdefault(source, []).append(f"s{reader}")
    return tuple(Edge(f"s{source}", tuple(found), rng.choice(sizes)) for source, found in sorted(readers.items()))
