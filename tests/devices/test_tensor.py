import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.errors import InputError
from devices.tensor import TensorSpec, check_finite, check_inputs

FRAME = TensorSpec("frame", "uint8", ("N", 4, 6, 3))
SPEED = TensorSpec("speed", "float32", ("N", 1))


def test_fitting_inputs_pass() -> None:
    check_inputs([FRAME, SPEED], {"frame": np.zeros((2, 4, 6, 3), np.uint8), "speed": np.zeros((2, 1), np.float32)})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"lacks \['frame', 'speed'\]"),
        ({"frame": 1, "speed": 1, "other": 1}, r"has unknown \['other'\]"),
        ({"frame": np.zeros((1, 4, 6, 3), np.uint8), "speed": [[1.0]]}, "is a list: must be a numpy array"),
        ({"frame": np.zeros((1, 4, 6, 3)), "speed": np.zeros((1, 1), np.float32)}, "dtype float64: must be uint8"),
        ({"frame": np.zeros((1, 4, 6), np.uint8), "speed": np.zeros((1, 1), np.float32)}, r"shape \(1, 4, 6\)"),
        ({"frame": np.zeros((1, 4, 6, 4), np.uint8), "speed": np.zeros((1, 1), np.float32)}, r"\(1, 4, 6, 4\)"),
        ({"frame": np.zeros((2, 4, 6, 3), np.uint8), "speed": np.zeros((1, 1), np.float32)}, "'N': 2"),
        ({"frame": np.zeros((0, 4, 6, 3), np.uint8), "speed": np.zeros((0, 1), np.float32)}, r"\(0, 4, 6, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would_be_right(inputs: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_inputs([FRAME, SPEED], inputs)  # type: ignore[arg-type]


def test_a_tensor_over_the_limit_is_refused() -> None:
    huge = np.broadcast_to(np.float32(0), (2**17, 2**10))  # takes no memory
    with pytest.raises(InputError, match="must be at most"):
        TensorSpec("x", "float32", ("N", 2**10)).check(huge, {})


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_only_finite_floats_pass(values: list[float]) -> None:
    array = np.array(values, np.float32)
    if np.isfinite(array).all():
        check_finite({"x": array})
    else:
        with pytest.raises(InputError, match="must be finite"):
            check_finite({"x": array})


def test_the_first_offender_is_named() -> None:
    array = np.zeros((2, 3), np.float64)
    array[1, 2] = np.nan
    with pytest.raises(InputError, match=r"'x' holds nan at \(1, 2\)"):
        check_finite({"x": array, "n": np.zeros(3, np.int64)})


sizes = st.one_of(st.integers(1, 5), st.sampled_from(["N", "?"]))


@given(st.lists(sizes, max_size=4), st.lists(st.integers(1, 5), max_size=4))
def test_a_declaration_accepts_exactly_the_shapes_that_check_lets_pass(
    declared: list[int | str], actual: list[int]
) -> None:
    spec = TensorSpec("x", "float32", tuple(declared))
    try:
        spec.check(np.zeros(actual, np.float32), {})
        passes = True
    except InputError:
        passes = False
    batches = {size for name, size in zip(declared, actual, strict=False) if name == "N"}
    accepted = spec.accepts(TensorSpec("y", "float32", tuple(actual)))
    assert passes == (accepted and len(batches) <= 1)
