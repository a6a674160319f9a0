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
    ("airtime wasted, %", lambda row: row.wasted_airtime_pct),
    ("vehicle's energy, mJ a window", lambda row: row.energy_mj_per_window),
    ("servers in use, %", lambda row: row.edge_utilisation_pct),
    ("vehicles' intervals that the edge answered, %", lambda row: row.offloaded_pct),
    ("servers' price by vehicle and hour", lambda row: row.server_price_per_vehicle_h),
    ("servers' price by million answers in time", lambda row: row.server_price_per_million_answers or math.nan),
)
_PRICES = 2
_COLOURS = {False: "#D55E00", True: "#0072B2"}


def draw(rows: Sequence[FleetRow], path: Path) -> Path:
    """Draw the figure into `path` and return it."""
    figure = Figure(figsize=(14.0, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, value) in zip(figure.subplots(2, 4).flat, _PANELS, strict=True):
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
        axes.xaxis.set_major_formatter(lambda vehicles, _: f"{vehicles:,.0f}".replace(",", " "))
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("vehicles", fontsize=8)
        axes.grid(alpha=0.3)
    for axes in figure.axes[-_PRICES:]:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda price, _: f"{price:g}")
    for axes in figure.axes[:-_PRICES]:
        axes.set_ylim(bottom=0.0)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=130)
    return path
