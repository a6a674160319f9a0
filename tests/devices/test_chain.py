"""Chains on real onnxruntime sessions: the same answer as the whole model, exits that cost only what they need."""

import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from devices.backend import CancelToken
from devices.backends.null import NullBackend
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain, ChainResult, ExitAnswer
from devices.clock import VirtualClock
from devices.errors import BackendError, InputError, RunCancelledError, SegmentError
from devices.package import Exit, Package, SegmentSource, load_package, write_package
from devices.tensor import Array
from tests.models import exit_segments, model, write_endless_package, write_exit_package
from tests.threads import wait_until_computing

OnExit = Callable[[ExitAnswer], bool]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_exit_package(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Package:
    path = tmp_path_factory.mktemp("models") / "whole.onnx"
    path.write_bytes(exit_segments()[1].SerializeToString())
    return load_package(path)


def images(count: int = 1) -> dict[str, Array]:
    return {"image": np.random.default_rng(7).normal(size=(count, 3, 16, 16)).astype(np.float32)}


@pytest.mark.parametrize("count", [1, 3])
def test_segments_together_equal_the_whole_model(package: Package, whole: Package, count: int) -> None:
    cut = Chain(package, OnnxRuntimeBackend()).run(images(count))
    one = Chain(whole, OnnxRuntimeBackend()).run(images(count))
    assert cut.exit is not None
    assert one.exit is not None
    assert cut.exit.exit_id == "exit3"
    np.testing.assert_allclose(cut.exit.answer, one.exit.answer, atol=1e-5)


def test_nobody_asks_so_the_shallow_heads_are_not_run(package: Package) -> None:
    result = Chain(package, OnnxRuntimeBackend()).run(images())
    assert [time.segment_id for time in result.segments] == ["trunk1", "trunk2", "trunk3", "head3"]


def test_exits_come_in_order_and_the_taken_one_ends_the_run(package: Package) -> None:
    seen: list[ExitAnswer] = []

    def on_exit(answer: ExitAnswer) -> bool:
        seen.append(answer)
        return answer.exit_id == "exit2"

    result = Chain(package, OnnxRuntimeBackend()).run(images(), on_exit=on_exit)
    assert [answer.exit_id for answer in seen] == ["exit1", "exit2"]
    assert result.exit is seen[1]
    assert [time.segment_id for time in result.segments] == ["trunk1", "head1", "trunk2", "head2"]
    assert not result.cancelled
    assert result.exit.index == 1
    assert result.exit.segments == result.segments
    assert set(result.exit.outputs) == {"answer2", "confidence2"}


def test_heads_below_the_least_exit_are_not_run(package: Package) -> None:
    result = Chain(package, OnnxRuntimeBackend()).run(images(), on_exit=lambda _: True, least_exit="exit2")
    assert [time.segment_id for time in result.segments] == ["trunk1", "trunk2", "head2"]


def test_confidence_is_the_least_of_the_batch(package: Package) -> None:
    result = Chain(package, OnnxRuntimeBackend()).run(images(5))
    assert result.exit is not None
    assert result.exit.confidence == pytest.approx(float(result.exit.outputs["confidence3"].min()))


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_two_parts_of_a_package_make_the_whole(package: Package, cut: int) -> None:
    ids = [segment.id for segment in package.segments]
    front = Chain(package, OnnxRuntimeBackend("cpu:0"), ids[:cut])
    back = Chain(package, OnnxRuntimeBackend("cpu:1"), ids[cut:])
    assert {spec.name for spec in front.outputs} == {spec.name for spec in back.inputs}
    middle = front.run(images(2))
    result = back.run(middle.outputs)
    expected = Chain(package, OnnxRuntimeBackend()).run(images(2))
    answered = result.exit or middle.exit
    assert answered is not None
    assert expected.exit is not None
    np.testing.assert_array_equal(answered.answer, expected.exit.answer)
    assert {time.device for time in result.segments} <= {"cpu:1"}


def test_read_only_and_strided_inputs_give_the_same_answer(package: Package) -> None:
    chain = Chain(package, OnnxRuntimeBackend())
    frozen = images()["image"]
    frozen.setflags(write=False)
    strided = np.asfortranarray(frozen)
    first, second = chain.run({"image": frozen}).exit, chain.run({"image": strided}).exit
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.answer, second.answer)


def test_outputs_wrap_the_sessions_memory(package: Package) -> None:
    loaded = OnnxRuntimeBackend().load(package.segment("trunk1"), package.model("trunk1"))
    made = loaded.run(images())["f1"]
    assert not made.flags.owndata


def test_tensors_are_let_go_after_their_last_use(package: Package) -> None:
    chain = Chain(package, NullBackend(TIMES, clock=VirtualClock()))
    trunk = chain._loaded["trunk1"]
    made: list[weakref.ref[Array]] = []

    class Watched:
        def run(self, inputs: Mapping[str, Array], cancel: CancelToken | None = None) -> dict[str, Array]:
            values = trunk.run(inputs, cancel)
            made.append(weakref.ref(values["f1"]))
            return values

    alive: list[bool] = []

    def on_exit(_: ExitAnswer) -> bool:
        alive.append(made[0]() is not None)
        return False

    chain._loaded["trunk1"] = Watched()
    chain.run(images(), on_exit=on_exit)
    assert alive == [True, False, False]


def test_inputs_that_do_not_fit_are_refused(package: Package) -> None:
    with pytest.raises(InputError, match=r"shape \(1, 3, 16, 17\): must be \('N', 3, 16, 16\)"):
        Chain(package, OnnxRuntimeBackend()).run({"image": np.zeros((1, 3, 16, 17), np.float32)})


def test_unknown_segments_are_refused(package: Package) -> None:
    with pytest.raises(KeyError, match="has no segment 'tail'"):
        Chain(package, OnnxRuntimeBackend(), ["tail"])


def test_a_run_in_the_middle_of_a_segment_ends_when_cancelled_and_the_session_lives(tmp_path: Path) -> None:
    chain = Chain(write_endless_package(tmp_path / "endless"), OnnxRuntimeBackend())
    inputs = {"x": np.eye(64, dtype=np.float32)}
    for _ in range(2):
        token, answered, results = CancelToken(), threading.Event(), list[ChainResult]()

        def on_exit(_: ExitAnswer, answered: threading.Event = answered) -> bool:
            answered.set()
            return False

        def run(token: CancelToken = token, to: list[ChainResult] = results, on_exit: OnExit = on_exit) -> None:
            to.append(chain.run(inputs, cancel=token, on_exit=on_exit))

        runner = threading.Thread(target=run)
        runner.start()
        assert answered.wait(10.0)
        assert runner.ident is not None
        wait_until_computing(runner.ident)
        token.cancel()
        runner.join()  # would take years if the loop went on
        (result,) = results
        assert result.cancelled
        assert result.exit is not None
        assert result.exit.exit_id == "quick"
        assert [time.segment_id for time in result.segments] == ["entry", "head"]
        np.testing.assert_array_equal(result.exit.answer, inputs["x"])


def test_a_cancelled_token_lets_nothing_begin(package: Package) -> None:
    token = CancelToken()
    token.cancel()
    result = Chain(package, OnnxRuntimeBackend()).run(images(), cancel=token)
    assert (result.cancelled, result.exit, result.segments) == (True, None, ())


def test_a_hook_bound_after_the_cancel_is_called_at_once() -> None:
    token, called = CancelToken(), []
    token.cancel()
    token.bind(lambda: called.append(True))
    assert called == [True]


def test_a_failing_segment_says_which_and_where(tmp_path: Path) -> None:
    gather = model(
        [helper.make_node("Cast", ["x"], ["i"], to=7), helper.make_node("Gather", ["w", "i"], ["y"])],
        [("x", ("N",))],
        [("y", ("N",))],
        {"w": np.zeros(4, np.float32)},
    )
    package = write_package(
        tmp_path / "p",
        name="p",
        version="1",
        segments=[SegmentSource("g", gather)],
        exits=[Exit("e", "g", "y")],
    )
    chain = Chain(package, OnnxRuntimeBackend())
    with pytest.raises(SegmentError, match=r"segment 'g' failed on cpu:0: .*out of"):
        chain.run({"x": np.array([9.0], np.float32)})
    assert chain.run({"x": np.array([2.0], np.float32)}).exit is not None


def test_an_operator_nobody_knows_is_refused_when_loaded(tmp_path: Path) -> None:
    odd = model([helper.make_node("Frobnicate", ["x"], ["y"])], [("x", (1,))], [("y", (1,))])
    package = write_package(
        tmp_path / "p", name="p", version="1", segments=[SegmentSource("odd", odd)], exits=[Exit("e", "odd", "y")]
    )
    with pytest.raises(BackendError, match=r"segment 'odd': onnxruntime refuses odd.onnx: .*Frobnicate"):
        Chain(package, OnnxRuntimeBackend())


def test_a_missing_provider_is_an_error_unless_allowed(package: Package) -> None:
    with pytest.raises(BackendError, match=r"has no TensorrtExecutionProvider: it has \["):
        OnnxRuntimeBackend(provider="TensorrtExecutionProvider")
    allowed = OnnxRuntimeBackend(provider="TensorrtExecutionProvider", allow_fallback=True)
    assert allowed.provider == "CPUExecutionProvider"
    assert Chain(package, allowed).run(images()).exit is not None


def test_at_least_one_thread() -> None:
    with pytest.raises(ValueError, match="threads = 0"):
        OnnxRuntimeBackend(threads=0)


TIMES = {"trunk1": 0.001, "head1": 0.002, "trunk2": 0.003, "head2": 0.004, "trunk3": 0.005, "head3": 0.006}


def test_the_null_backend_takes_its_time_and_fills_in(package: Package) -> None:
    clock = VirtualClock()
    chain = Chain(package, NullBackend(TIMES, clock=clock, fill={"answer3": 5.0}), clock=clock)
    result = chain.run(images(2))
    assert clock.now_s() == pytest.approx(0.015)
    assert result.exit is not None
    np.testing.assert_array_equal(result.exit.answer, np.full((2, 4), 5.0, np.float32))
    assert [time.elapsed_s for time in result.segments] == pytest.approx([0.001, 0.003, 0.005, 0.006])


def test_the_null_backend_stops_at_the_very_time(package: Package) -> None:
    clock, token = VirtualClock(), CancelToken()
    chain = Chain(package, NullBackend(TIMES, clock=clock), clock=clock)
    clock.call_at(4_500_000, token.cancel)
    result = chain.run(images(), cancel=token)
    assert result.cancelled
    assert clock.now_s() == 0.0045
    assert result.exit is not None
    assert result.exit.exit_id == "exit1"


def test_the_null_backend_waits_on_a_real_clock_until_cancelled(package: Package) -> None:
    token = CancelToken()
    segment = NullBackend({"trunk1": 3600.0}).load(package.segment("trunk1"), b"")
    stopper = threading.Timer(0.0, token.cancel)
    stopper.start()
    with pytest.raises(RunCancelledError, match="stopped on null:0"):
        segment.run(images(), token)
    stopper.join()


def test_the_null_backend_knows_its_segments_and_sane_times(package: Package) -> None:
    with pytest.raises(BackendError, match="no time is known for segment 'trunk1'"):
        Chain(package, NullBackend({"head1": 1.0}))
    with pytest.raises(ValueError, match="must be a finite time"):
        NullBackend({"head1": -1.0})
