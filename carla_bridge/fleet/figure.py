"""The figure of the fleet: what its size does with the admission rule and without; needs the extra `view`."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from carla_bridge.fleet.simulate import FleetRow

_PANELS: tuple[tuple[str, Callable[[FleetRow], float]], ...] = (
    ("answers in time, 1/s", lambda row: row.answers_per_s),
    ("frames without an answer in time, %", lambda row: row.fallbacks_pct),
    ("energy, mJ a window", lambda row: row.energy_mj_per_window),
    ("servers in use, %", lambda row: row.edge_utilisation_pct),
    ("airtime wasted, %", lambda row: row.wasted_airtime_pct),
    ("servers' price by million answers in time", lambda row: row.server_price_per_million_answers or math.inf),
)
_COLOURS = {False: "#D55E00", True: "#0072B2"}


def draw(rows: Sequence[FleetRow], path: Path) -> Path:
    """Draw the figure into `path` and return it."""
    figure = Figure(figsize=(11.0, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, value) in zip(figure.subplots(2, 3).flat, _PANELS, strict=True):
        for admission, label in ((False, "everybody sends"), (True, "the edge admits")):
            own = [row for row in rows if row.admission is admission]
            style = "-o" if admission else "--s"
            axes.plot(
                [row.vehicles for row in own],
                [value(row) for row in own],
                style,
                color=_COLOURS[admission],
                ms=4,
                label=label,
            )
        axes.set_xscale("log")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("vehicles", fontsize=8)
        axes.grid(alpha=0.3)
    figure.axes[5].set_yscale("log")
    for axes in figure.axes[:5]:
        axes.set_ylim(bottom=0.0)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=130)
    return path
