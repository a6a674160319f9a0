"""A plan as a picture: a row a device, a bar a segment, lines for the tensors that cross."""

from pathlib import Path
from typing import Any

from runtime.plan.errors import PlanError
from runtime.plan.plan import Plan

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
LEAST_LABEL = 0.025  # of the picture's width; a narrower bar has no name in it


def draw_gantt(plan: Plan, path: Path, title: str = "") -> None:
    """Write a plan's Gantt picture as PNG, SVG or PDF, as the path ends.

    Raises:
        PlanError: matplotlib is missing, or the file can't be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlanError("the picture needs matplotlib: pip install 'headway[view]'") from error
    tasks = [task for task in plan.tasks if task.end_ms > task.start_ms]
    devices = sorted({task.device for task in tasks})
    models = list(dict.fromkeys(task.model for task in plan.tasks))
    figure = Figure(figsize=(11.0, 1.5 + 0.7 * len(devices)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _bars(axes, plan, devices, models)
    _arrows(axes, plan, devices)
    axes.set_yticks(range(len(devices)), [_row(device, plan) for device in devices])
    axes.invert_yaxis()
    axes.set_xlim(0.0, max((task.end_ms for task in plan.tasks), default=1.0))
    axes.set_xlabel("time [ms]")
    axes.set_title(title or _caption(plan), fontsize=10, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles = [axes.barh([0], [0], color=COLOURS[i % len(COLOURS)], label=name) for i, name in enumerate(models)]
    if len(models) > 1:
        axes.legend(handles=handles, ncols=len(models), loc="upper right", bbox_to_anchor=(1.0, 1.15), frameon=False)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise PlanError(f"the picture {path} can't be written: {error}") from error


def _bars(axes: Any, plan: Plan, devices: list[str], models: list[str]) -> None:
    end_ms = max((task.end_ms for task in plan.tasks), default=1.0)
    for task in plan.tasks:
        width_ms = task.end_ms - task.start_ms
        if width_ms <= 0.0:
            continue
        row, colour = devices.index(task.device), COLOURS[models.index(task.model) % len(COLOURS)]
        axes.barh([row], [width_ms], left=task.start_ms, height=0.62, color=colour, edgecolor="white", linewidth=0.8)
        if width_ms >= LEAST_LABEL * end_ms:
            label = task.segment if task.run == 0 else f"{task.segment} #{task.run + 1}"
            room = int(width_ms / end_ms * 120)
            text = label if len(label) <= room else label[: max(room - 1, 1)] + "…"
            axes.text(task.start_ms + width_ms / 2, row, text, ha="center", va="center", color="white", fontsize=7)


def _arrows(axes: Any, plan: Plan, devices: list[str]) -> None:
    for move in plan.transfers:
        if move.source in devices and move.target in devices:
            rows = devices.index(move.source), devices.index(move.target)
            side = 0.31 if rows[1] > rows[0] else -0.31
            ends = [move.start_ms, move.end_ms], [rows[0] + side, rows[1] - side]
            axes.plot(*ends, color="#444444", linewidth=0.7, marker=".", markersize=2.5, zorder=3)


def _row(device: str, plan: Plan) -> str:
    level = plan.levels.get(device, "fixed")
    return device if level == "fixed" else f"{device}\n{level}"


def _caption(plan: Plan) -> str:
    proof = "best at its energy" if plan.optimal else f"gap at most {plan.gap_pct:.1f} %"
    energy = f", {plan.energy_mj:.4g} mJ" if plan.energy_mj else ""
    accuracy = "" if plan.accuracy is None else f", accuracy {plan.accuracy:.2%}"
    return f"{plan.method}: {plan.latency_ms:.4g} ms at {plan.quantile} ({proof}){energy}{accuracy}"
