"""Give a package exits, or thresholds to the exits it has, from unlabelled calibration inputs.

    package = load_package(folder)                                    # segments, one final exit
    fitted = fit_exits(package, {"image": images}, ExitSettings(count=2, max_disagreement=0.01))
    write_exits(folder, package, fitted)

1. The inputs are split by a seed: one part fits the heads, the other chooses the thresholds.
2. Heads are fitted on pooled features at the cuts and written as ONNX segments.
3. What the exits of the package so made say, one sample a run, about the second part chooses the thresholds.
"""

import tempfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from devices.backend import Backend
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.package import Exit, ExitKind, Package, SegmentSource, write_package
from devices.tensor import Array, TensorSpec
from runtime.pack.exits.answers import AnswerForm, answer_form, check_answer
from runtime.pack.exits.binomial import least_samples
from runtime.pack.exits.choose import Choice, choose
from runtime.pack.exits.collect import ExitTraces, sample_count, trace_cuts, trace_exits
from runtime.pack.exits.errors import CalibrationError, CutError, TooFewSamplesError
from runtime.pack.exits.evidence import Evidence, Floats, Ints
from runtime.pack.exits.export import Window, export_head
from runtime.pack.exits.heads import ClassifierHead, RegressorHead, fit_classifier, fit_regressor
from runtime.pack.exits.record import inputs_sha256
from runtime.pack.exits.scores import Score, check_score, confidence
from runtime.pack.exits.seams import Cut, choose_cuts
from runtime.pack.exits.settings import FOLDS, ExitSettings, FittedExits
from runtime.pack.exits.split import folds, split
from runtime.pack.exits.summary import summarise
from runtime.pack.exits.work import close_idle_heads, walk_costs

_LEAST_FIT = 4 * FOLDS


@dataclass(frozen=True)
class _FittedHead:
    """One head: its place and names, what it computes, and what it says out of fold, (G, n) scores and (n,) differs."""

    exit_id: str
    cut: Cut
    answer: TensorSpec
    head: ClassifierHead | RegressorHead
    scores: Floats
    differs: Array

    def source(self, form: AnswerForm, settings: ExitSettings, window: Window | None) -> SegmentSource:
        model = export_head(
            self.exit_id,
            self.head,
            self.cut,
            self.answer,
            f"{self.exit_id}_confidence",
            form,
            grid=settings.grid,
            score=settings.score,
            temperature=settings.temperature,
            window=window,
        )
        return SegmentSource(self.exit_id, model)

    def exit(self, form: AnswerForm, threshold: float) -> Exit:
        names = (self.exit_id, self.exit_id, self.answer.name, f"{self.exit_id}_confidence")
        return Exit(*names, kind=form.kind, threshold=threshold)


def fit_exits(
    package: Package,
    inputs: Mapping[str, Array],
    settings: ExitSettings | None = None,
    *,
    fitting: Mapping[str, Array] | None = None,
    groups: Sequence[Hashable] | None = None,
    backend: Backend | None = None,
) -> FittedExits:
    """Return heads at cuts of the package, with thresholds that keep the bound.

    Args:
        package: Segments and one exit, the final answer. The exits are fitted between its segments.
        inputs: Unlabelled calibration inputs by name, each of shape (n, ...): the package's inputs with n in place of
            the batch size.
        settings: What is asked.
        fitting: Inputs that fit the heads; all of `inputs` then choose thresholds. None: a share of `inputs` fits.
        groups: A label a sample of `inputs`; those of one label (near-duplicates, one drive) stay on one side.
        backend: Device that runs the segments; None: onnxruntime on the CPU, one thread.
    Raises:
        TooFewSamplesError: Fewer samples are left to choose thresholds with than the bound needs.
        CalibrationError: No exit can be certified, or there are too few samples to fit heads.
        CutError: There is no place for the exits, or the package has exits already.
        AnswerError: The final answer can't be distilled or compared.
        InputError: The inputs don't fit the package.
        ValueError: Groups or score don't fit.
    """
    settings, backend = settings or ExitSettings(), backend or OnnxRuntimeBackend()
    if len(package.exits) != 1:
        raise CutError(
            f"package {package.name!r} has exits {[e.id for e in package.exits]}: fit_exits needs only a final one; "
            "calibrate_exits chooses thresholds for exits that are there"
        )
    check_answer(package)
    source = inputs if fitting is None else fitting
    fit_rows, choosing = _rows(package, inputs, fitting, settings, groups)
    cuts = choose_cuts(package, settings.count, settings.at, settings.grid)
    final = package.exits[0]
    traces = trace_cuts(package, backend, source, fit_rows, cuts, settings.grid)
    form = answer_form(package.tensors[final.answer], final.kind, settings.kind, settings.tolerance, traces.final)
    if form.kind is ExitKind.CLASSIFICATION:
        check_score(settings.score, form.classes, settings.temperature)
    labels = None if groups is None or fitting is not None else [groups[row] for row in fit_rows]
    parts = folds(len(fit_rows), FOLDS, settings.seed, labels)
    names = _names(package, len(cuts))
    heads = [
        _fit_head(name, cut, features, traces.final, package.tensors[final.answer], form, parts, settings)
        for name, cut, features in zip(names, cuts, traces.features, strict=True)
    ]
    last = replace(final, kind=form.kind)
    sources = [SegmentSource(s.id, package.model(s.id), s.macs) for s in package.segments]
    drafts = [head.source(form, settings, None) for head in heads]
    with tempfile.TemporaryDirectory(prefix="headway-exits-") as scratch:
        exits = [*(head.exit(form, 0.0) for head in heads), last]
        draft = _write(Path(scratch) / "draft", package, [*sources, *drafts], exits, {})
        said = trace_exits(draft, backend, inputs, choosing)
        costs = walk_costs(draft, range(len(heads)))
        evidence = _evidence(said, form, settings.score, costs)
        design = Evidence(
            np.concatenate([head.scores for head in heads]),
            evidence.gates,
            np.stack([head.differs for head in heads]),
            costs,
        )
        choice = choose(design, evidence, settings)
        choice = close_idle_heads(choice, evidence, draft)
        kept = choice.open_exits
        costs = walk_costs(draft, kept)
    final_heads = [_finish(heads[index], index, form, choice, settings) for index in kept]
    return summarise(
        [*sources, *(source for source, _ in final_heads)],
        [*(taken for _, taken in final_heads), last],
        [(name, tuple(spec.name for spec in cut)) for name, cut in zip(names, cuts, strict=True)],
        evidence,
        choice,
        costs / costs[-1],
        settings,
        {
            "score": str(settings.score) if form.kind is ExitKind.CLASSIFICATION else "error-head",
            "temperature": settings.temperature,
            "grid": settings.grid,
            "fit_samples": len(fit_rows),
            "seed": settings.seed,
            "kind": str(form.kind),
            **({"tolerance": list(form.tolerance)} if form.tolerance else {}),
            "inputs_sha256": inputs_sha256(inputs),
            **({} if fitting is None else {"fitting_sha256": inputs_sha256(fitting)}),
        },
    )


def calibrate_exits(
    package: Package,
    inputs: Mapping[str, Array],
    settings: ExitSettings | None = None,
    *,
    groups: Sequence[Hashable] | None = None,
    backend: Backend | None = None,
) -> FittedExits:
    """Return new thresholds for the exits a package has; one that can't be opened gets an infinite threshold.

    `settings.fit_share` of the inputs shape the path of thresholds, the rest certifies; count, at, score, temperature,
    grid and strengths have no meaning here.

    Args:
        package: With two exits or more.
        inputs, settings, groups, backend: As for `fit_exits`.
    Raises:
        TooFewSamplesError, CalibrationError, CutError, AnswerError, InputError, ValueError: As `fit_exits`.
    """
    settings, backend = settings or ExitSettings(), backend or OnnxRuntimeBackend()
    if len(package.exits) < 2:
        raise CutError(f"package {package.name!r} has no exit but the final one: fit_exits fits some")
    shaping, choosing = _split(sample_count(package, inputs), settings, groups)
    shaped = trace_exits(package, backend, inputs, shaping)
    final = package.exits[-1]
    form = answer_form(package.tensors[final.answer], final.kind, settings.kind, settings.tolerance, shaped.final)
    costs = walk_costs(package, range(len(package.exits) - 1))
    evidence = _evidence(trace_exits(package, backend, inputs, choosing), form, None, costs)
    choice = choose(_evidence(shaped, form, None, costs), evidence, settings)
    return summarise(
        [SegmentSource(s.id, package.model(s.id), s.macs) for s in package.segments],
        [
            *(replace(e, threshold=float(t)) for e, t in zip(package.exits[:-1], choice.thresholds, strict=True)),
            final,
        ],
        [(e.id, tuple(spec.name for spec in package.segment(e.segment).inputs)) for e in package.exits[:-1]],
        evidence,
        choice,
        costs / costs[-1],
        settings,
        {
            "score": "own",
            "fit_samples": len(shaping),
            "seed": settings.seed,
            "kind": str(form.kind),
            **({"tolerance": list(form.tolerance)} if form.tolerance else {}),
            "inputs_sha256": inputs_sha256(inputs),
        },
    )


def write_exits(folder: str | Path, package: Package, fitted: FittedExits) -> Package:
    """Write the package with its exits and calibration record, and return it as loaded back.

    Args:
        folder: Where it shall lie; may be the package's own.
        package: What the exits were fitted to; gives name, version, licence and origin.
    Raises:
        PackageError: `folder` holds something else.
    """
    return _write(Path(folder), package, fitted.segments, fitted.exits, fitted.calibration)


def _write(
    folder: Path,
    package: Package,
    segments: Sequence[SegmentSource],
    exits: Sequence[Exit],
    calibration: Mapping[str, object],
) -> Package:
    return write_package(
        folder,
        name=package.name,
        version=package.version,
        segments=segments,
        exits=exits,
        inputs=package.inputs,
        license=package.license,
        origin=package.origin,
        description=package.description,
        answer_names=package.answer_names,
        calibration=calibration,
        card=package.card,
    )


def _rows(
    package: Package,
    inputs: Mapping[str, Array],
    fitting: Mapping[str, Array] | None,
    settings: ExitSettings,
    groups: Sequence[Hashable] | None,
) -> tuple[Ints, Ints]:
    """Return which rows fit, of `fitting` or else of `inputs`, and which rows of `inputs` choose."""
    samples = sample_count(package, inputs)
    if fitting is None:
        return _split(samples, settings, groups)
    first, second = np.arange(sample_count(package, fitting)), np.arange(samples)
    _check_counts(first, second, settings)
    return first, second


def _split(samples: int, settings: ExitSettings, groups: Sequence[Hashable] | None) -> tuple[Ints, Ints]:
    first, second = split(samples, settings.fit_share, settings.seed, groups)
    _check_counts(first, second, settings)
    return first, second


def _check_counts(first: Ints, second: Ints, settings: ExitSettings) -> None:
    if settings.budget is None:
        needed = least_samples(settings.max_disagreement, settings.delta)
        if len(second) < needed:
            raise TooFewSamplesError(len(second), needed, settings.max_disagreement, settings.delta)
    if min(len(first), len(second)) < _LEAST_FIT:
        raise CalibrationError(
            f"{len(first)} calibration samples fit and {len(second)} choose: each part needs at least {_LEAST_FIT}"
        )


def _names(package: Package, count: int) -> list[str]:
    """Return exit ids that clash with no segment, exit or tensor of the package."""
    taken = {s.id for s in package.segments} | {e.id for e in package.exits} | set(package.tensors)
    stem = "exit"
    while any(name == stem or name.startswith(f"{stem}{k}") for name in taken for k in range(1, count + 1)):
        stem += "_"
    return [f"{stem}{k}" for k in range(1, count + 1)]


def _fit_head(
    exit_id: str,
    cut: Cut,
    features: Floats,
    final: Array,
    spec: TensorSpec,
    form: AnswerForm,
    parts: Ints,
    settings: ExitSettings,
) -> _FittedHead:
    answer = TensorSpec(f"{exit_id}_answer", spec.dtype, (cut[0].shape[0], form.columns))
    if form.kind is ExitKind.CLASSIFICATION:
        head, logits = fit_classifier(features, form.targets(final), parts, settings.strengths)
        sure = confidence(settings.score, logits, settings.temperature)
        differs = logits.argmax(axis=1) != form.decisions(final)
        return _FittedHead(exit_id, cut, answer, head, _gates(sure, settings.score), differs)
    tolerance = np.array(form.tolerance)
    regressor, values, sure = fit_regressor(features, final.astype(np.float64), tolerance, parts, settings.strengths)
    return _FittedHead(exit_id, cut, answer, regressor, sure[None, :], form.differs(values, final))


def _gates(sure: Floats, score: Score | None) -> Floats:
    """Return an exit's gate scores: a window has a low and a high side."""
    return np.stack([-sure, sure]) if score is Score.WINDOW else sure[None, :]


def _evidence(said: ExitTraces, form: AnswerForm, score: Score | None, costs: Floats) -> Evidence:
    if form.kind is ExitKind.REGRESSION:
        score = None
    scores = [_gates(sure, score) for sure in said.confidences]
    gates = tuple(index for index, rows in enumerate(scores) for _ in rows)
    differs = np.stack([form.differs(answers, said.final) for answers in said.answers])
    return Evidence(np.concatenate(scores), gates, differs, costs)


def _finish(
    head: _FittedHead, index: int, form: AnswerForm, choice: Choice, settings: ExitSettings
) -> tuple[SegmentSource, Exit]:
    if form.kind is ExitKind.CLASSIFICATION and settings.score is Score.WINDOW:
        low, high = choice.thresholds[2 * index : 2 * index + 2]
        return head.source(form, settings, (-float(low), float(high))), head.exit(form, 0.0)
    return head.source(form, settings, None), head.exit(form, float(choice.thresholds[index]))
