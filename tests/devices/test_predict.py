"""Predicted latency: what a model computes is counted right, laws are found again, and nonsense is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from devices.errors import BackendError, ProfileError
from devices.package import load_package
from devices.predict import (
    Adapted,
    Boosted,
    FlopsOnly,
    LogLinear,
    Operator,
    SegmentPredictor,
    TimedOperator,
    operators_of,
    relative_errors,
    time_operators,
)
from devices.predict.timing import TimedModel
from devices.samples import open_batch, sample_inputs
from devices.tensor import TensorSpec
from tests.devices.driving import DRIVING
from tests.models import CHANNELS, conv_nodes, model


def conv_model() -> Any:
    nodes, weights = conv_nodes("x", "f", 3, seed=1)
    nodes.append(helper.make_node("Add", ["f", "f0"], ["g"]))
    nodes.insert(0, helper.make_node("Conv", ["x", "f0_w"], ["f0"], kernel_shape=[1, 1]))
    weights["f0_w"] = np.ones((CHANNELS, 3, 1, 1), np.float32)
    nodes.append(helper.make_node("MaxPool", ["g"], ["y"], kernel_shape=[2, 2], strides=[2, 2]))
    return model(nodes, [("x", ("N", 3, 16, 16))], [("y", ("N", CHANNELS, 8, 8))], weights)


def test_activations_and_shortcuts_run_within_the_convolution() -> None:
    first, second, pool = operators_of(conv_model().SerializeToString(), batch=2)
    assert first == Operator("conv", 2 * 256 * CHANNELS * 3, 2 * 3 * 256, 2 * CHANNELS * 256, 3 * CHANNELS)
    assert second.macs == 2 * 256 * CHANNELS * 27
    assert (pool.kind, pool.macs, pool.written) == ("pool", 0, 2 * CHANNELS * 64)


def test_an_activation_of_a_tensor_that_others_read_costs_its_own() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["f"], kernel_shape=[1, 1]), helper.make_node("Relu", ["f"], ["g"])]
    nodes.append(helper.make_node("Sub", ["f", "g"], ["y"]))
    made = model(nodes, [("x", (1, 3, 4, 4))], [("y", (1, 3, 4, 4))], {"w": np.ones((3, 3, 1, 1), np.float32)})
    assert [operator.kind for operator in operators_of(made.SerializeToString())] == ["conv", *["elementwise"] * 2]


def test_multiply_accumulates_are_those_of_the_package() -> None:
    package = load_package(DRIVING)
    for segment in package.segments:
        operators = operators_of(package.model(segment.id))
        assert sum(operator.macs for operator in operators) == segment.macs
        assert all(min(operator.features) >= 0.0 for operator in operators)


def test_what_the_profiler_sees_is_what_the_model_says() -> None:
    package = load_package(DRIVING)  # its channels are multiples of 16, to which onnxruntime pads others
    segment, made = package.segment("trunk2"), package.model("trunk2")
    timed = time_operators(made, sample_inputs(segment.inputs), runs=3)
    assert sum(sample.operator.macs for sample in timed.operators) == segment.macs
    assert all(sample.time_s > 0.0 for sample in timed.operators)
    assert timed.run_s > 0.0
    with pytest.raises(BackendError, match="cannot time the model's operators"):
        time_operators(made, {"cut1": np.ones((1, 3, 7), np.float32)}, runs=1)
    with pytest.raises(ValueError, match="runs = 0"):
        time_operators(made, {}, runs=0)


def test_what_is_no_model_or_has_no_shapes_is_refused() -> None:
    with pytest.raises(ProfileError, match="cannot tell what the model computes"):
        operators_of(b"no model")
    nodes = [helper.make_node("Mystery", ["x"], ["z"], domain="far.away"), helper.make_node("Exp", ["z"], ["y"])]
    lost = model(nodes, [("x", (1, 4))], [("y", (1, 4))])
    lost.opset_import.append(helper.make_opsetid("far.away", 1))
    with pytest.raises(ProfileError, match=r"the shape of \['z'\] can't be told"):
        operators_of(lost.SerializeToString())


@given(scale=st.floats(1e-12, 1e-8), power=st.floats(0.5, 1.2))
def test_a_power_law_of_flops_is_found_again(scale: float, power: float) -> None:
    features = np.geomspace(1e6, 1e10, 12)[:, None]
    times_s = scale * (1.0 + features[:, 0]) ** power
    np.testing.assert_allclose(FlopsOnly(features, times_s).predict(features * 3), times_s * 3**power, rtol=1e-3)


def law(count: int, seed: int) -> tuple[Any, Any]:
    """Return features and times of a device that computes and moves data one after the other."""
    rng = np.random.default_rng(seed)
    features = np.exp(rng.uniform(np.log(1e4), np.log(1e9), (count, 3)))
    return features, 1e-9 * features[:, 0] + 1e-8 * features[:, 1] + 1e-4


def test_trees_beat_a_line_and_a_line_beats_flops() -> None:
    pytest.importorskip("sklearn")
    train, test = law(300, 0), law(200, 1)
    errors = [
        float(np.median(relative_errors(way(*train).predict(test[0]), test[1])))
        for way in (FlopsOnly, LogLinear, Boosted)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.1


@given(factor=st.floats(0.01, 100.0), shots=st.integers(1, 8), seed=st.integers(0, 100))
def test_a_device_that_is_slower_by_a_factor_is_met_at_once(factor: float, shots: int, seed: int) -> None:
    features, times_s = law(60, seed)
    base = LogLinear(features, times_s)
    slower_s = factor * base.predict(features)
    adapted = Adapted(base, features[:shots], slower_s[:shots])
    np.testing.assert_allclose(adapted.predict(features), slower_s, rtol=1e-6)


@pytest.mark.parametrize(
    ("features", "times_s", "message"),
    [
        ([[1.0], [2.0]], [1.0], "don't fit times"),
        ([[1.0]], [1.0], "1 samples are too few"),
        ([[1.0], [-2.0]], [1.0, 1.0], "not negative"),
        ([[1.0], [float("nan")]], [1.0, 1.0], "must be finite"),
        ([[1.0], [2.0]], [1.0, 0.0], "times must be finite and positive"),
    ],
)
def test_samples_that_make_no_sense_are_refused(features: Any, times_s: Any, message: str) -> None:
    for way in (FlopsOnly, LogLinear):
        with pytest.raises(ProfileError, match=message):
            way(np.array(features), np.array(times_s))


def test_a_missing_library_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(ProfileError, match=r"pip install 'headway\[predict\]'"):
        Boosted(*law(10, 0))


def test_a_segment_is_the_sum_of_its_operators_and_an_overhead() -> None:
    features = [Operator("conv", macs, 1000, 1000, 10) for macs in (10**4, 10**5, 10**6)]
    samples = tuple(TimedOperator(operator, 1e-9 * operator.features[0]) for operator in features)
    total_s = sum(sample.time_s for sample in samples)
    predictor = SegmentPredictor([TimedModel(samples, total_s + 2e-5), TimedModel(samples, total_s + 1e-5)], FlopsOnly)
    assert predictor.overhead_s == pytest.approx(1e-5)
    made = conv_model().SerializeToString()
    parts_s = predictor.predict_operators(operators_of(made)).sum()
    assert predictor.predict(made) == pytest.approx(parts_s + 1e-5)
    assert predictor.predict_operators([]).sum() == 0.0
    with pytest.raises(ProfileError, match="no timed operator"):
        SegmentPredictor([])


def test_sample_inputs_fit_their_declarations() -> None:
    specs = [
        TensorSpec("a", "uint8", ("N", 4)),
        TensorSpec("b", "float32", ("N", 2, "T")),
        TensorSpec("c", "int64", (3,)),
    ]
    made = sample_inputs(specs, batch=5)
    sizes: dict[str, int] = {}
    for spec in specs:
        spec.check(made[spec.name], sizes)
    assert sizes == {"N": 5, "T": 1}
    assert not open_batch(specs)
    assert open_batch(specs[:2])
    with pytest.raises(ValueError, match="batch = 0"):
        sample_inputs(specs, batch=0)
