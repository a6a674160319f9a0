"""Pooled features: numpy and ONNX agree for every layout; what can't be pooled is refused."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.tensor import TensorSpec
from runtime.pack.exits.errors import CutError
from runtime.pack.exits.graph import GraphBuilder
from runtime.pack.exits.pooling import cells, check_poolable, feature_count, is_poolable, pool, pool_nodes

LAYOUTS = [
    ([("a", "float32", ("N", 5))], 1, 5),
    ([("a", "float32", ("N", 7, 5))], 1, 5),
    ([("a", "float32", ("N", "T", 5))], 1, 5),
    ([("a", "float32", ("N", 5, 6, 7))], 1, 5),
    ([("a", "float32", ("N", 5, "H", "W"))], 1, 5),
    ([("a", "float32", ("N", 5, 6, 7))], 3, 45),
    ([("a", "float32", ("N", 5, 2, 3, 4))], 2, 5),
    ([("a", "float64", ("N", 5, 6, 7))], 1, 5),
    ([("a", "float32", ("N", 3, 4, 4)), ("b", "float32", ("N", 2))], 2, 14),
]


@pytest.mark.parametrize(("declared", "grid", "features"), LAYOUTS)
def test_onnx_pools_as_numpy_does(
    declared: list[tuple[str, str, tuple[int | str, ...]]], grid: int, features: int
) -> None:
    rng = np.random.default_rng(0)
    specs = [TensorSpec(*parts) for parts in declared]
    open_sizes: dict[int | str, int] = {"N": 3, "T": 4, "H": 5, "W": 6}
    values = {
        s.name: rng.normal(size=[x if isinstance(x, int) else open_sizes[x] for x in s.shape]).astype(s.dtype)
        for s in specs
    }
    build = GraphBuilder("pool")
    build.node("Identity", pool_nodes(build, specs, grid), output="features")
    model = build.model(specs, [TensorSpec("features", "float32", ("N", features))])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = pool(values, specs, grid)
    assert expected.shape == (3, features)
    assert feature_count(specs, grid) == features
    np.testing.assert_allclose(session.run(None, values)[0], expected, atol=1e-5)


@given(height=st.integers(1, 12), width=st.integers(1, 12), grid=st.integers(1, 4))
def test_cells_average_and_reach_every_pixel(height: int, width: int, grid: int) -> None:
    matrix = cells(height, width, grid)
    np.testing.assert_allclose(matrix.sum(axis=0), 1.0)
    assert np.all(matrix.sum(axis=1) > 0)
    if grid == 1:
        np.testing.assert_allclose(matrix, 1.0 / (height * width))


@pytest.mark.parametrize(
    ("spec", "grid", "message"),
    [
        (TensorSpec("a", "int64", ("N", 4)), 1, "floating-point"),
        (TensorSpec("a", "float32", ("N",)), 1, "two axes"),
        (TensorSpec("a", "float32", ("N", "C", 4, 4)), 1, "feature axis"),
        (TensorSpec("a", "float32", ("N", 4, "H", 4)), 2, "fixed image"),
        (TensorSpec("a", "float32", ("N", 4, 2, 4)), 3, "fixed image"),
    ],
)
def test_what_cannot_be_pooled_is_refused(spec: TensorSpec, grid: int, message: str) -> None:
    with pytest.raises(CutError, match=message):
        check_poolable(spec, grid)


@pytest.mark.parametrize(
    ("shape", "batches", "readable"),
    [
        (("N", 4), {"N"}, True),
        (("N", "T", 4), {"N"}, True),
        (("T", "N", 4), {"N"}, False),
        ((5, "N", 4), {"N"}, False),
        (("?", 4), {"N"}, False),  # such as N x T rows
        (("?", 4), {"?"}, True),
        (("M", 4), {"N", "M"}, True),
        ((1, 4), {1}, True),
        ((16, 4), {1}, False),
        (("T", 4), set(), True),
    ],
)
def test_a_head_reads_what_has_the_batch_first(
    shape: tuple[int | str, ...], batches: set[int | str], readable: bool
) -> None:
    assert is_poolable(TensorSpec("x", "float32", shape), 1, frozenset(batches)) is readable


def test_a_first_axis_that_is_not_the_batch_is_told() -> None:
    specs = [TensorSpec("a", "float32", ("N", 4)), TensorSpec("b", "float32", ("?", 4))]
    with pytest.raises(CutError, match="its first axis must be the batch, 1 or N"):
        check_poolable(TensorSpec("c", "float32", ("T", 4)), 1, frozenset((1, "N")))
    values = {"a": np.zeros((1, 4), np.float32), "b": np.zeros((16, 4), np.float32)}
    with pytest.raises(CutError, match=r"no exit can read .*'b': \(16, 4\).* together: the first axis of each"):
        pool(values, specs, 1)
