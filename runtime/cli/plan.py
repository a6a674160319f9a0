"""`headway plan`: place models on devices."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from runtime.plan.instance import Quantile
    from runtime.plan.plan import Plan
    from runtime.plan.planner import Method, Report
    from runtime.plan.problem import Problem


def plan(
    packages: Annotated[list[Path] | None, typer.Argument(help="Model packages, folders or ONNX files")] = None,
    problem: Annotated[Path | None, typer.Option(help="A problem file, JSON, instead of packages")] = None,
    chiplets: Annotated[
        Path | None,
        typer.Option(help="A file of models and packages of chiplets to compare, TOML, instead of packages"),
    ] = None,
    profiles: Annotated[
        str | None, typer.Option(help="Measured profiles: names or TOML files, ',' between them")
    ] = None,
    link: Annotated[Path | None, typer.Option(help="What lies between the devices, TOML")] = None,
    devices: Annotated[str | None, typer.Option(help="Use these devices alone, ',' between them")] = None,
    batch: Annotated[int, typer.Option(help="Batch at which the profiles' figures are taken")] = 1,
    deadline_ms: Annotated[float | None, typer.Option(help="p99 latency that every plan must keep")] = None,
    accuracy_floor: Annotated[float | None, typer.Option(help="Accuracy that every plan must keep, 0 to 1")] = None,
    rates_hz: Annotated[
        str | None, typer.Option(help="How often each model runs in a second, ',' between them; one number: all")
    ] = None,
    quantile: Annotated[str, typer.Option(help="Times to plan with: p99 or p50")] = "p99",
    exact: Annotated[bool, typer.Option("--exact", help="Prove the plans, or say how far they may be off")] = False,
    search: Annotated[bool, typer.Option("--search", help="Search alone, without proofs")] = False,
    time_limit_s: Annotated[float, typer.Option(help="For the exact solver altogether")] = 60.0,
    points: Annotated[int, typer.Option(help="Plans to prove along the energy")] = 5,
    steps: Annotated[int, typer.Option(help="Placements that the heuristic tries for each of them")] = 6000,
    most: Annotated[int, typer.Option(help="Plans to hand out")] = 16,
    out: Annotated[Path | None, typer.Option(help="Folder for the problem and the plans, a file each")] = None,
    gantt: Annotated[bool, typer.Option("--gantt", help="With --out: draw each plan")] = False,
    keep_problem: Annotated[Path | None, typer.Option(help="Also write the problem as a JSON file")] = None,
    splits: Annotated[
        str | None, typer.Option(help="Instead of plans: every split of one model between two devices, HERE,THERE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Place models on devices: the Pareto set of plans over latency, energy and accuracy.

    Each plan says whether it is proven best, and its gap to a latency that no plan of its energy can be under.
    """
    for flag, value, least in (
        ("--batch", batch, 1),
        ("--points", points, 1),
        ("--most", most, 1),
        ("--steps", steps, 1),
    ):
        if value < least:
            raise typer.BadParameter(f"{value}: must be at least {least}", param_hint=flag)
    for flag, number in (("--deadline-ms", deadline_ms), ("--time-limit-s", time_limit_s)):
        if number is not None and not 0.0 < number < float("inf"):
            raise typer.BadParameter(f"{number}: must be above 0", param_hint=flag)
    if quantile not in ("p50", "p99"):
        raise typer.BadParameter(f"{quantile!r}: must be p50 or p99", param_hint="--quantile")
    if accuracy_floor is not None and not 0.0 <= accuracy_floor <= 1.0:
        raise typer.BadParameter(f"{accuracy_floor}: must be 0 to 1", param_hint="--accuracy-floor")
    if exact and search:
        raise typer.BadParameter("say --exact or --search, not both", param_hint="--exact")
    if gantt and out is None:
        raise typer.BadParameter("draws into the folder of --out: say which", param_hint="--gantt")
    if chiplets is not None:
        others = {"PACKAGES": packages, "--problem": problem, "--profiles": profiles, "--link": link}
        for name, other in others.items():
            if other:
                raise typer.BadParameter("has no place beside --chiplets", param_hint=name)
        _chiplets(chiplets, out, gantt, as_json)
        return
    from runtime.plan.file import write_problem
    from runtime.plan.planner import Options, plan_problem

    given = _problem(packages or [], problem, profiles, link, devices, batch)
    if deadline_ms is not None:
        given = given.with_deadline(deadline_ms / 1e3)
    if accuracy_floor is not None:
        given = given.with_accuracy_floor(accuracy_floor)
    if rates_hz is not None:
        given = given.with_rates(_rates(rates_hz, len(given.models)))
    if keep_problem is not None:
        write_problem(given, keep_problem)
    times: Quantile = "p50" if quantile == "p50" else "p99"
    if splits is not None:
        _splits(given, _names(splits, "--splits"), times, as_json)
        return
    method: Method = "exact" if exact else "search" if search else "auto"
    options = Options(method, time_limit_s, points, most, steps, generations=max(1, steps // 200), quantile=times)
    report = plan_problem(given, options)
    files = [] if out is None else _write(report, out, gantt)
    if as_json:
        typer.echo(json.dumps({**report.table(), "files": [str(path) for path in files]}))
        return
    _print(report, files)


def _chiplets(path: Path, out: Path | None, gantt: bool, as_json: bool) -> None:
    from runtime.plan.chiplet.file import read_request
    from runtime.plan.chiplet.report import lines, plan_request, tables, write_plans

    request = read_request(path)
    plans = plan_request(request)
    files = [] if out is None else write_plans(request.mix, plans, out, gantt)
    if as_json:
        typer.echo(json.dumps({"plans": tables(request.mix, plans), "files": [str(file) for file in files]}))
        return
    for text in (*lines(request.mix, plans), *map(str, files)):
        typer.echo(text)


def _problem(
    packages: list[Path], problem: Path | None, profiles: str | None, link: Path | None, devices: str | None, batch: int
) -> "Problem":
    from runtime.plan.file import read_problem

    if (problem is None) == (not packages):
        raise typer.BadParameter("say which packages to place, or --problem FILE", param_hint="PACKAGES")
    if problem is not None:
        for flag, value in (("--profiles", profiles), ("--link", link), ("--devices", devices)):
            if value is not None:
                raise typer.BadParameter("stands in the problem file already", param_hint=flag)
        return read_problem(problem)
    if profiles is None:
        raise typer.BadParameter("say what the segments cost: measure with headway profile", param_hint="--profiles")
    from devices.package import load_package
    from devices.profile import load_profile
    from runtime.plan.graphs import package_graph
    from runtime.plan.profiles import problem_of, read_surroundings, unmeasured

    graphs = [package_graph(load_package(path), batch) for path in packages]
    loaded = [load_profile(name) for name in _names(profiles, "--profiles")]
    given = problem_of(
        graphs,
        loaded,
        None if link is None else read_surroundings(link),
        batch=batch,
        units=None if devices is None else _names(devices, "--devices"),
    )
    for note in unmeasured(graphs, loaded):
        typer.echo(f"note: {note}", err=True)
    return given


def _rates(text: str, models: int) -> list[float]:
    rates = []
    for word in _names(text, "--rates-hz"):
        try:
            rate = float(word)
        except ValueError:
            rate = 0.0
        if not 0.0 < rate < float("inf"):
            raise typer.BadParameter(f"{word!r}: must be a number above 0", param_hint="--rates-hz")
        rates.append(rate)
    if len(rates) not in (1, models):
        raise typer.BadParameter(f"{len(rates)} rates for {models} models: one for each", param_hint="--rates-hz")
    return rates * models if len(rates) == 1 else rates


def _splits(problem: "Problem", devices: list[str], quantile: "Quantile", as_json: bool) -> None:
    """Print every split of a model between two devices."""
    from runtime.plan.settings.splits import pareto_splits, sweep

    if len(devices) != 2:
        raise typer.BadParameter(f"{len(devices)} devices: must be two, HERE,THERE", param_hint="--splits")
    found = sweep(problem, devices[0], devices[1], quantile)
    kept = pareto_splits(found)
    if as_json:
        rows = [
            {
                "first_there": item.segment or None,
                "latency_ms": 1e3 * item.latency_s,
                "throughput_hz": item.throughput_hz,
                "energy_mj": 1e3 * item.energy_j,
                "pareto": item in kept,
            }
            for item in found
        ]
        typer.echo(json.dumps({"splits": rows}))
        return
    typer.echo(
        f"{problem.name}: {len(found)} splits, * where no other has both less {quantile} latency and a higher rate"
    )
    typer.echo(f"  {'ms':>10} {'a second':>10} {'mJ':>10}  first on {devices[1]}")
    for item in found:
        figures = f"{1e3 * item.latency_s:10.4g} {item.throughput_hz:10.4g} {1e3 * item.energy_j:10.4g}"
        typer.echo(f"{'*' if item in kept else ' '} {figures}  {item.segment or 'none'}")


def _names(text: str, flag: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise typer.BadParameter(f"{text!r} names nothing between its commas", param_hint=flag)
    return names


def _write(report: "Report", out: Path, gantt: bool) -> list[Path]:
    from runtime.plan.errors import PlanError
    from runtime.plan.file import write_problem
    from runtime.plan.gantt import draw_gantt

    files = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for old in (*out.glob("plan[0-9]*.json"), *out.glob("plan[0-9]*.png")):
            old.unlink()  # of another problem: a daemon would read them with these
        write_problem(report.problem, out / "problem.json")
        for number, item in enumerate(report.plans, 1):
            path = out / f"plan{number}.json"
            item.write(path)
            files.append(path)
    except OSError as error:
        raise PlanError(f"the plans can't be written to {out}: {error.strerror}") from error
    for number, item in enumerate(report.plans if gantt else (), 1):
        files.append(out / f"plan{number}.png")
        draw_gantt(item, files[-1])
    return files


def _print(report: "Report", files: list[Path]) -> None:
    problem = report.problem
    segments = sum(len(model.segments) for model in problem.models)
    typer.echo(f"{problem.name}: {segments} segments on {len(problem.devices)} devices")
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    wide = max(8, *map(len, report.baselines))
    heads = f"{'p50 ms':>10} {'p99 ms':>10} {'mJ':>10} {'accuracy':>9} {'of single':>13}"
    typer.echo(f"{'':{wide}} {heads}  {'proof':22} placement")
    for name, item in report.baselines.items():
        if name == "single" and len(report.problem.devices) > 1:
            continue  # one of those above, the one that is 100 % of itself
        typer.echo(f"{name:{wide}} {_figures(report, item)}  {_misses(item):22} {_where(item)}")
    for number, item in enumerate(report.plans, 1):
        proof = "best at its energy" if item.optimal else f"within {item.gap_pct:.2f} %"
        typer.echo(f"{f'plan {number}':{wide}} {_figures(report, item)}  {proof:22} {_where(item)}")
    typer.echo(f"no plan is under {report.lower_bound_ms:.4g} ms by the costs alone")
    for path in files:
        typer.echo(str(path))


def _figures(report: "Report", item: "Plan") -> str:
    accuracy = "-" if item.accuracy is None else f"{item.accuracy:.4f}"
    of_single = ", ".join(f"{share:.0%}" for share in report.of_single(item).values()) or "-"
    times = f"{item.latency_p50_ms:10.4g} {item.latency_p99_ms:10.4g}"
    return f"{times} {item.energy_mj:10.4g} {accuracy:>9} {of_single:>13}"


def _misses(item: "Plan") -> str:
    return "baseline" if item.misses == 0.0 else "baseline, over a limit"


def _where(item: "Plan") -> str:
    """Return how many segments run on each device, with its level, and the last exits."""
    counts: dict[str, int] = {}
    for placed in item.placement.values():
        for device in placed.values():
            counts[device] = counts.get(device, 0) + 1
    parts = []
    for device, count in sorted(counts.items()):
        level = item.levels.get(device, "fixed")
        parts.append(f"{device} {count}" if level == "fixed" else f"{device} {count} at {level}")
    exits = [f"{model} to {name}" for model, name in item.last_exit.items()]
    return ", ".join(parts + exits)
