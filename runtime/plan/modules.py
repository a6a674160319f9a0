"""Modules: maximal chains of units, placed as one by dynamic programming.

Along a chain u_1 .. u_k with prices per device the best placement is exact:

    C_i(d) = price_d t_i(d) + min over c of ( C_{i-1}(c) + way_i(c, d) ),

with the devices of the units before and after the chain given. A graph of 50 segments has few modules, and cutting a
module at its best places is what a move of single segments doesn't find: each step over the cut costs before it gains.

Reference: DiviML (module-based heuristic).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.plan.instance import Flow, Instance


@dataclass(frozen=True, slots=True)
class Modules:
    """Chains of units, and the flow (of the first run) into each unit.

    Args:
        chains: Units of each module, in order.
        before, after: For each unit the (flow, neighbour) pairs.
    """

    chains: tuple[tuple[int, ...], ...]
    before: tuple[tuple[tuple[int, int], ...], ...]
    after: tuple[tuple[tuple[int, int], ...], ...]


def find_modules(instance: Instance) -> Modules:
    """Return a problem's modules: cut wherever a unit has more than one reader or more than one maker."""
    count = len(instance.units)
    before: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    after: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for index, flow in enumerate(instance.flows):
        source = instance.tasks[flow.source]
        if source.run == 0:
            for reader in flow.readers:
                before[instance.tasks[reader].unit].append((index, source.unit))
                after[source.unit].append((index, instance.tasks[reader].unit))
    order = [instance.tasks[task].unit for task in instance.order if instance.tasks[task].run == 0]
    chain_of: dict[int, list[int]] = {}
    chains: list[list[int]] = []
    for unit in order:
        makers = {maker for _, maker in before[unit]}
        (only,) = makers if len(makers) == 1 else (None,)
        if only is not None and len({reader for _, reader in after[only]}) == 1:
            chain_of[only].append(unit)
            chain_of[unit] = chain_of[only]
        else:
            chain_of[unit] = [unit]
            chains.append(chain_of[unit])
    return Modules(
        tuple(tuple(chain) for chain in chains),
        tuple(tuple(item) for item in before),
        tuple(tuple(item) for item in after),
    )


def place_chain(
    instance: Instance,
    modules: Modules,
    chain: Sequence[int],
    devices: Sequence[int],
    levels: Sequence[int],
    prices: Sequence[float],
    j_price: float = 0.0,
) -> list[int] | None:
    """Return the cheapest device of each unit of a chain, the others staying where they are.

    Args:
        devices: Device of every unit; -1 where it counts for nothing yet.
        prices: What a second on each device costs.
        j_price: What a joule costs, in seconds.
    Returns:
        None where no placement lets the tensors through.
    """
    costs: list[dict[int, float]] = []
    froms: list[dict[int, int]] = []
    for step, unit in enumerate(chain):
        row: dict[int, float] = {}
        back: dict[int, int] = {}
        for device in instance.units[unit].choices:
            own = _own(instance, unit, device, levels, prices, j_price)
            own += _outside(instance, modules.before[unit], chain[step - 1] if step else -1, devices, device, True)
            if step + 1 == len(chain):
                own += _outside(instance, modules.after[unit], -1, devices, device, False)
            if step == 0:
                row[device], back[device] = own, -1
                continue
            flows = [instance.flows[index] for index, maker in modules.before[unit] if maker == chain[step - 1]]
            ways = {c: cost + _ways(flows, c, device, j_price) for c, cost in costs[-1].items()}
            best = min(ways, key=ways.__getitem__)
            row[device], back[device] = own + ways[best], best
        costs.append(row)
        froms.append(back)
    last = min(costs[-1], key=costs[-1].__getitem__)
    if math.isinf(costs[-1][last]):
        return None
    found = [last]
    for back in reversed(froms[1:]):
        found.append(back[found[-1]])
    return found[::-1]


def _own(
    instance: Instance, unit: int, device: int, levels: Sequence[int], prices: Sequence[float], j_price: float
) -> float:
    cells = instance.units[unit].cells[device]
    joule = cells[levels[device]].energy_j * instance.units[unit].weight if cells is not None else math.inf
    return prices[device] * instance.units[unit].times_s[device][levels[device]] + j_price * joule


def _ways(flows: list[Flow], source: int, target: int, j_price: float) -> float:
    if source == target:
        return 0.0
    return sum(flow.times_s[source][target] + j_price * flow.energies_j[source][target] for flow in flows)


def _outside(
    instance: Instance, pairs: Sequence[tuple[int, int]], inside: int, devices: Sequence[int], device: int, enter: bool
) -> float:
    total = 0.0
    for index, neighbour in pairs:
        other = devices[neighbour]
        if neighbour != inside and other >= 0 and other != device:
            times = instance.flows[index].times_s
            total += times[other][device] if enter else times[device][other]
    return total
