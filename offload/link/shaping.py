"""The same link around real packets: two network namespaces, a veth pair between them, and the kernel's own shaping.

The vehicle's end gets the mean rate of the declared link (tbf), and both ends half of its mean round-trip time, the
spread of it and its loss (netem, where the kernel has it). What needs root and iproute2 says so; nothing outside the
two namespaces is touched, and they go when the block ends.

    with shaped_link(model) as ends:
        subprocess.Popen([*ends.vehicle, "headway", "serve", ...])
        subprocess.Popen([*ends.edge, "headway", "edge", "--bind", f"tcp://{ends.edge_address}:5555", ...])

Reference: tc-netem(8), tc-tbf(8), ip-netns(8).
"""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from offload.errors import LinkError
from offload.link.channel import Channel
from offload.link.model import LinkModel

_NUMBERS = itertools.count()
_SAMPLED = 2048
_QUEUE_S = 0.2


@dataclass(frozen=True, slots=True)
class Shape:
    """What the kernel is told: mean rate of the uplink [bit/s], delay one way and its spread [s], loss in [0, 1)."""

    rate_bps: float
    delay_s: float
    jitter_s: float
    loss: float

    @property
    def needs_netem(self) -> bool:
        """Whether shaping the rate alone is not enough."""
        return self.delay_s > 0.0 or self.loss > 0.0


@dataclass(frozen=True, slots=True)
class Ends:
    """How to run a command at either end, and the edge end's address."""

    vehicle: tuple[str, ...]
    edge: tuple[str, ...]
    edge_address: str


def shape_of(model: LinkModel) -> Shape:
    """Return the shape of a declared link: means and spread over its first windows."""
    channel = Channel(model)
    samples = [channel.sample(window) for window in range(_SAMPLED)]
    rtt_s = np.array([item.rtt_s + item.queue_s for item in samples])
    rate_bps = float(np.mean([item.rate_bps for item in samples]))
    return Shape(rate_bps, float(rtt_s.mean()) / 2.0, float(rtt_s.std()) / 2.0, model.loss)


def why_no_shaping(model: LinkModel) -> str:
    """Return why `shaped_link` would fail here, "" where it would not."""
    try:
        with shaped_link(model):
            return ""
    except LinkError as error:
        return str(error)


@contextmanager
def shaped_link(model: LinkModel) -> Iterator[Ends]:
    """Make two namespaces with the declared link between them.

    Raises:
        LinkError: not root, no iproute2, or a kernel without what the link needs.
    """
    if os.geteuid() != 0:
        raise LinkError("shaping a real link needs root: run it with sudo")
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        raise LinkError(f"shaping a real link needs {' and '.join(missing)}: install iproute2")
    number = next(_NUMBERS)
    names = {end: f"hw{os.getpid()}{end[0]}{number}" for end in ("vehicle", "edge")}
    shape = shape_of(model)
    try:
        for name in names.values():
            _do("ip", "netns", "add", name)
        _do(*f"ip -n {names['vehicle']} link add up0 type veth peer name up0 netns {names['edge']}".split())
        for host, (end, name) in enumerate(names.items(), 1):
            _do(*f"ip -n {name} addr add 10.213.0.{host}/24 dev up0".split())
            _do(*f"ip -n {name} link set lo up".split())
            _do(*f"ip -n {name} link set up0 up".split())
            _shape(name, shape, with_rate=end == "vehicle")
        inside = {end: ("ip", "netns", "exec", name) for end, name in names.items()}
        yield Ends(inside["vehicle"], inside["edge"], "10.213.0.2")
    finally:
        for name in names.values():
            _run("ip", "netns", "del", name)


def _shape(name: str, shape: Shape, *, with_rate: bool) -> None:
    parent = "root"
    if with_rate:
        burst = max(3000, int(shape.rate_bps / 8.0 * 1e-3))
        limit = burst + int(shape.rate_bps / 8.0 * _QUEUE_S)
        rate = f"tbf rate {int(shape.rate_bps)}bit burst {burst} limit {limit}"
        _do("tc", "-n", name, *f"qdisc add dev up0 root handle 1: {rate}".split())
        parent = "parent 1:1"
    if shape.needs_netem:
        delay = f"delay {round(1e6 * shape.delay_s)}us {round(1e6 * shape.jitter_s)}us"
        netem = f"netem limit 10000 {delay} loss {100.0 * shape.loss:.4f}%"
        _do("tc", "-n", name, *f"qdisc add dev up0 {parent} {netem}".split())


def _do(*command: str) -> None:
    ended = _run(*command)
    if ended.returncode:
        why = ended.stderr.strip() or f"exit code {ended.returncode}"
        hint = "; this kernel lacks sch_netem, which delay and loss need" if "netem" in command else ""
        raise LinkError(f"{' '.join(command)}: {why}{hint}")


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)
