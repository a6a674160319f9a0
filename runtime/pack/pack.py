"""Make a model package of an ONNX model: cut it, check the parts against the whole, fit exits, write it.

Everything is built beside the place where the package shall lie; whatever fails leaves nothing there.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devices.package import Package
from devices.tensor import Array
from runtime.pack.cut import Card, CutModel, ExitPlaces, Where, cut_model
from runtime.pack.exits.fit import fit_exits, write_exits
from runtime.pack.exits.pooling import batch_sizes, is_poolable
from runtime.pack.exits.settings import ExitSettings, FittedExits


@dataclass(frozen=True, slots=True)
class Packed:
    """What packing made.

    Args:
        package: The package in its place.
        cut: The model's parts and how well they agree with it.
        exits: The exits fitted and their thresholds; None if none were asked for.
    """

    package: Package
    cut: CutModel
    exits: FittedExits | None


def pack_model(
    path: Path,
    folder: Path,
    card: Card,
    where: Where,
    *,
    given: Mapping[str, Array] | None = None,
    exits: ExitSettings | None = None,
    calibration: Mapping[str, Array] | None = None,
    answer: str | None = None,
) -> Packed:
    """Make a package of a model.

    Args:
        path: The ONNX file.
        folder: Where the package shall lie.
        card: What the package says of itself.
        where: Where to cut; "auto" with exits cuts where they are fitted and nowhere else.
        given: Inputs on which to compare parts and whole, besides random ones.
        exits: The exits to fit; None for none.
        calibration: Unlabelled inputs to fit them with.
        answer: The output that is the answer; None for the first.
    Raises:
        PackError: The model can't be cut there, or the parts don't compute the same.
        PackageError: The file can't be used, or `folder` holds something else.
        InputError: Given or calibration inputs don't fit.
        ExitError: No exit can be fitted there, or not certified with so few inputs.
        ValueError: Exits are asked for without calibration inputs.
    """
    tried = [] if given is None else [given]
    if exits is None:
        cut = cut_model(path, folder, where, card, given=tried, answer=answer)
        return Packed(cut.package, cut, None)
    if calibration is None:
        raise ValueError("exits are fitted with calibration inputs: give some")
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.absolute().parent) as building:
        places = ExitPlaces(exits.count, lambda spec, inputs: is_poolable(spec, exits.grid, batch_sizes(inputs)))
        cut = cut_model(path, Path(building, "cut"), where, card, given=tried, exits=places, answer=answer)
        fitted = fit_exits(cut.package, calibration, exits)
        return Packed(write_exits(folder, cut.package, fitted), cut, fitted)
