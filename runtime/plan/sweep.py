"""A model cut at every place: how long, how often and how dear, with the head here and the tail on an edge server.

Cut k runs the first k of n segments here and sends what the rest reads; k = 0 sends the input (full offload), k = n
sends nothing (local). Everything is measured: the head on this machine's device, the bytes over the declared link, the
tail on a real edge server. For the pipelined throughput of cut k, with stages head, link and tail,

    throughput = 1 / max(head, link, tail),      link = 8 bytes / mean goodput

and the radio's energy is that of its airtime. Cuts that no other one betters in both p50 latency and throughput are
the non-dominated ones.

Reference: ParetoPipe (sweep of split points, non-dominated latency and throughput).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from devices.backend import Backend
from devices.chain import Chain
from devices.package import Package
from devices.tensor import Array
from offload.client import ClientSettings, EdgeClient
from offload.client.split import SplitModel
from offload.energy import sending_j
from offload.link import EmulatedLink, LinkModel
from offload.outcome import Outcome
from offload.radio import Radio
from offload.wire import Code
from runtime.plan.errors import PlanError

_PATIENCE_S = 10.0
_GOODPUT_WINDOWS = 2000


@dataclass(frozen=True, slots=True)
class Cut:
    """What one cut came to.

    Args:
        last_here: Last segment that ran here; "" for full offload.
        sent_bytes: What travels [B]; 0 for local.
        p50_ms, p99_ms: Latency from input to answer [ms].
        head_ms, tail_ms: Means of the parts computed here and there [ms].
        throughput_hz: Answers a second where the stages overlap [1/s].
        radio_mj: Mean energy of the radio [mJ].
        answered: Share of the runs that were answered in time.
        best: No other cut has both less latency and more throughput.
    """

    last_here: str
    sent_bytes: int
    p50_ms: float
    p99_ms: float
    head_ms: float
    tail_ms: float
    throughput_hz: float
    radio_mj: float
    answered: float
    best: bool = False

    def row(self) -> dict[str, Any]:
        """Return the cut as plain JSON values."""
        return asdict(self)


def sweep(
    package: Package, backend: Backend, endpoint: str, model: LinkModel, radio: Radio, *, runs: int = 20, seed: int = 0
) -> list[Cut]:
    """Measure every cut of a package.

    Args:
        package: The package; the edge server serves it too. Its exits are not asked: every run goes to the end.
        backend: The device here.
        endpoint: Address of the edge server.
        model: The declared link, around the real bytes.
        radio: Whose energy is counted.
        runs: Runs of each cut, after one that is not counted.
    Raises:
        PlanError: the edge server does not answer.
    """
    rng = np.random.default_rng(seed)
    inputs = {spec.name: _sample(spec.dtype, spec.shape, rng) for spec in package.inputs}
    order = [segment.id for segment in package.segments]
    link = EmulatedLink(model, seed, origin_s=time.monotonic())
    goodput_bps = float(np.mean([link.channel.sample(window).goodput_bps for window in range(_GOODPUT_WINDOWS)]))
    cuts = []
    patient = ClientSettings(silence_s=_PATIENCE_S, heartbeat_ms=round(1e3 * _PATIENCE_S))  # a stall is no lost server
    with EdgeClient(endpoint, patient, link=link) as client:
        _await(client)
        for last_here in ("", *order[:-1]):
            split = None if not last_here else SplitModel(package, backend, client, last_here)
            cuts.append(_measure(package, client, split, last_here, inputs, radio, goodput_bps, runs))
    cuts.append(_local(package, backend, inputs, order[-1], runs))
    return mark(cuts)


def mark(cuts: Sequence[Cut]) -> list[Cut]:
    """Return the cuts with the non-dominated ones marked."""
    return [
        Cut(**{**asdict(cut), "best": cut.answered > 0.0 and not any(_dominates(other, cut) for other in cuts)})
        for cut in cuts
    ]


def _dominates(one: Cut, other: Cut) -> bool:
    no_worse = one.p50_ms <= other.p50_ms and one.throughput_hz >= other.throughput_hz
    return no_worse and (one.p50_ms < other.p50_ms or one.throughput_hz > other.throughput_hz)


def _await(client: EdgeClient) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not client.state.connected:
        if time.monotonic() > end_s:
            raise PlanError(f"no edge server answers: {client.state.reason}")
        client.wait(0.01)


def _measure(
    package: Package,
    client: EdgeClient,
    split: SplitModel | None,
    last_here: str,
    inputs: Mapping[str, Array],
    radio: Radio,
    goodput_bps: float,
    runs: int,
) -> Cut:
    samples, heads, tails, energies, sent = [], [], [], [], 0
    for number in range(runs + 1):
        began_s = time.monotonic()
        if split is None:
            head_s, handle = 0.0, client.submit(package.name, inputs, began_s + _PATIENCE_S, version=package.version)
            outcome = _outcome_of(client, handle.id)
            sent = sum(array.nbytes for array in inputs.values())
        else:
            request = split.submit(inputs, began_s + _PATIENCE_S, ask_exits=False)
            if request.handle is None:
                raise PlanError(f"the head up to {last_here!r} was stopped")
            head_s, sent, handle = request.head_s, request.sent_bytes, request.handle
            outcome = _outcome_of(client, handle.id)
        if outcome.code not in (Code.OK, Code.DEADLINE_EXCEEDED):
            raise PlanError(f"the edge server does not run what follows {last_here!r}: {outcome.message}")
        if number and outcome.code is Code.OK:
            samples.append(outcome.ended_s - began_s)
            heads.append(head_s)
            tails.append(outcome.compute_s)
            flight = handle.transmission
            energies.append(0.0 if flight is None else sum(sending_j(radio, item) for item in flight.airtimes))
    if not samples:
        nan = float("nan")
        return Cut(last_here, sent, nan, nan, nan, nan, 0.0, nan, 0.0)
    stages = (float(np.mean(heads)), 8.0 * sent / goodput_bps if goodput_bps > 0.0 else np.inf, float(np.mean(tails)))
    p50, p99 = (1e3 * float(value) for value in np.quantile(samples, (0.5, 0.99)))
    return Cut(
        last_here,
        sent,
        p50,
        p99,
        1e3 * stages[0],
        1e3 * stages[2],
        1.0 / max(stages),
        1e3 * float(np.mean(energies)),
        len(samples) / runs,
    )


def _outcome_of(client: EdgeClient, request_id: int) -> Outcome:
    while True:
        for outcome in client.wait(1.0):
            if outcome.handle.id == request_id:
                return outcome


def _local(package: Package, backend: Backend, inputs: Mapping[str, Array], last: str, runs: int) -> Cut:
    chain = Chain(package, backend)
    samples = []
    for number in range(runs + 1):
        took_s = chain.run(inputs).elapsed_s
        if number:
            samples.append(took_s)
    p50, p99 = (1e3 * float(value) for value in np.quantile(samples, (0.5, 0.99)))
    mean_s = float(np.mean(samples))
    return Cut(last, 0, p50, p99, 1e3 * mean_s, 0.0, 1.0 / mean_s, 0.0, 1.0)


def _sample(dtype: str, shape: Sequence[int | str], rng: np.random.Generator) -> Array:
    sizes = [size if isinstance(size, int) else 1 for size in shape]
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.standard_normal(sizes).astype(kind)
    return np.zeros(sizes, kind) if kind.kind == "b" else rng.integers(0, 128, sizes).astype(kind)


def draw(cuts: Sequence[Cut], title: str, path: Path) -> None:
    """Draw latency against throughput, a point a cut, into a PNG file.

    Raises:
        PlanError: matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlanError("a picture needs matplotlib: pip install 'headway[view]'") from error
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for cut in cuts:
        if not cut.answered:
            continue
        colour = "tab:blue" if cut.best else "0.65"
        axes.plot(cut.p50_ms, cut.throughput_hz, "o", color=colour)
        label = name_of(cut)
        axes.annotate(
            label, (cut.p50_ms, cut.throughput_hz), xytext=(5, 4), textcoords="offset points", fontsize=8, rotation=40
        )
    best = sorted((cut for cut in cuts if cut.best), key=lambda cut: cut.p50_ms)
    axes.plot([cut.p50_ms for cut in best], [cut.throughput_hz for cut in best], color="tab:blue", linewidth=1)
    axes.set(xlabel="latency p50 [ms]", ylabel="throughput [1/s]", title=title)
    axes.margins(0.2)
    axes.set(xlim=(0.0, None), ylim=(0.0, None))
    axes.grid(visible=True, linewidth=0.3)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise PlanError(f"the picture can't be written to {path}: {error}") from error


def name_of(cut: Cut) -> str:
    """Return what people call a cut."""
    if not cut.sent_bytes:
        return "local"
    return f"after {cut.last_here}" if cut.last_here else "full offload"
