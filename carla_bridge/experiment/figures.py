"""The figures of the experiments, ours beside the published ones; needs the extra `view` (matplotlib)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from carla_bridge.experiment import published
from carla_bridge.experiment.episode import BINS, Episode, Outcome
from carla_bridge.experiment.rows import Row, base_energy_j, energy_by_distance

Results = Sequence[tuple[Episode, Sequence[Outcome]]]

COLOURS = {
    "local": "#777777",
    "eager": "#E69F00",
    "uniform": "#0072B2",
    "adaptive": "#009E73",
    "seo-offload": "#0072B2",
    "seo-gate": "#D55E00",
}
"""Okabe and Ito's palette, which the common kinds of colour blindness keep apart."""

PUBLISHED = "#000000"


def draw(experiment: str, results: Results, rows: Sequence[Row], path: Path) -> Path:
    """Draw an experiment's figure into `path` and return it."""
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    _DRAW[experiment](figure, results, rows)
    first = rows[0]
    figure.suptitle(f"{first.vehicle}, {first.deadline} deadlines, {first.episodes} episodes each", fontsize=10)
    figure.savefig(path, dpi=140)
    return path


def _table1(figure: Figure, results: Results, rows: Sequence[Row]) -> None:
    energy, deviation = figure.subplots(1, 2)
    shown = [row for row in rows if not row.noise]
    labels = [
        f"{row.policy}\n{'shield' if row.shield else 'no shield'}{_aside(row, rows)}".replace("\n", " ")
        for row in shown
    ]
    places = list(range(len(shown)))
    theirs = {(one.policy, one.shield): one for one in published.table1() if not one.noise}
    columns: tuple[tuple[Axes, str, str], ...] = (
        (energy, "energy_mj_per_window", "energy, mJ a window"),
        (deviation, "center_deviation_m", "deviation from the centre line, m"),
    )
    for axes, name, title in columns:
        axes.barh(places, [getattr(row, name) for row in shown], color=[COLOURS[row.policy] for row in shown])
        marks = [(place, theirs.get((row.policy, row.shield))) for place, row in zip(places, shown, strict=True)]
        known = [(place, getattr(one, name)) for place, one in marks if one is not None]
        axes.plot([value for _, value in known], [place for place, _ in known], "D", color=PUBLISHED, label="published")
        axes.set_yticks(places, labels if axes is energy else [""] * len(labels), fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(title)
        axes.grid(axis="x", alpha=0.3)
    energy.legend(loc="lower right", fontsize=8)


def _wireless(figure: Figure, results: Results, rows: Sequence[Row]) -> None:
    """Draw the median over episodes as a bar with its figure above, and from the least to the most as a line."""
    axes = figure.subplots()
    links = list(dict.fromkeys(row.link for row in rows))
    groups = list(dict.fromkeys((row.policy, row.pass_m) for row in rows))
    width = 0.8 / len(groups)
    for number, (policy, pass_m) in enumerate(groups):
        own = [item for item in results if (item[0].policy, item[0].pass_m) == (policy, pass_m)]
        ratios = [[one.energy_j / one.windows / base_energy_j(policy) for one in outcomes] for _, outcomes in own]
        places = [links.index(kind.link) + (number - 0.5 * (len(groups) - 1)) * width for kind, _ in own]
        middle = [median(values) for values in ratios]
        bars = axes.bar(
            places,
            middle,
            0.9 * width,
            color=COLOURS[policy],
            alpha=0.8 if pass_m == groups[0][1] else 0.4,
            label=f"{policy}, obstacles passed at {pass_m:g} m" if len({pair[1] for pair in groups}) > 1 else policy,
        )
        axes.vlines(places, [min(values) for values in ratios], [max(values) for values in ratios], "#333333", lw=1.2)
        for bar, value, values in zip(bars, middle, ratios, strict=True):
            _write(axes, bar.get_x() + 0.5 * bar.get_width(), max(values), value)
    theirs = {one.link: one.energy_vs_local_median for one in published.wireless()}
    for link in links:
        if link in theirs:
            axes.hlines(theirs[link], links.index(link) - 0.42, links.index(link) + 0.42, PUBLISHED, "--", lw=1.2)
            axes.text(links.index(link) + 0.43, theirs[link], f"{theirs[link]:.2f}", fontsize=7, va="center")
    axes.plot([], [], "--", color=PUBLISHED, label="uniform, published median")
    axes.set_xticks(range(len(links)), [_link_title(link) for link in links], fontsize=8)
    axes.set_ylim(0.0, 1.3)
    axes.set_ylabel("energy over local; median, least and most of the episodes", fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", ncols=2)


def _write(axes: Axes, x: float, y: float, value: float) -> None:
    axes.annotate(
        f"{value:.3f}", (x, y), xytext=(0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=7
    )


def _link_title(link: str) -> str:
    """Return `10mbps+50ms` as a person writes it."""
    rate, _, queue = link.partition("+")
    return rate.replace("mbps", " Mbps") + (f"\n+ {queue.replace('ms', ' ms')} queue" if queue else "")


def _distance(figure: Figure, results: Results, rows: Sequence[Row]) -> None:
    policies = list(dict.fromkeys(row.policy for row in rows))
    panels = figure.subplots(2, len(policies), sharex=True, squeeze=False, height_ratios=(2.0, 1.0))
    for column, policy in enumerate(policies):
        _energy_by_distance(panels[0][column], panels[1][column], policy, results)
    panels[0][0].set_ylabel("energy over local")
    panels[1][0].set_ylabel("windows, %")


def _energy_by_distance(energy: Axes, share: Axes, policy: str, results: Results) -> None:
    places = [index + 0.5 for index in range(BINS)]
    for number, (kind, outcomes) in enumerate(item for item in results if item[0].policy == policy):
        windows, ratios = energy_by_distance(policy, outcomes)
        style = ("-o", "--s")[number % 2]
        energy.plot(places, ratios, style, color=COLOURS[policy], markersize=3, label=f"passed at {kind.pass_m:g} m")
        share.plot(places, [100.0 * count / sum(windows) for count in windows], style, color=COLOURS[policy], ms=3)
    for one in published.distances():
        if (one.policy, one.shield, one.noise) == (policy, True, False):
            known = [index for index in range(BINS) if one.windows[index]]
            energy.plot(
                [places[index] for index in known],
                [one.energy_vs_local[index] for index in known],
                ":D",
                color=PUBLISHED,
                markersize=3,
                label="published",
            )
            total = sum(one.windows)
            share.plot(places, [100.0 * count / total for count in one.windows], ":D", color=PUBLISHED, markersize=3)
    energy.set_title(policy, fontsize=9)
    energy.set_ylim(0.0, 1.1)
    energy.legend(fontsize=8)
    share.set_xlabel("distance to the nearest obstacle, m (last: 20 m and more)")
    for axes in (energy, share):
        axes.grid(alpha=0.3)


def _waiting(figure: Figure, results: Results, rows: Sequence[Row]) -> None:
    panels = figure.subplots(1, 3)
    waits = [row.max_wait_windows for row in rows]
    columns: tuple[tuple[str, Callable[[Row], float]], ...] = (
        ("energy over local", lambda row: row.energy_vs_local),
        ("deviation, m", lambda row: row.center_deviation_m),
        ("episodes without a hit, %", lambda row: row.tcr_pct),
    )
    for axes, (title, value) in zip(panels, columns, strict=True):
        axes.plot(waits, [value(row) for row in rows], "-o", color=COLOURS["uniform"], label="published energy")
        axes.set_xscale("log")
        axes.set_xticks(waits, [str(wait) for wait in waits], fontsize=7)
        axes.minorticks_off()
        axes.set_xlabel("longest wait, windows of 20 ms")
        axes.set_title(title, fontsize=9)
        axes.set_ylim(0.0, 1.15 * max(value(row) for row in rows))
        axes.grid(alpha=0.3)


def _seo(figure: Figure, results: Results, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    places = list(range(len(rows)))
    theirs = {(one.policy, one.shield, one.obstacles): one.gain_pct for one in published.seo_gains()}
    axes.barh(
        places, [100.0 * (1.0 - row.energy_vs_local) for row in rows], color=[COLOURS[row.policy] for row in rows]
    )
    marks = [
        (theirs.get((row.policy, row.shield, row.obstacles)), place) for place, row in zip(places, rows, strict=True)
    ]
    known = [(gain, place) for gain, place in marks if gain is not None]
    axes.plot([gain for gain, _ in known], [place for _, place in known], "D", color=PUBLISHED, label="published")
    labels = [
        f"{row.policy}, {'shield' if row.shield else 'no shield'}, {'obstacles' if row.obstacles else 'empty road'}"
        for row in rows
    ]
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0.0, 100.0)
    axes.set_xlabel("energy saved, % of every model run whenever it is due")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8)


def _aside(row: Row, rows: Sequence[Row]) -> str:
    """Tell the distance of passing where rows differ in it."""
    return f", at {row.pass_m:g} m" if len({one.pass_m for one in rows}) > 1 else ""


_DRAW: dict[str, Callable[[Figure, Results, Sequence[Row]], None]] = {
    "energyshield-table1": _table1,
    "energyshield-wireless": _wireless,
    "energyshield-distance": _distance,
    "energyshield-waiting": _waiting,
    "seo": _seo,
}
