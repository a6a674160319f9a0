"""A schedule on chiplets as a picture: a map of the package for every window, and the windows along time.

A chiplet's text says its dataflow, the model, which of the model's segments it holds, and the segment's layers.
"""

from pathlib import Path
from typing import Any

from devices.chiplet.package import Package
from runtime.plan.chiplet.mix import Mix, Schedule
from runtime.plan.errors import PlanError
from runtime.plan.gantt import COLOURS

MOST_WINDOWS = 6


def draw_schedule(package: Package, mix: Mix, schedule: Schedule, path: Path) -> None:
    """Write a schedule's picture as PNG, SVG or PDF, as the path ends; maps of the first six windows.

    Raises:
        PlanError: matplotlib is missing, or the file can't be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlanError("the picture needs matplotlib: pip install 'headway[view]'") from error
    windows = schedule.windows[:MOST_WINDOWS]
    size = (max(7.0, 3.6 * len(windows)), 5.2 + 0.32 * len(mix.works))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, len(windows), height_ratios=(3.4, 0.5 + 0.36 * len(mix.works)))
    for number in range(len(windows)):
        _map(figure.add_subplot(grid[0, number]), package, mix, schedule, number)
    _times(figure.add_subplot(grid[1, :]), mix, schedule)
    figure.suptitle(
        f"{mix.name} on {package.name}: {1e3 * schedule.latency_s:.4g} ms, {1e3 * schedule.energy_j:.4g} mJ",
        fontsize=11,
    )
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise PlanError(f"the picture {path} can't be written: {error}") from error


def _map(axes: Any, package: Package, mix: Mix, schedule: Schedule, number: int) -> None:
    window = schedule.windows[number]
    fills, texts = {}, {}
    for part in window.parts:
        for at, segment in enumerate(part.segments, 1):
            last = segment.end - 1
            what = f"layer {last}" if segment.first == last else f"layers {segment.first} to {last}"
            fills[segment.chiplet] = COLOURS[part.work % len(COLOURS)]
            texts[segment.chiplet] = f"{mix.works[part.work].name}\n{at} of {len(part.segments)}\n{what}"
    for chiplet, made in enumerate(package.chiplets):
        row, column = divmod(chiplet, package.columns)
        fill, ink = fills.get(chiplet, "#eeeeee"), "white" if chiplet in fills else "#444444"
        axes.bar([column], [0.94], bottom=row - 0.47, width=0.94, color=fill, edgecolor="black", linewidth=0.6)
        axes.text(column, row - 0.31, made.dataflow.upper(), ha="center", va="center", fontsize=7, color=ink)
        axes.text(column, row + 0.1, texts.get(chiplet, "idle"), ha="center", va="center", fontsize=6.5, color=ink)
    for edge in (-0.75, package.columns - 0.25):
        axes.plot([edge, edge], [-0.45, package.rows - 0.55], color="#888888", linewidth=5, solid_capstyle="butt")
    axes.set_title(f"window {number + 1}: {1e3 * window.latency_s:.4g} ms", fontsize=9)
    axes.set_xlim(-0.9, package.columns - 0.1)
    axes.set_ylim(package.rows - 0.4, -0.6)
    axes.set_aspect("equal")
    axes.axis("off")


def _times(axes: Any, mix: Mix, schedule: Schedule) -> None:
    began_ms = 0.0
    for window in schedule.windows:
        for part in window.parts:
            width_ms = 1e3 * part.latency_s
            colour = COLOURS[part.work % len(COLOURS)]
            axes.barh([part.work], [width_ms], left=began_ms, height=0.7, color=colour, edgecolor="white")
        began_ms += 1e3 * window.latency_s
        axes.axvline(began_ms, color="#888888", linewidth=0.7)
    names = [work.name if work.batch == 1 else f"{work.name} ×{work.batch}" for work in mix.works]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0.0, 1.001 * began_ms)
    axes.set_xlabel("time [ms]; grey: memory at the sides, ends of windows", fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
