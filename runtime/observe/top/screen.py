"""The state of guard and daemon as a terminal shows it."""

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from runtime.observe.top.picture import picture

_BARS = " ▁▂▃▄▅▆▇█"
_LEAST_S = 0.01
_DECADES = 3.0
_WIDE = 30
_TWO_COLUMNS = 84
_HIGH = 16


def screen(state: Mapping[str, Any], width: int) -> RenderableType:
    """Return what to print of a feed's snapshot on a terminal so many characters wide."""
    about = (
        _deadline(state),
        _side_by_side(_counts("exits", state["exits"]), _counts("windows", state["windows"])),
        _devices(state),
        _link(state),
    )
    if width < _TWO_COLUMNS:
        return Group(_head(state), _view(state, width - 4), *about)
    return Group(_head(state), _side_by_side(_view(state, 2 * width // 5 - 5), Group(*about), ratios=(2, 3)))


def _side_by_side(*parts: RenderableType, ratios: tuple[int, ...] = (1, 1)) -> Table:
    grid = Table.grid(expand=True)
    for ratio in ratios:
        grid.add_column(ratio=ratio)
    grid.add_row(*parts)
    return grid


def _view(state: Mapping[str, Any], width: int) -> Panel:
    guard = state["guard"]
    view = None if guard is None or not guard["driven"] else guard["view"]
    if view is None:
        drawn = Text("no vehicle is driven" + "\n" * (_HIGH - 1), style="dim")
    else:
        drawn = picture(view, max(10, width), _HIGH)
    legend = Text("held", style="bold blue").append("  tolerable", style="not bold dim blue")
    legend.append("  backup", style="bold yellow").append("  obstacle", style="not bold dim default")
    return Panel(Group(drawn, legend), title="top view, 50 m ahead", title_align="left")


def _head(state: Mapping[str, Any]) -> Text:
    daemon, guard = state["daemon"], state["guard"]
    line = Text("headway  ", style="bold")
    if daemon is None:
        line.append("no daemon", style="bold red")
    else:
        line.append(
            "ready" if daemon["ready"] else "not ready", style="bold green" if daemon["ready"] else "bold yellow"
        )
        line.append(f"  up {daemon['uptime_s']:.0f} s")
    if guard is None:
        line.append("  no guard", style="bold red")
        return line
    certificate = guard["certificate"]
    line.append(f"  vehicle {guard['vehicle']}  ")
    line.append(f"certificate {certificate[:12]}" if certificate else "no certificate", style="dim")
    return line


def _deadline(state: Mapping[str, Any]) -> Panel:
    guard = state["guard"]
    if guard is None or not guard["driven"]:
        return Panel(Text("no vehicle is driven", style="dim"), title="tolerable deadline", title_align="left")
    deadline_s = guard["deadline_s"]
    style = "red" if deadline_s < 0.04 else "yellow" if deadline_s < 0.12 else "green"
    filled = round(_WIDE * _share(deadline_s))
    bar = Text().append(f"{_duration(deadline_s):>6}  ", style=f"bold {style}")
    bar.append("█" * filled, style=style).append("░" * (_WIDE - filled), style="dim")
    bar.append(f"  limited by {_plain(guard['limited_by'])}")
    mode = Text().append(guard["mode"], style="bold red" if guard["mode"] == "backup" else "bold green")
    mode.append(f": {_plain(guard['reason'])}")
    if guard["speed_mps"] is not None:
        mode.append(f"   {guard['speed_mps']:.1f} m/s")
    if guard["manoeuvre"] is not None:
        mode.append(f"   backup: {_plain(guard['manoeuvre'])}", style="dim")
    if guard["exceeded"]:
        mode.append(f"\nexceeded: {guard['exceeded']}; the vehicle slows down", style="bold red")
    values = [value for _, value, _ in state["deadlines"]]
    title = "tolerable deadline, 10 ms to 10 s"
    return Panel(Group(bar, Text(_spark(values), style="blue"), mode), title=title, title_align="left")


def _counts(title: str, counts: Mapping[str, int]) -> Panel:
    table = Table.grid(padding=(0, 1))
    total = sum(counts.values()) or 1
    for name, count in counts.items():
        share = count / total
        table.add_row(
            _plain(name), Text("█" * round(8 * share), style="blue"), f"{share:.0%}", Text(str(count), style="dim")
        )
    return Panel(table if counts else Text("none yet", style="dim"), title=title, title_align="left")


def _devices(state: Mapping[str, Any]) -> Panel:
    daemon = state["daemon"] or {}
    busy: dict[str, float] = dict.fromkeys(daemon.get("queued", {}), 0.0)
    for at, run, device, _, _ in state["segments"]:
        if at > -1.0:
            busy[device] = busy.get(device, 0.0) + run
    table = Table.grid(padding=(0, 1))
    for device, busy_s in sorted(busy.items()):
        share = min(1.0, busy_s)
        queued = daemon.get("queued", {}).get(device, 0)
        table.add_row(
            device, Text("█" * round(12 * share) or "·", style="cyan"), f"{share:.0%} busy", f"{queued} waiting"
        )
    return Panel(table if busy else Text("none", style="dim"), title="devices, last second", title_align="left")


def _link(state: Mapping[str, Any]) -> Panel:
    daemon = state["daemon"] or {}
    edge = daemon.get("edge")
    text = Text("edge server: ")
    if edge is None:
        text.append("none", style="dim")
    else:
        connected = edge["state"] == "connected"
        text.append(f"{edge['state']}", style="green" if connected else "red")
        text.append(f" {edge['endpoint']}, round trip {edge['rtt_ms']:.2f} ms")
    energies = [value for _, value, _ in state["energy"]]
    if energies:
        text.append(f"\nenergy: {sum(energies) / len(energies):.1f} mJ a window, mean of 10 s")
    return Panel(text, title="link and energy", title_align="left")


def _spark(values: list[float]) -> str:
    """Return the last values as a line of bars, each the least of its stretch: what is short is what counts."""
    width = 45
    if not values:
        return ""
    size = max(1, -(-len(values) // width))
    stretches = [min(values[start : start + size]) for start in range(0, len(values), size)]
    return "".join(_BARS[round((len(_BARS) - 1) * _share(value))] for value in stretches)


def _share(deadline_s: float) -> float:
    """Return where a deadline stands between 10 ms and 10 s, by its logarithm."""
    return min(1.0, max(0.0, math.log10(max(deadline_s, _LEAST_S) / _LEAST_S) / _DECADES))


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1.0 else f"{1e3 * seconds:.0f} ms"


def _plain(word: str) -> str:
    return str(word).replace("_", " ").replace(":", " ")
