"""Small problems for the planner's tests, and their best latency by trying everything."""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from hypothesis import strategies as st

from runtime.plan.instance import Instance
from runtime.plan.problem import Contention, Cost, Device, Edge, Link, Model, Problem, Segment

MS = 1e-3


def problem(
    costs: Mapping[str, tuple[float | None, ...]],
    edges: tuple[tuple[str, tuple[str, ...]], ...] = (),
    *,
    devices: tuple[str, ...] = ("a", "b"),
    way_ms: float = 0.0,
    channel: str | None = None,
    factor: float = 1.0,
    **more: Any,
) -> Problem:
    """Return a problem of one model from times in ms by segment and device."""
    segments = tuple(
        Segment(
            name,
            {d: None if ms is None else Cost(ms * MS, energy_j=ms * 1e-3) for d, ms in zip(devices, row, strict=True)},
        )
        for name, row in costs.items()
    )
    links = tuple(
        Link(a, b, latency_s=way_ms * MS, channel=channel) for i, a in enumerate(devices) for b in devices[i + 1 :]
    )
    flows = tuple(Edge(source, readers, 1000) for source, readers in edges)
    contention = (Contention((devices[0], devices[1]), factor),) if factor > 1.0 else ()
    model = Model("m", segments, flows)
    return Problem("p", tuple(Device(name) for name in devices), (model,), links, contention=contention, **more)


def _cost(time_ms: float | None) -> Cost | None:
    return None if time_ms is None else Cost(time_ms * MS, energy_j=time_ms * 1e-3)


@st.composite
def small_problems(draw: st.DrawFn, *, most: int = 5, channel: bool = False, factor: bool = False) -> Problem:
    """Return random problems: up to `most` segments, two or three devices, whole milliseconds."""
    count = draw(st.integers(1, most))
    devices = ("a", "b", "c")[: draw(st.integers(2, 3))]
    costs: dict[str, tuple[float | None, ...]] = {}
    for index in range(count):
        row: list[float | None] = [float(draw(st.integers(1, 9))) for _ in devices]
        banned = draw(st.none() | st.integers(0, len(devices) - 1))
        if banned is not None:
            row[banned] = None
        costs[f"s{index}"] = tuple(row)
    edges = []
    for index in range(count - 1):
        readers = draw(st.sets(st.integers(index + 1, count - 1), max_size=2))
        if readers:
            edges.append((f"s{index}", tuple(f"s{reader}" for reader in sorted(readers))))
    return problem(
        costs,
        tuple(edges),
        devices=devices,
        way_ms=float(draw(st.integers(0, 4))),
        channel="bus" if channel else None,
        factor=draw(st.sampled_from((1.1, 1.2, 1.5))) if factor else 1.0,
    )


def best_latency_ms(instance: Instance) -> float:
    """Return the least latency of any placement and any order [ms]; without contention and exits."""
    choices = [unit.choices for unit in instance.units]
    return min(1e3 * _best_of(instance, devices) for devices in product(*choices))


def _best_of(instance: Instance, devices: tuple[int, ...]) -> float:
    """Try every order in which tasks and transfers can go, each as early as it can."""
    moves = [
        (index, target)
        for index, flow in enumerate(instance.flows)
        for target in sorted({devices[instance.tasks[r].unit] for r in flow.readers})
        if target != devices[instance.tasks[flow.source].unit]
    ]
    jobs: list[Any] = [*range(len(instance.tasks)), *moves]
    return min(_orders(instance, devices, jobs, {}, {}), default=math.inf)


def _orders(
    instance: Instance, devices: tuple[int, ...], left: list[Any], done: dict[Any, float], free: dict[Any, float]
) -> Iterator[float]:
    if not left:
        yield max(done[task] for task in range(len(instance.tasks)))
        return
    for job in left:
        ready = _ready(instance, devices, job, done)
        if ready is None:
            continue
        resource, time_s = _use(instance, devices, job)
        end = max(ready, free.get(resource, 0.0) if resource is not None else 0.0) + time_s
        used = free if resource is None else {**free, resource: end}
        yield from _orders(instance, devices, [item for item in left if item != job], {**done, job: end}, used)


def _ready(instance: Instance, devices: tuple[int, ...], job: Any, done: dict[Any, float]) -> Any:
    if isinstance(job, tuple):
        return done.get(instance.flows[job[0]].source)
    here = devices[instance.tasks[job].unit]
    times = [instance.tasks[job].release_s]
    for index in instance.inflows[job]:
        source = instance.flows[index].source
        needed = source if devices[instance.tasks[source].unit] == here else (index, here)
        if needed not in done:
            return None
        times.append(done[needed])
    return max(times)


def _use(instance: Instance, devices: tuple[int, ...], job: Any) -> tuple[Any, float]:
    if isinstance(job, tuple):
        flow = instance.flows[job[0]]
        source = devices[instance.tasks[flow.source].unit]
        return flow.channels[source][job[1]], flow.times_s[source][job[1]]
    unit = instance.tasks[job].unit
    return devices[unit], instance.units[unit].times_s[devices[unit]][0]
