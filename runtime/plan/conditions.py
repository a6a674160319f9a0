"""How things are at run time, as far as plans depend on it: a problem's costs then, and what changed, in words."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from runtime.plan.problem import Cost, Link, Problem, cells


@dataclass(frozen=True, slots=True)
class Way:
    """A device's links as they are: rate [bit/s] and time before the first byte [s]; None: as planned."""

    rate_bps: float | None = None
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """How things are.

    Args:
        deadline_s: p99 latency to keep [s].
        slowdown: By device, how many times as long its segments take now; 1 where it isn't named.
        ways: By device, the links from and to it now; as planned where it isn't named.
        waits_s: By device, how long a request waits until it begins [s]; 0 where it isn't named.
        lost: Devices that don't answer.
        avoid: Devices to leave alone where there is a choice, and why.
        least_exits: By model, the deepest exit that requests want at least.
        reply_s: What a reply takes to get out, counted with every plan [s].
    """

    deadline_s: float = math.inf
    slowdown: Mapping[str, float] = field(default_factory=dict)
    ways: Mapping[str, Way] = field(default_factory=dict)
    waits_s: Mapping[str, float] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    avoid: Mapping[str, str] = field(default_factory=dict)
    least_exits: Mapping[str, str] = field(default_factory=dict)
    reply_s: float = 0.0


def as_now(problem: Problem, conditions: Conditions) -> Problem:
    """Return the problem with the costs of now."""
    slowed = {name: factor for name, factor in conditions.slowdown.items() if factor != 1.0}
    links = tuple(_as_is(link, conditions.ways) for link in problem.links)
    if not slowed:
        return msgspec.structs.replace(problem, links=links)
    devices = {device.name: device for device in problem.devices}
    models = []
    for model in problem.models:
        segments = []
        for segment in model.segments:
            costs = dict(segment.costs)
            for name, factor in slowed.items():
                given = cells(segment, devices[name])
                costs[name] = None if given is None else tuple(_slower(cost, factor) for cost in given)
            segments.append(msgspec.structs.replace(segment, costs=costs))
        models.append(msgspec.structs.replace(model, segments=tuple(segments)))
    return msgspec.structs.replace(problem, links=links, models=tuple(models))


def _as_is(link: Link, ways: Mapping[str, Way]) -> Link:
    way = ways.get(link.to, ways.get(link.source))
    if way is None:
        return link
    rate_bps = link.rate_bps if way.rate_bps is None else way.rate_bps
    latency_s = link.latency_s if way.latency_s is None else way.latency_s
    return msgspec.structs.replace(link, rate_bps=rate_bps, latency_s=latency_s)


def _slower(cost: Cost, factor: float) -> Cost:
    p99_s = None if cost.p99_s is None else cost.p99_s * factor
    return msgspec.structs.replace(cost, p50_s=cost.p50_s * factor, p99_s=p99_s)


def _told(way: Way) -> str:
    rate = "the planned rate" if way.rate_bps is None else f"{way.rate_bps / 1e6:.3g} Mbit/s"
    return rate if way.latency_s is None else f"{rate}, {1e3 * way.latency_s:.3g} ms"


def changes(before: Conditions, now: Conditions, devices: Collection[str]) -> str:
    """Return what changed for these devices and for requests, in words."""
    parts = [f"{name} is lost" for name in sorted(now.lost - before.lost) if name in devices]
    parts += [f"{name} is back" for name in sorted(before.lost - now.lost) if name in devices]
    for name in sorted(devices):
        parts += _changes_of(name, before, now)
    for name in sorted({*before.least_exits, *now.least_exits}):
        if before.least_exits.get(name) != now.least_exits.get(name):
            parts.append(f"requests to {name} want {now.least_exits.get(name, 'any exit')} at least")
    if now.deadline_s != before.deadline_s:
        parts.append(f"the deadline is {1e3 * now.deadline_s:.4g} ms (was {1e3 * before.deadline_s:.4g})")
    if not parts and now.reply_s != before.reply_s:
        parts.append(f"replies take {1e3 * now.reply_s:.3g} ms to get out (was {1e3 * before.reply_s:.3g})")
    return ", ".join(parts) or "nothing changed"


def _changes_of(name: str, before: Conditions, now: Conditions) -> list[str]:
    parts = []
    old, new = before.slowdown.get(name, 1.0), now.slowdown.get(name, 1.0)
    if old != new:
        parts.append(f"{name} takes {new:.3g} times as long (was {old:.3g})")
    ways = [_told(side.ways.get(name, Way())) for side in (before, now)]
    if ways[0] != ways[1]:
        parts.append(f"the link to {name} is at {ways[1]} (was {ways[0]})")
    waits_ms = [1e3 * side.waits_s.get(name, 0.0) for side in (before, now)]
    if waits_ms[0] != waits_ms[1]:
        parts.append(f"requests wait {waits_ms[1]:.3g} ms for {name} (was {waits_ms[0]:.3g})")
    if name in now.avoid and now.avoid[name] != before.avoid.get(name):
        parts.append(f"{name}: {now.avoid[name]}")
    if name in before.avoid and name not in now.avoid:
        parts.append(f"{name} need not be avoided any more")
    return parts
