"""The pictures of docs/safety.md, drawn from the code as it is.

    deadline_map_<vehicle>.png   the three deadlines over (r, xi), one static disc, two held slip angles
    held_arc.png                 a held arc among three discs, its certificate, and a backup manoeuvre at several places

Needs the extra `view` (matplotlib); drawn again with

    python docs/figures/make_figures.py [--out FOLDER]
"""

import argparse
import math
import sys
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shield.arc import advance
from shield.backup.batch import backup_deadlines
from shield.barrier import least_distance
from shield.deadline import Deadline, Method, tolerable_deadline
from shield.manoeuvre import Manoeuvre, backup_slip_rad
from shield.state import Disc, State
from shield.vehicle import Vehicle, load_vehicle

Array = NDArray[np.float64]

CAP_S = 2.0
LABEL = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "#cccccc", "alpha": 0.9}
LEAST_MS = 1.0
"""Deadlines of a map are drawn between this and the cap; below it counts as none."""

COLOURS = {
    Manoeuvre.LEFT: "#0072B2",
    Manoeuvre.RIGHT: "#D55E00",
    Manoeuvre.STRAIGHT: "#009E73",
    Manoeuvre.LEFT_THEN_STRAIGHT: "#56B4E9",
    Manoeuvre.RIGHT_THEN_STRAIGHT: "#E69F00",
    Manoeuvre.BRAKE: "#000000",
    Manoeuvre.BRAKE_LEFT: "#CC79A7",
    Manoeuvre.BRAKE_RIGHT: "#F0E442",
    Manoeuvre.BRAKE_STRAIGHT: "#777777",
}
"""Okabe and Ito's palette, which the common kinds of colour blindness keep apart."""


def draw_map(vehicle: Vehicle, out: Path) -> Path:
    """Draw published, barrier and backup deadlines over (r, xi) side by side, at two held slip angles."""
    barrier = vehicle.barrier
    assert barrier is not None
    xi = np.radians(np.linspace(-180.0, 180.0, 181))
    r = np.linspace(barrier.r_bar_m, 40.0, 145)
    slips = (0.0, 0.5 * vehicle.beta_max_rad)
    figure, table = plt.subplots(
        len(slips), 3, figsize=(11.0, 6.4), sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    colours = plt.get_cmap("viridis").copy()
    colours.set_under("#d9d9d9")
    norm = LogNorm(LEAST_MS, 1e3 * CAP_S)
    mesh = None
    for beta, axes in zip(slips, table, strict=True):
        for method, ax in zip(Method, axes, strict=True):
            values = 1e3 * map_values(vehicle, method, r, xi, beta)
            # A masked cell would be white; one below the least deadline drawn is "none".
            mesh = ax.pcolormesh(np.degrees(xi), r, np.maximum(values, 1e-3), norm=norm, cmap=colours, rasterized=True)
            ax.plot(np.degrees(xi), least_distance(barrier, xi), color="white", linewidth=2.6)
            ax.plot(np.degrees(xi), least_distance(barrier, xi), color="black", linewidth=1.2, label="h = 0")
            mean = values[r[:, None] >= least_distance(barrier, xi)].mean()
            ax.text(0.0, 37.5, f"mean {mean:.0f} ms", ha="center", va="center", fontsize=9, bbox=LABEL)
            ax.set_xticks(range(-180, 181, 90))
        axes[0].set_ylabel(f"{held(beta)}\nr [m]")
    for method, ax in zip(Method, table[0], strict=True):
        ax.set_title(method)
    for ax in table[-1]:
        ax.set_xlabel("xi [°]")
    table[0][0].legend(loc="upper left", bbox_to_anchor=(0.0, 0.88), fontsize=9, framealpha=0.9)
    assert mesh is not None
    bar = figure.colorbar(mesh, ax=table, extend="min", shrink=0.9, ticks=[1, 10, 100, 1000, 2000])
    bar.ax.set_yticklabels(["1", "10", "100", "1000", "2000 (cap)"])
    bar.ax.minorticks_off()
    bar.set_label("tolerable deadline [ms]; grey: below 1 ms")
    figure.suptitle(
        f"{vehicle.name}: one static disc of {barrier.r_bar_m:g} m, speed anywhere in [0, {vehicle.v_max_mps:g} m/s].\n"
        "xi = 0: driving straight away from it, ±180°: straight at it. Means are over h ≥ 0.",
        fontsize=10.5,
    )
    return save(figure, out / f"deadline_map_{vehicle.name}.png")


def held(beta: float) -> str:
    """Return a slip angle in words."""
    return "straight held" if beta == 0.0 else f"{math.degrees(beta):.1f}° left held"


def map_values(vehicle: Vehicle, method: Method, r: Array, xi: Array, beta: float) -> Array:
    """Return the deadline [s] at every (r, xi), rows r."""
    assert vehicle.barrier is not None
    radius = vehicle.barrier.r_bar_m - vehicle.radius_m
    x, y = -r[:, None] * np.cos(xi), -r[:, None] * np.sin(xi)
    if method is Method.BACKUP:
        found = backup_deadlines(vehicle, 0.0, 0.0, 0.0, beta * np.ones(x.size), x.reshape(-1, 1), y.reshape(-1, 1),
                                 np.full((x.size, 1), radius), CAP_S)  # fmt: skip
        return found.deadline_s.reshape(x.shape)
    state = State(0.0, 0.0, 0.0, beta)
    spots = zip(x.ravel().tolist(), y.ravel().tolist(), strict=True)
    flat = [tolerable_deadline(method, vehicle, state, [Disc(*spot, radius)], CAP_S).deadline_s for spot in spots]
    return np.array(flat).reshape(x.shape)


SCENE = (Disc(18.0, 8.2, 2.8), Disc(5.4, 3.1, 1.6), Disc(15.3, -0.3, 3.8))
SCENE_BETA_RAD = 0.05
"""A scene whose certificate needs every manoeuvre of a vehicle without brakes."""


def draw_held_arc(vehicle: Vehicle, out: Path) -> Path:
    """Draw a held arc step by step, with the manoeuvre that its certificate names at each place."""
    state = State(0.0, 0.0, 0.0, SCENE_BETA_RAD)
    found = tolerable_deadline(Method.BACKUP, vehicle, state, SCENE, CAP_S)
    places = places_of(found)
    columns = min(3, len(places))
    rows = math.ceil(len(places) / columns)
    figure = plt.figure(figsize=(11.0, 2.9 * rows + 1.8), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.0] * rows + [0.4])
    for index, (s, manoeuvre) in enumerate(places):
        ax = figure.add_subplot(grid[divmod(index, columns)])
        draw_step(ax, vehicle, state, found, s, manoeuvre)
    draw_certificate(figure.add_subplot(grid[rows, :]), found, [s for s, _ in places])
    figure.get_layout_engine().set(h_pad=0.1)
    figure.suptitle(
        f"{vehicle.name}, slip angle {math.degrees(state.beta_rad):.1f}° held: backup deadline "
        f"{1e3 * found.deadline_s:.0f} ms = {found.distance_m:.2f} m at {vehicle.v_max_mps:g} m/s, "
        f"limited by {found.limited_by}",
        fontsize=11,
    )
    return save(figure, out / "held_arc.png")


def places_of(found: Deadline) -> list[tuple[float, Manoeuvre]]:
    """Return places along the arc [m] with the manoeuvre certified there: starts of intervals, and the very end."""
    intervals = found.certificate.intervals
    return [(item.start_m, item.manoeuvre) for item in intervals] + [(found.distance_m, intervals[-1].manoeuvre)]


def draw_step(ax: Axes, vehicle: Vehicle, state: State, found: Deadline, s: float, manoeuvre: Manoeuvre) -> None:
    for index, disc in enumerate(SCENE):
        ax.add_patch(plt.Circle((disc.x_m, disc.y_m), disc.radius_m, facecolor="#bbbbbb", edgecolor="#555555"))
        ax.text(disc.x_m, disc.y_m, str(index), ha="center", va="center", fontsize=9)
    beyond = path(vehicle, state, state.beta_rad, np.linspace(found.distance_m, found.distance_m + 12.0, 60))
    ax.plot(*beyond, color="#999999", linewidth=1.0, linestyle=":")
    ahead = path(vehicle, state, state.beta_rad, np.linspace(s, found.distance_m, 60))
    ax.plot(*ahead, color="#555555", linewidth=1.2, linestyle="--")
    driven = path(vehicle, state, state.beta_rad, np.linspace(0.0, s, 60))
    ax.plot(*driven, color="black", linewidth=2.2)
    here = State(*(float(value) for value in advance(0.0, 0.0, 0.0, state.beta_rad, vehicle.l_r_m, s)))
    ax.plot(*manoeuvre_path(vehicle, here, manoeuvre), color=COLOURS[manoeuvre], linewidth=2.2)
    ax.plot(here.x_m, here.y_m, marker=(3, 0, math.degrees(here.heading_rad) - 90.0), markersize=9, color="black")
    ax.set_title(f"s = {s:.2f} m: {manoeuvre}", fontsize=9.5)
    ax.set_aspect("equal")
    ax.set_xlim(-7.0, 32.0)
    ax.set_ylim(-11.0, 17.0)
    ax.tick_params(labelsize=8)
    ax.set_xlabel("x [m]", fontsize=8)
    ax.set_ylabel("y [m]", fontsize=8)


def path(vehicle: Vehicle, start: State, beta: float, way: Array) -> tuple[Array, Array]:
    """Return x and y [m] along the arc of a held slip angle."""
    x, y, _ = advance(start.x_m, start.y_m, start.heading_rad, beta, vehicle.l_r_m, way)
    return x, y


def manoeuvre_path(vehicle: Vehicle, start: State, manoeuvre: Manoeuvre, straight_m: float = 60.0) -> tuple[Array, ...]:
    """Return x and y [m] of a manoeuvre that does not brake: a circle, a line, or a turn until ahead is clear."""
    slip = backup_slip_rad(vehicle, manoeuvre, start.beta_rad)
    circle = np.linspace(0.0, 2.0 * math.pi * vehicle.rho_m, 1500)
    if manoeuvre is Manoeuvre.STRAIGHT:
        return path(vehicle, start, 0.0, np.linspace(0.0, straight_m, 2))
    x, y, heading = advance(start.x_m, start.y_m, start.heading_rad, slip, vehicle.l_r_m, circle)
    if manoeuvre.constant:
        return x, y
    clear = np.ones(circle.size, dtype=bool)
    for disc in SCENE:
        dx, dy = disc.x_m - x, disc.y_m - y
        ahead, aside = dx * np.cos(heading) + dy * np.sin(heading), dy * np.cos(heading) - dx * np.sin(heading)
        clear &= np.hypot(np.minimum(ahead, 0.0), aside) >= disc.radius_m + vehicle.radius_m
    turned = int(clear.argmax())
    end = State(float(x[turned]), float(y[turned]), float(heading[turned]))
    out_x, out_y = path(vehicle, end, 0.0, np.linspace(0.0, straight_m, 2))
    return np.append(x[: turned + 1], out_x), np.append(y[: turned + 1], out_y)


def draw_certificate(ax: Axes, found: Deadline, places: list[float]) -> None:
    """Draw the certificate's intervals over s, and the single manoeuvre for when the state is lost."""
    certificate = found.certificate
    named: set[Manoeuvre] = set()
    for item in certificate.intervals:
        label = None if item.manoeuvre in named else str(item.manoeuvre)
        named.add(item.manoeuvre)
        ax.barh(1, item.end_m - item.start_m, left=item.start_m, height=0.6, color=COLOURS[item.manoeuvre],
                edgecolor="white", label=label)  # fmt: skip
    if certificate.single is not None:
        label = None if certificate.single in named else str(certificate.single)
        ax.barh(0, certificate.single_until_m, height=0.6, color=COLOURS[certificate.single], label=label)
    for s in places:
        ax.axvline(s, color="black", linewidth=0.8, linestyle=":")
    ax.set_yticks([0, 1], ["single", "intervals"], fontsize=9)
    ax.set_xlim(0.0, found.distance_m * 1.002)
    ax.set_xlabel("way along the held arc s [m]; dotted: the places drawn above", fontsize=9)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.55), ncols=5, fontsize=9, frameon=False)


def save(figure: plt.Figure, target: Path) -> Path:
    figure.savefig(target, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="folder for the pictures")
    out = parser.parse_args().out
    made = [draw_map(load_vehicle(name), out) for name in ("config1", "config2")]
    made.append(draw_held_arc(load_vehicle("config2"), out))
    for target in made:
        print(f"{target} {target.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
