"""What pages and terminals show: the state of guard and daemon now, and the last seconds of it.

Fed with what a `Follower` hears and with the daemon's status; a snapshot is one dict of what JSON has.
"""

import math
import time
from collections import Counter, deque
from typing import Any

from runtime.observe.follower import Heard
from runtime.observe.geometry import top_view
from runtime.serve.guard_ticks import Followed, Tick
from shield.vehicle import Vehicle

TOPICS = ("request", "window", "plan", "drift", "edge", "model")
_HISTORY_S = 10.0
_TIMELINE_S = 1.0
_FRESH_S = 1.0


class Feed:
    """Gathers; one thread at a time."""

    def __init__(self) -> None:
        self._vehicle: Vehicle | None = None
        self._rules: Followed | None = None
        self._tick: Tick | None = None
        self._heard_s = -math.inf
        self._deadlines: deque[tuple[float, float, str]] = deque()
        self._energy: deque[tuple[float, float, str]] = deque()
        self._segments: deque[tuple[float, float, str, str, str]] = deque()
        self._exits: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._windows: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._last_window: dict[str, Any] | None = None
        self._status: dict[str, Any] | None = None

    @property
    def vehicle(self) -> Vehicle | None:
        """The guarded vehicle; None until it is known."""
        return self._vehicle

    def status(self, status: dict[str, Any] | None) -> None:
        """Take in what `headway status` tells; None: no daemon answers."""
        self._status = status

    def take(self, heard: Followed | Tick | Heard) -> None:
        """Take in what was heard."""
        match heard:
            case Followed():
                self._rules, self._vehicle = heard, heard.vehicle
            case Tick():
                self._take_tick(heard)
            case Heard(topic="request"):
                self._take_request(heard)
            case Heard(topic="window"):
                self._take_window(heard)

    def _take_tick(self, tick: Tick) -> None:
        self._tick, self._heard_s = tick, time.monotonic()
        self._reasons[tick.decision.reason] += 1
        deadline_s = 0.0 if tick.exceeded else tick.decision.deadline_s
        self._deadlines.append((tick.now_s, deadline_s, tick.decision.mode))
        _forget(self._deadlines, tick.now_s - _HISTORY_S)

    def _take_request(self, heard: Heard) -> None:
        data, ended_s = heard.data, 1e-9 * heard.at_ns
        self._statuses[data["status"]] += 1
        if data["exit_id"] is not None:
            self._exits[data["exit_id"]] += 1
        parts = data["parts"]
        span_s = max((part["begin_us"] + part["run_us"] for part in parts), default=0) * 1e-6
        for part in parts:
            begin_s = ended_s - span_s + part["begin_us"] * 1e-6
            self._segments.append((begin_s, part["run_us"] * 1e-6, part["device"], part["segment"], data["model"]))
        _forget(self._segments, ended_s - _HISTORY_S)

    def _take_window(self, heard: Heard) -> None:
        data = heard.data
        self._last_window = data
        self._windows[data["action"]] += 1
        self._energy.append((1e-9 * heard.at_ns, data["energy_mj"], data["action"]))
        _forget(self._energy, 1e-9 * heard.at_ns - _HISTORY_S)

    def snapshot(self) -> dict[str, Any]:
        """Return what there is to show."""
        now_s = time.monotonic()
        return {
            "now_s": now_s,
            "guard": self._told_guard(now_s),
            "daemon": self._status,
            "deadlines": [
                [round(at - now_s, 3), round(min(value, 99.0), 4), mode] for at, value, mode in self._deadlines
            ],
            "energy": [[round(at - now_s, 3), round(value, 3), action] for at, value, action in self._energy],
            "segments": [
                [round(at - now_s, 4), round(run, 5), device, segment, model]
                for at, run, device, segment, model in self._segments
                if at > now_s - _TIMELINE_S - 0.5
            ],
            "exits": dict(sorted(self._exits.items())),
            "requests": dict(self._statuses),
            "windows": dict(self._windows),
            "reasons": dict(self._reasons.most_common(8)),
            "window": self._last_window,
        }

    def _told_guard(self, now_s: float) -> dict[str, Any] | None:
        rules, tick, vehicle = self._rules, self._tick, self._vehicle
        if rules is None or vehicle is None:
            return None
        about = {"pid": rules.pid, "vehicle": vehicle.name, "certificate": rules.certificate, "driven": False}
        if tick is None or now_s - self._heard_s > _FRESH_S:
            return about
        decision = tick.decision
        view = top_view(tick, vehicle)
        seen = tick.observation
        held_s = None
        if decision.hold_until_ns is not None:
            held_s = 1e-9 * decision.hold_until_ns - tick.now_s
        return about | {
            "driven": True,
            "mode": decision.mode,
            "reason": decision.reason,
            "deadline_s": 0.0 if tick.exceeded else min(decision.deadline_s, 99.0),
            "exceeded": tick.exceeded,
            "held_s": held_s,
            "limited_by": decision.limited_by,
            "intervened": decision.intervened,
            "beta_rad": decision.beta_rad,
            "manoeuvre": None if decision.backup_manoeuvre is None else str(decision.backup_manoeuvre),
            "speed_mps": None if seen is None or seen.speed_mps is None else _finite(seen.speed_mps),
            "view": None
            if view is None
            else {
                "pose": [round(view.x_m, 3), round(view.y_m, 3), round(view.heading_rad, 4)],
                "obstacles": [[round(value, 2) for value in disc] for disc in view.obstacles],
                "held": [[round(x, 2), round(y, 2)] for x, y in view.held],
                "certain": view.certain,
                "backup": [[round(x, 2), round(y, 2)] for x, y in view.backup],
            },
        }


def _forget(rows: "deque[Any]", before_s: float) -> None:
    while rows and rows[0][0] < before_s:
        rows.popleft()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
