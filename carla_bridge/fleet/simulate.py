"""A fleet that shares a radio cell and edge servers, in virtual time, event by event.

Every vehicle needs one answer an interval of n windows (n from the tolerable deadline) and goes by the adaptive rule:
offload if that is expected to cost less than a local run, else run locally, then idle until the interval ends. A frame
needs the airtime bits / phi, phi ~ Rayleigh, drawn anew for each; the cell's airtime and the servers are shared. With
no reply by the end of window n - 1 the sending stops and window n runs locally.

Without admission everybody sends. Past the point at which cell or servers are full everybody is late, and next to no
answer comes back in time: collapse. With admission the edge is asked first and lets a vehicle send only if

    a / min(1, C / (N + 1)) + (queue + N + 1) / (answers per second) + batch  <=  margin (n - 1) tau,

N transmissions being under way; who is refused runs locally and sends nothing. Asking costs neither time nor energy
here. What is admitted then nearly always comes back in time, however large the fleet.
"""

import heapq
from dataclasses import dataclass, fields

import numpy as np

from carla_bridge.experiment.one_model import FRAME_BITS
from carla_bridge.fleet.cell import Cell
from carla_bridge.fleet.edge import Batch, Edge
from offload.link import WINDOW_S
from offload.radio import MEGABIT, Radio


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is simulated.

    Args:
        vehicles: How many.
        admission: Whether the edge admits before a vehicle sends.
        local_j: Energy of a local run [J].
        interval_windows: n, the windows of 20 ms from one answer to the next.
        rate_mbps: Scale of the Rayleigh rate [Mbit/s].
        streams: Transmissions that the cell carries at full rate at once.
        servers, fixed_s, each_s, most: Edge servers; a batch of b <= most takes fixed_s + b each_s [s].
        margin: Share of the time until the fail-safe that an admitted answer may be expected to take.
        server_price_per_h: What a server costs an hour, in any currency.
        duration_s: Time simulated [s], after one second that does not count.
        seed: Draws phases and rates.
    """

    vehicles: int
    admission: bool
    local_j: float
    interval_windows: int = 10
    rate_mbps: float = 20.0
    streams: float = 40.0
    servers: int = 2
    fixed_s: float = 0.004
    each_s: float = 0.001
    most: int = 16
    margin: float = 0.7
    server_price_per_h: float = 1.0
    duration_s: float = 8.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in (("vehicles", 1), ("interval_windows", 2), ("servers", 1), ("most", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least {least}")
        for name in ("local_j", "rate_mbps", "streams", "each_s", "margin", "duration_s"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} = {getattr(self, name)}: must be a positive number")


@dataclass(frozen=True, slots=True)
class FleetRow:
    """What came of it.

    Args:
        vehicles, admission: As asked.
        offloaded_pct: Intervals answered by the edge [%].
        refused_pct: Intervals in which the edge did not admit [%].
        fallbacks_pct: Frames sent whose answer did not come in time, of those sent [%].
        energy_mj_per_window: Energy of a vehicle's window [mJ].
        energy_vs_no_edge: The same over that of one local run an interval and no edge.
        answers_per_s: Answers in time [1/s].
        edge_utilisation_pct, cell_utilisation_pct: Share of servers' time and of the cell's airtime in use [%].
        wasted_airtime_pct: Share of the airtime used for frames that were answered late or never [%].
        server_price_per_vehicle_h: Servers' price by vehicle and hour.
        server_price_per_million_answers: Servers' price by million answers in time; None without any.
    """

    vehicles: int
    admission: bool
    offloaded_pct: float
    refused_pct: float
    fallbacks_pct: float
    energy_mj_per_window: float
    energy_vs_no_edge: float
    answers_per_s: float
    edge_utilisation_pct: float
    cell_utilisation_pct: float
    wasted_airtime_pct: float
    server_price_per_vehicle_h: float
    server_price_per_million_answers: float | None

    def as_json(self) -> dict[str, float | int | bool | None]:
        """Return the row for a JSON file."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(slots=True)
class _Counts:
    intervals: int = 0
    sent: int = 0
    answered: int = 0
    refused: int = 0
    late: int = 0
    local: int = 0
    radio_j: float = 0.0
    airtime_s: float = 0.0
    wasted_s: float = 0.0


_START, _BATCH, _FAILSAFE = range(3)
_WARM_UP_S = 1.0


class Simulation:
    """One run; `run` may be called once.

    Args:
        fleet: What is simulated.
        radio: Whose power is charged.
    """

    def __init__(self, fleet: Fleet, radio: Radio) -> None:
        self._fleet = fleet
        self._radio = radio
        self._rng = np.random.default_rng([fleet.seed, fleet.vehicles])
        self._cell = Cell(fleet.streams)
        self._edge = Edge(fleet.servers, fleet.fixed_s, fleet.each_s, fleet.most)
        self._events: list[tuple[float, int, int, int]] = []
        self._batches: dict[int, Batch] = {}
        self._number = 0
        self._counts = _Counts()
        self._interval_s = fleet.interval_windows * WINDOW_S
        self._wait_s = (fleet.interval_windows - 1) * WINDOW_S
        # Of each vehicle: whether it waits for an answer and until when, the rate it sends at, the airtime it had.
        self._waits = [False] * fleet.vehicles
        self._due_s = [0.0] * fleet.vehicles
        self._rate_bps = [0.0] * fleet.vehicles
        self._used_s = [0.0] * fleet.vehicles
        self._rates: list[float] = []

    def run(self) -> FleetRow:
        """Simulate and return what came of it."""
        end_s = _WARM_UP_S + self._fleet.duration_s
        for vehicle, phase_s in enumerate((self._rng.random(self._fleet.vehicles) * self._interval_s).tolist()):
            self._push(phase_s, _START, vehicle)
        warm = False
        edge_s = cell_s = 0.0
        while True:
            sent_s, sender = self._cell.next_end()
            now_s = min(sent_s, self._events[0][0])
            if not warm and now_s >= _WARM_UP_S:
                self._cell.move_to(_WARM_UP_S)
                warm, self._counts = True, _Counts()
                edge_s, cell_s = self._edge.busy_s, self._cell.busy_s
            if now_s >= end_s:
                self._cell.move_to(end_s)
                return self._row(self._edge.busy_s - edge_s, self._cell.busy_s - cell_s)
            self._cell.move_to(now_s)
            if sent_s <= self._events[0][0]:
                self._on_sent(now_s, sender)
            else:
                _, _, kind, subject = heapq.heappop(self._events)
                (self._on_start, self._on_batch, self._on_failsafe)[kind](now_s, subject)

    def _push(self, time_s: float, kind: int, subject: int) -> None:
        self._number += 1
        heapq.heappush(self._events, (time_s, self._number, kind, subject))

    def _draw_rate(self) -> float:
        if not self._rates:
            self._rates = self._rng.rayleigh(self._fleet.rate_mbps * MEGABIT, 4096).tolist()
        return self._rates.pop()

    def _on_start(self, now_s: float, vehicle: int) -> None:
        self._push(now_s + self._interval_s, _START, vehicle)
        self._counts.intervals += 1
        rate_bps = self._draw_rate()
        airtime_s = FRAME_BITS / rate_bps
        worth = airtime_s < self._wait_s and self._radio.up_w(rate_bps) * airtime_s < self._fleet.local_j
        admitted = worth and (not self._fleet.admission or self._admits(airtime_s))
        if not admitted:
            self._counts.refused += worth
            self._counts.local += 1
            return
        self._counts.sent += 1
        self._waits[vehicle] = True
        self._rate_bps[vehicle] = rate_bps
        self._cell.start(vehicle, airtime_s)
        self._due_s[vehicle] = now_s + self._wait_s
        self._push(self._due_s[vehicle], _FAILSAFE, vehicle)

    def _admits(self, airtime_s: float) -> bool:
        send_s = airtime_s / self._cell.share(extra=1)
        ahead = self._edge.queued + self._cell.sending + 1
        compute_s = ahead / self._edge.per_second + self._edge.batch_s(self._fleet.most)
        return send_s + compute_s <= self._fleet.margin * self._wait_s

    def _on_sent(self, now_s: float, vehicle: int) -> None:
        self._charge(vehicle)
        self._edge.put(vehicle, self._due_s[vehicle])
        self._start_batches(now_s)

    def _start_batches(self, now_s: float) -> None:
        while (batch := self._edge.start(now_s)) is not None:
            self._batches[self._number + 1] = batch
            self._push(batch.end_s, _BATCH, self._number + 1)

    def _on_batch(self, now_s: float, number: int) -> None:
        self._edge.finish()
        for vehicle in self._batches.pop(number).requests:
            self._waits[vehicle] = False
            self._counts.answered += 1
        self._start_batches(now_s)

    def _on_failsafe(self, now_s: float, vehicle: int) -> None:
        if not self._waits[vehicle]:
            return
        self._waits[vehicle] = False
        if self._cell.sends(vehicle):
            self._charge(vehicle)
        self._counts.late += 1
        self._counts.local += 1
        self._counts.wasted_s += self._used_s[vehicle]

    def _charge(self, vehicle: int) -> None:
        """End the vehicle's transmission and charge its radio for the airtime it had."""
        used_s = self._cell.stop(vehicle)
        self._used_s[vehicle] = used_s
        self._counts.airtime_s += used_s
        self._counts.radio_j += self._radio.up_w(self._rate_bps[vehicle]) * used_s

    def _row(self, edge_busy_s: float, cell_busy_s: float) -> FleetRow:
        fleet, counts = self._fleet, self._counts
        windows = counts.intervals * fleet.interval_windows
        energy_j = counts.local * fleet.local_j + counts.radio_j
        answers_per_s = counts.answered / fleet.duration_s
        return FleetRow(
            vehicles=fleet.vehicles,
            admission=fleet.admission,
            offloaded_pct=100.0 * counts.answered / counts.intervals,
            refused_pct=100.0 * counts.refused / counts.intervals,
            fallbacks_pct=100.0 * counts.late / counts.sent if counts.sent else 0.0,
            energy_mj_per_window=1e3 * energy_j / windows,
            energy_vs_no_edge=energy_j / (counts.intervals * fleet.local_j),
            answers_per_s=answers_per_s,
            edge_utilisation_pct=100.0 * edge_busy_s / (fleet.servers * fleet.duration_s),
            cell_utilisation_pct=100.0 * cell_busy_s / fleet.duration_s,
            wasted_airtime_pct=100.0 * counts.wasted_s / counts.airtime_s if counts.airtime_s else 0.0,
            server_price_per_vehicle_h=fleet.servers * fleet.server_price_per_h / fleet.vehicles,
            server_price_per_million_answers=(
                1e6 * fleet.servers * fleet.server_price_per_h / 3600.0 / answers_per_s if counts.answered else None
            ),
        )
