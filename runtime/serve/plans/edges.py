"""The edge servers of plans: opening the connections, what they tell of links and servers, probes.

Each has a client and, where a link is declared, an emulated uplink of its own. While no request goes to a server that
some plan uses, a probe does every so often, with what a request would send: its answer is thrown away, and what it
tells of link and server is why a plan can come back. A probe gives up, and stops sending, when a request would.
"""

import math
import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from devices.clock import Clock
from devices.package import Package
from devices.tensor import Array
from offload.client import ClientSettings, EdgeClient
from offload.errors import OffloadError
from offload.link import EmulatedLink
from offload.link.file import read_link
from offload.security.curve import ClientSecurity
from offload.security.keys import read_keys
from offload.throttle import Throttle
from runtime.config import OffloadSection, PlansSection
from runtime.errors import ConfigurationError
from runtime.execute.edge import EdgeDevice
from runtime.execute.edge_unit import edge_ranges
from runtime.plan.conditions import Way
from runtime.plan.plan import Plan
from runtime.plan.problem import Problem
from runtime.serve.plans.folder import placed, used_by
from runtime.serve.plans.replies import REMEMBERED_S, SEEN

_LONGEST_PROBE_S = 1.0
_PATIENCE_S = 1.0
_PROBES = 2.5  # so many are remembered: two that go unanswered tell of the link
_STEP = 1.1  # rates and times are told in steps, or every measurement would be a change
_MOST_WAIT = 0.9
_BELOW = 0.5  # a link too slow for a request is taken to be half as fast as would have done: how slow nobody knows


def open_edges(plans: PlansSection, offload: OffloadSection) -> list[EdgeDevice]:
    """Connect to the edge servers of plans.

    Args:
        plans: Addresses; `tcp://HOST:PORT`, several with "," between them.
        offload: Keys and declared link.
    Raises:
        ConfigurationError: Keys are half given.
        ClientError, LinkError, SecurityError: An address, link or key file cannot be used.
    """
    if (offload.keys is None) != (offload.server_key is None):
        raise ConfigurationError("offload.keys and offload.server_key go together: see headway keys")
    settings = ClientSettings()
    if offload.keys is not None and offload.server_key is not None:
        settings = ClientSettings(security=ClientSecurity(read_keys(Path(offload.keys)), {"": offload.server_key}))
    remembered_s = _PROBES * (plans.probe_s or PlansSection().probe_s)
    opened: list[EdgeDevice] = []
    try:
        for name, text in plans.edges.items():
            link = None
            if offload.link is not None:
                model, seed = read_link(Path(offload.link))
                link = EmulatedLink(model, seed, origin_s=time.monotonic())
            client = EdgeClient([item.strip() for item in text.split(",")], settings, link=link)
            opened.append(EdgeDevice(name, client, remembered_s=remembered_s))
    except BaseException:
        for edge in opened:
            edge.close()
        raise
    return opened


class Edges:
    """What edge servers and the links to them tell.

    Args:
        edges: The connections.
        problem: What the plans were made for.
        plans: The plans.
        packages: By name.
        probe_s: How long no request goes to a server before a probe does [s]; 0: never a probe.
        clock: The daemon's clock.
        complaints: Takes what can't be probed.
    """

    def __init__(
        self,
        edges: Sequence[EdgeDevice],
        problem: Problem,
        plans: Mapping[str, Plan],
        packages: Mapping[str, Package],
        probe_s: float,
        clock: Clock,
        complaints: Throttle,
    ) -> None:
        self._edges = {edge.name: edge for edge in edges}
        self._problem = problem
        self._probe_s = probe_s
        self._clock = clock
        self._complaints = complaints
        self._refused: dict[str, tuple[str, float]] = {}
        self._ratios: dict[str, deque[tuple[float, float]]] = {edge.name: deque(maxlen=SEEN) for edge in edges}
        self._queues: dict[str, deque[tuple[float, float]]] = {edge.name: deque(maxlen=SEEN) for edge in edges}
        self._probes = {edge.name: probe for edge in edges if (probe := _probe_of(edge.name, plans, packages))}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the edge servers."""
        return tuple(self._edges)

    def lost(self) -> dict[str, str]:
        """Return the servers that don't answer, and why."""
        now_s = self._clock.now_s()
        found = {name: why for name, (why, at_s) in self._refused.items() if now_s - at_s <= REMEMBERED_S}
        return found | {name: why for name, edge in self._edges.items() if (why := edge.lost) is not None}

    def await_connected(self) -> dict[str, str]:
        """Wait a moment until every server answers; return those that don't, and why."""
        until_s = self._clock.now_s() + _PATIENCE_S
        for edge in self._edges.values():
            edge.await_connected(max(0.0, until_s - self._clock.now_s()))
        return self.lost()

    def lose(self, name: str, why: str) -> None:
        """Take a server as lost for a while."""
        self._refused[name] = (why, self._clock.now_s())

    def blamed(self, message: str) -> str | None:
        """Return the server that a failure was at, as executors word it."""
        return next((name for name in self._edges if f"backend of {name} failed" in message), None)

    def learn(self, planned_s: Mapping[tuple[str, str, str], float]) -> None:
        """Take in what the servers ran since the last call; `planned_s` by model, segment and device."""
        now_s = self._clock.now_s()
        for name, edge in self._edges.items():
            for run in edge.runs():
                time_s = sum(planned_s.get((run.model, one, name), 0.0) for one in run.segment_ids)
                if time_s > 0.0:
                    self._ratios[name].append((now_s, run.compute_s / time_s))
                self._queues[name].append((now_s, run.queue_s))
            for seen in (self._ratios[name], self._queues[name]):
                while seen and now_s - seen[0][0] > REMEMBERED_S:
                    seen.popleft()

    def ways(self) -> dict[str, Way]:
        """Return the links to the servers that answer, in steps of a tenth, rates rounded down and times up."""
        found = {}
        for name, edge in self._edges.items():
            link, planned_bps = edge.link(), self._planned_bps(name)
            rate_bps = link.rate_bps if link.rate_bps is not None else planned_bps
            if link.rate_bps is None and link.at_most_bps >= planned_bps:
                rate_bps = math.inf  # as planned
            rate_bps = min(rate_bps, _BELOW * link.at_most_bps)
            rate = None if math.isinf(rate_bps) else _STEP ** math.floor(math.log(rate_bps, _STEP))
            latency = None if not link.latency_s else _STEP ** math.ceil(math.log(link.latency_s, _STEP))
            found[name] = Way(rate, latency)
        return found

    def slowdown(self) -> dict[str, float]:
        """Return how many times as long each server took that was seen."""
        return {
            name: statistics.median(ratio for _, ratio in list(seen)) for name, seen in self._ratios.items() if seen
        }

    def waits_s(self) -> dict[str, float]:
        """Return how long requests waited at each server that was seen [s]."""
        found = {name: sorted(wait for _, wait in list(seen)) for name, seen in self._queues.items() if seen}
        return {name: waits[math.ceil(_MOST_WAIT * len(waits)) - 1] for name, waits in found.items()}

    def probe(self, deadline_s: float, within_s: float = math.inf) -> None:
        """Probe servers that no request went to for a while, or for `within_s` [s].

        Args:
            deadline_s: How long a request would wait [s].
            within_s: Less than the usual while, where a plan is about to be switched to.
        """
        now_s = self._clock.now_s()
        for name, (package, ids, inputs) in self._probes.items():
            edge = self._edges[name]
            if (
                self._probe_s <= 0.0
                or now_s - edge.used_s < min(self._probe_s, within_s)
                or not edge.client.state.connected
            ):
                continue
            try:
                edge.probe(package, ids, inputs, now_s + min(deadline_s, _LONGEST_PROBE_S))
            except OffloadError as error:
                self._complaints.warn(f"{name} can't be probed: {error}")

    def status(self) -> dict[str, dict[str, object]]:
        """Return what `headway status` tells of the servers."""
        found: dict[str, dict[str, object]] = {}
        for name, edge in self._edges.items():
            link = edge.link()
            found[name] = {
                "endpoint": edge.client.endpoint,
                "lost": edge.lost,
                "rate_mbps": None if link.rate_bps is None else link.rate_bps / 1e6,
                "at_most_mbps": None if math.isinf(link.at_most_bps) else link.at_most_bps / 1e6,
                "latency_ms": None if link.latency_s is None else 1e3 * link.latency_s,
            }
        return found

    def _planned_bps(self, name: str) -> float:
        rates = [link.rate_bps for link in self._problem.links if name in (link.source, link.to)]
        return min((rate for rate in rates if rate is not None), default=math.inf)


def _probe_of(
    name: str, plans: Mapping[str, Plan], packages: Mapping[str, Package]
) -> tuple[Package, tuple[str, ...], dict[str, Array]] | None:
    """Return what the first plan that uses a server sends there: package, segments, zeros."""
    for plan in plans.values():
        if name not in used_by(plan):
            continue
        for model in plan.placement:
            package = packages[model]
            for ids in edge_ranges(package, placed(plan, package, ""), name):
                made = {spec.name for one in ids for spec in package.segment(one).outputs}
                specs = {s.name: s for one in ids for s in package.segment(one).inputs if s.name not in made}
                shapes = {s.name: [n if isinstance(n, int) else 1 for n in s.shape] for s in specs.values()}
                return package, ids, {n: np.zeros(shapes[n], dtype=specs[n].dtype) for n in specs}
    return None
