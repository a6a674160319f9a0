"""What `headway plan --chiplets` says: every package's figures, and where each model's layers run."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from devices.chiplet.package import Package
from runtime.plan.chiplet.file import Request
from runtime.plan.chiplet.mix import Mix, Schedule
from runtime.plan.chiplet.picture import draw_schedule
from runtime.plan.chiplet.pipeline import Pipeline, pipeline_mix
from runtime.plan.chiplet.search import schedule_alone, schedule_mix
from runtime.plan.errors import PlanError

MODEL = "an analytic model, not hardware: weight stationary checked against MAESTRO's results, output stationary not"


@dataclass(frozen=True, slots=True)
class Planned:
    """One package's plan: a schedule of one run, or a pipeline."""

    package: Package
    plan: Schedule | Pipeline


def plan_request(request: Request) -> list[Planned]:
    """Return a plan for every package of a request; each has passed its independent check.

    Raises:
        PlanError: The models don't fit on a package.
    """
    plans: list[Planned] = []
    for package in request.packages:
        if request.from_memory is not None:
            plans.append(Planned(package, pipeline_mix(package, request.mix, request.from_memory)))
        elif len(package.chiplets) == 1:
            plans.append(Planned(package, schedule_alone(package, request.mix)))
        else:
            plans.append(Planned(package, schedule_mix(package, request.mix, request.effort)))
    return plans


def tables(mix: Mix, plans: list[Planned]) -> list[dict[str, Any]]:
    """Return the plans as JSON values."""
    rows = []
    for item in plans:
        row: dict[str, Any] = {"package": item.package.name, "chiplets": [c.dataflow for c in item.package.chiplets]}
        if isinstance(item.plan, Pipeline):
            row |= {"period_ms": 1e3 * item.plan.period_s, "frames_per_s": item.plan.throughput_hz}
            row |= {"utilisation": item.plan.utilisation, "shares": [asdict(share) for share in item.plan.shares]}
        else:
            row |= {"latency_ms": 1e3 * item.plan.latency_s, "energy_mj": 1e3 * item.plan.energy_j}
            row |= {"edp_ujs": 1e6 * item.plan.edp_js, "models": [work.name for work in mix.works]}
            row["windows"] = [asdict(window) for window in item.plan.windows]
        rows.append(row)
    return rows


def write_plans(mix: Mix, plans: list[Planned], folder: Path, pictures: bool) -> list[Path]:
    """Write each plan as a JSON file, and a picture of each schedule; a pipeline has none. Returns the files.

    Raises:
        PlanError: A file can't be written, or matplotlib is missing.
    """
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for item, row in zip(plans, tables(mix, plans), strict=True):
            files.append(folder / f"{item.package.name}.json")
            files[-1].write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise PlanError(f"the plans can't be written to {folder}: {error.strerror}") from error
    for item in plans if pictures else ():
        if isinstance(item.plan, Schedule):
            files.append(folder / f"{item.package.name}.png")
            draw_schedule(item.package, mix, item.plan, files[-1])
    return files


def lines(mix: Mix, plans: list[Planned]) -> list[str]:
    """Return what is printed."""
    count = sum(len(work.layers) for work in mix.works)
    text = [f"{mix.name}: {len(mix.works)} models, {count} layers ({MODEL})"]
    if isinstance(plans[0].plan, Pipeline):
        text.append(f"{'':14} {'frames/s':>10} {'ms a frame':>11} {'use':>7}  chiplets")
    else:
        text.append(f"{'':14} {'ms':>10} {'mJ':>10} {'EDP uJs':>10}  windows: chiplets of each model")
    for item in plans:
        plan = item.plan
        if isinstance(plan, Pipeline):
            used = sum(len(share.chiplets) for share in plan.shares)
            figures = f"{plan.throughput_hz:10.4g} {1e3 * plan.period_s:11.4g} {plan.utilisation:7.1%}"
            text.append(f"{item.package.name:14} {figures}  {used} of {len(item.package.chiplets)}")
        else:
            figures = f"{1e3 * plan.latency_s:10.4g} {1e3 * plan.energy_j:10.4g} {1e6 * plan.edp_js:10.4g}"
            text.append(f"{item.package.name:14} {figures}  {_where(mix, plan)}")
    return text


def _where(mix: Mix, plan: Schedule) -> str:
    windows = []
    for window in plan.windows:
        parts = (f"{mix.works[part.work].name} {len(part.segments)}" for part in window.parts)
        windows.append(", ".join(parts))
    return " | ".join(windows)
