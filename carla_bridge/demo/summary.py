"""One episode in one row: what the demonstration prints and what `--json` gives."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from carla_bridge.loop import Record
from carla_bridge.world import Report


@dataclass(frozen=True, slots=True)
class Row:
    """An episode under one policy; every name carries its unit."""

    windows: int
    local_runs: int
    offloads: int
    fallbacks: int
    exit_shares: dict[str, float]
    energy_mj_per_window: float
    energy_saved_pct: float
    energy_exit_scaled_mj_per_window: float
    deadline_p05_s: float
    deadline_median_s: float
    barrier_deadline_median_s: float | None
    late_controls: int
    tick_lateness_p999_ms: float
    tick_lateness_max_ms: float
    interventions: int
    backup_ticks: int
    held_ticks: int
    guard_reasons: dict[str, int]
    collisions: int
    min_clearance_m: float | None
    center_deviation_m: float
    mean_speed_mps: float
    kerb_hits: int
    off_track: bool
    kills: list[str]

    @property
    def safe(self) -> bool:
        """No collision and no late control."""
        return self.collisions == 0 and self.late_controls == 0

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        return asdict(self)


def summarise(record: Record, report: Report, local_mj: float, exit_ids: Sequence[str], kills: Sequence[str]) -> Row:
    """Return the row of one episode.

    Args:
        record: What the loop kept.
        report: What the world says happened.
        local_mj: Published energy of a full local window [mJ].
        exit_ids: The model's exits, shallow to deep.
        kills: Processes killed during the episode.
    """
    windows = record.windows
    actions = Counter(window.action for window in windows)
    exits = Counter(dict.fromkeys(exit_ids, 0))
    exits.update(window.exit_id for window in windows if window.exit_id is not None)
    energy = _mean([window.energy_mj for window in windows])
    decided = [decision for decision in record.decisions if decision.reason != "start_at_rest"]
    deadlines = [decision.deadline_s for decision in decided]
    barriers = [d.barrier_deadline_s for d in decided if d.barrier_deadline_s is not None]
    lateness_ms = [tick.lateness_s * 1e3 for tick in record.ticks]
    return Row(
        windows=len(windows),
        local_runs=actions["local"],
        offloads=actions["offload"],
        fallbacks=actions["failsafe_local"],
        exit_shares={name: count / max(1, sum(exits.values())) for name, count in exits.items()},
        energy_mj_per_window=energy,
        energy_saved_pct=100.0 * (1.0 - energy / local_mj),
        energy_exit_scaled_mj_per_window=_mean([window.energy_exit_scaled_mj for window in windows]),
        deadline_p05_s=_quantile(deadlines, 0.05),
        deadline_median_s=_quantile(deadlines, 0.5),
        barrier_deadline_median_s=_quantile(barriers, 0.5) if barriers else None,
        late_controls=record.late_controls,
        tick_lateness_p999_ms=_quantile(lateness_ms, 0.999),
        tick_lateness_max_ms=max(lateness_ms, default=math.nan),
        interventions=sum(decision.intervened and decision.mode != "backup" for decision in decided),
        backup_ticks=record.sources["backup"],
        held_ticks=record.sources["held"],
        guard_reasons=dict(Counter(decision.reason for decision in record.decisions).most_common()),
        collisions=report.collisions,
        min_clearance_m=report.min_clearance_m,
        center_deviation_m=report.mean_deviation_m,
        mean_speed_mps=report.mean_speed_mps,
        kerb_hits=report.kerb_hits,
        off_track=report.off_track,
        kills=list(kills),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if values else math.nan
