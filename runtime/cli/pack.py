"""`headway pack`: make a model package of an ONNX file."""

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from runtime.pack.cut import CutModel, Where
    from runtime.pack.cut_points import Cut
    from runtime.pack.exits.settings import ExitSettings, FittedExits

_KINDS = ("classification", "regression", "custom")
_SCORES = ("max-probability", "margin", "entropy", "energy", "window")


def pack(
    model: Annotated[Path, typer.Argument(help="The model, an ONNX file")],
    out: Annotated[Path | None, typer.Option(help="Folder of the package")] = None,
    cuts: Annotated[
        str | None,
        typer.Option(help="How many cuts, 'auto', or tensor names: ',' between cuts, '+' between tensors of one cut"),
    ] = None,
    exits: Annotated[int, typer.Option(help="Early exits to fit")] = 0,
    calibration: Annotated[Path | None, typer.Option(help="Unlabelled inputs to fit exits with, .npz")] = None,
    max_disagreement: Annotated[
        float, typer.Option(help="Bound on inputs that leave early with another answer")
    ] = 0.01,
    delta: Annotated[float, typer.Option(help="Probability that the bound is missed")] = 0.05,
    tolerance: Annotated[
        str | None, typer.Option(help="Regression: deviation that counts as the same answer, one or one a column")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Instead of a bound on disagreement: mean work, a share of the whole model's")
    ] = None,
    score: Annotated[
        str, typer.Option(help=f"Confidence of a classification exit: {', '.join(_SCORES)}")
    ] = "max-probability",
    grid: Annotated[int, typer.Option(help="Cells a side into which heads pool an image; 1: the whole image")] = 1,
    check: Annotated[Path | None, typer.Option(help="Inputs on which to compare parts and whole, .npz")] = None,
    answer: Annotated[str | None, typer.Option(help="The output that is the answer; default the first")] = None,
    kind: Annotated[str, typer.Option(help="What the answer is: classification, regression or custom")] = "custom",
    name: Annotated[str | None, typer.Option(help="The package's name; default the file's")] = None,
    version: Annotated[str, typer.Option(help="The package's version")] = "1",
    license: Annotated[str, typer.Option(help="Licence of the weights")] = "unknown",
    origin: Annotated[str | None, typer.Option(help="Where the weights are from; default the file's name")] = None,
    list_cuts: Annotated[bool, typer.Option("--list", help="Only list the places where the model can be cut")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Cut a model into segments, check that together they compute the same, and write them as a package.

    With --exits, heads are fitted at the cuts and thresholds chosen so that, with probability 1 - delta over the
    calibration inputs, at most the given share of all inputs leaves early with another answer than the whole model's.
    """
    if list_cuts:
        _list(model, as_json)
        return
    if out is None:
        raise typer.BadParameter("say where the package shall lie, or --list", param_hint="--out")
    if score not in _SCORES:
        raise typer.BadParameter(f"{score!r} must be one of {', '.join(_SCORES)}", param_hint="--score")
    settings = _exit_settings(exits, calibration, max_disagreement, delta, tolerance, budget, score, grid)
    where = _where(cuts, exits)
    from devices.package import ExitKind
    from runtime.cli.tensors import read_npz
    from runtime.pack.cut import Card
    from runtime.pack.pack import pack_model

    if kind not in _KINDS:
        raise typer.BadParameter(f"{kind!r} must be one of {', '.join(_KINDS)}", param_hint="--kind")
    card = Card(_name(name, model), version, license, origin or model.name, ExitKind(kind))
    packed = pack_model(
        model,
        out,
        card,
        where,
        given=None if check is None else read_npz(check),
        exits=settings,
        calibration=None if calibration is None else read_npz(calibration),
        answer=answer,
    )
    report = _report(packed.cut, packed.exits, out)
    if as_json:
        typer.echo(json.dumps(report))
        return
    _print(report)


def _where(cuts: str | None, exits: int) -> "Where":
    if cuts is None:
        return "auto" if exits else 0
    if re.fullmatch(r"-?\d+", cuts.strip()):
        if int(cuts) < 0:
            raise typer.BadParameter(f"{cuts}: must be at least 0 cuts", param_hint="--cuts")
        return int(cuts)
    if not cuts.strip(" ,+") or any(not item.strip(" +") for item in cuts.split(",")):
        raise typer.BadParameter(f"{cuts!r} names no tensor between its commas", param_hint="--cuts")
    return cuts.strip()


def _exit_settings(
    exits: int,
    calibration: Path | None,
    max_disagreement: float,
    delta: float,
    tolerance: str | None,
    budget: float | None,
    score: str,
    grid: int,
) -> "ExitSettings | None":
    if exits < 0:
        raise typer.BadParameter(f"{exits}: must be at least 0", param_hint="--exits")
    for flag, share in (("--max-disagreement", max_disagreement), ("--delta", delta)):
        if not 0.0 < share < 1.0:
            raise typer.BadParameter(f"{share}: must lie strictly between 0 and 1", param_hint=flag)
    if budget is not None and not 0.0 < budget <= 1.0:
        raise typer.BadParameter(
            f"{budget}: must lie within 0..1, a share of the whole model's work", param_hint="--budget"
        )
    if grid < 1:
        raise typer.BadParameter(f"{grid}: must be at least 1", param_hint="--grid")
    if budget is not None and score == "window":
        raise typer.BadParameter(
            "a window has no single quantile: choose another score for --budget", param_hint="--score"
        )
    if not exits:
        for flag, value in (("--calibration", calibration), ("--tolerance", tolerance), ("--budget", budget)):
            if value is not None:
                raise typer.BadParameter("is of use with --exits only: say how many", param_hint=flag)
        return None
    if calibration is None:
        raise typer.BadParameter("--exits needs unlabelled inputs to fit them with", param_hint="--calibration")
    from runtime.pack.exits.scores import Score
    from runtime.pack.exits.settings import ExitSettings

    return ExitSettings(
        count=exits,
        max_disagreement=max_disagreement,
        delta=delta,
        tolerance=_tolerance(tolerance),
        budget=budget,
        score=Score(score),
        grid=grid,
    )


def _tolerance(text: str | None) -> float | tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(item) for item in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0.0 < number < math.inf for number in numbers):
        raise typer.BadParameter(f"{text!r}: must be numbers above zero, as 0.1 or 0.1,0.02", param_hint="--tolerance")
    return numbers[0] if len(numbers) == 1 else numbers


def _name(name: str | None, model: Path) -> str:
    return name or re.sub(r"[^A-Za-z0-9._-]", "-", model.stem).lstrip("._-")[:64] or "model"


def _list(model: Path, as_json: bool) -> None:
    from runtime.pack.cut import read_model
    from runtime.pack.cut_choice import price_cuts
    from runtime.pack.cut_points import find_cuts

    data, graph = read_model(model)
    priced = price_cuts(graph, data, find_cuts(graph))
    if as_json:
        points = [{**_cut(choice.cut), "cost": choice.cost} for choice in priced]
        typer.echo(json.dumps({"cut_points": points}))
        return
    typer.echo(f"{'bytes':>10} {'work before':>12} {'cost':>8}  cut")
    for choice in priced:
        cut = choice.cut
        typer.echo(f"{cut.crossing_bytes:10} {cut.work_share:12.1%} {choice.cost:8.2%}  {cut.name}")


def _cut(cut: "Cut") -> dict[str, Any]:
    return {
        "tensors": list(cut.tensors),
        "crossing_bytes": cut.crossing_bytes,
        "work_share": cut.work_share,
    }


def _report(cut: "CutModel", exits: "FittedExits | None", out: Path) -> dict[str, Any]:
    package = cut.package
    return {
        "package": str(out),
        "name": package.name,
        "version": package.version,
        "segments": [segment.id for segment in package.segments],
        "macs": [segment.macs for segment in package.segments],
        "cut_tensors": [list(item.tensors) for item in cut.cuts],
        "crossing_bytes": [item.crossing_bytes for item in cut.cuts],
        "max_abs_error": cut.max_abs_error,
        "exits": [] if exits is None else [_exit(report, exits.samples) for report in exits.reports],
        "calibration_samples": 0 if exits is None else exits.samples,
    }


def _exit(report: Any, samples: int) -> dict[str, Any]:
    return {
        "id": report.id,
        "tensors": list(report.tensors),
        "threshold": report.threshold,
        "share": report.share,
        "disagreement": report.disagreements / samples,
        "mac_share": report.mac_share,
        "reason": report.reason,
    }


def _print(report: dict[str, Any]) -> None:
    typer.echo(f"{report['name']} version {report['version']} in {report['package']}")
    for segment, macs in zip(report["segments"], report["macs"], strict=True):
        typer.echo(f"  segment {segment}: {macs / 1e6:.1f} million multiply-accumulates")
    for tensors, size in zip(report["cut_tensors"], report["crossing_bytes"], strict=True):
        typer.echo(f"  cut at {'+'.join(tensors)}: {size} bytes cross")
    typer.echo(f"  parts and whole differ by at most {report['max_abs_error']:.3g}")
    for item in report["exits"]:
        if item["threshold"] is None:
            typer.echo(f"  exit {item['id']} left out: {item['reason']}")
            continue
        typer.echo(
            f"  exit {item['id']}: {item['share']:.1%} of {report['calibration_samples']} inputs leave here, "
            f"{item['disagreement']:.2%} with another answer, at {item['mac_share']:.0%} of the work"
        )
