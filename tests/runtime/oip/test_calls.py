"""What a request asks of the service: its deadline, its exit, its options."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.package import Package, load_package
from runtime.serve.oip.calls import Asked, least_exit
from runtime.serve.oip.errors import CAUSES, Cause, OipError
from runtime.serve.oip.options import LONGEST_US, Options, Parameter, read_options

BEGUN_NS = 1_000


@given(st.none() | st.integers(1, 10**6), st.none() | st.integers(0, 10**12))
def test_the_earlier_of_two_deadlines_counts(timeout_us: int | None, due_ns: int | None) -> None:
    asked = Asked("m", "", {}, BEGUN_NS, options=Options(timeout_us), due_ns=due_ns)
    known = [due_ns] if due_ns is not None else []
    known += [BEGUN_NS + 1000 * timeout_us] if timeout_us is not None else []
    assert asked.deadline_ns == min(known, default=None)


@pytest.fixture(scope="module")
def toy(repository: Path) -> Package:
    return load_package(repository / "toy" / "1")


@pytest.mark.parametrize(
    ("outputs", "asked", "expected"),
    [
        ((), None, None),
        ((), "exit2", "exit2"),
        (("answer1",), None, "exit1"),
        (("answer1",), "exit2", "exit2"),
        (("confidence3", "answer3"), None, "exit3"),
        (("answer3",), "exit1", "exit3"),
    ],
)
def test_outputs_by_name_ask_for_their_exit(
    toy: Package, outputs: tuple[str, ...], asked: str | None, expected: str | None
) -> None:
    assert least_exit(toy, Asked("toy", "", {}, 0, outputs, Options(least_exit=asked))) == expected


@pytest.mark.parametrize(
    ("outputs", "asked", "text"),
    [
        (("answer1", "answer2"), None, "hands out all of"),
        (("nothing",), None, "exit3: answer3, confidence3"),
        (("answer1",), "e", "no exit 'e'"),
    ],
)
def test_outputs_of_no_one_exit_are_refused(
    toy: Package, outputs: tuple[str, ...], asked: str | None, text: str
) -> None:
    with pytest.raises(OipError, match=text) as caught:
        least_exit(toy, Asked("toy", "", {}, 0, outputs, Options(least_exit=asked)))
    assert caught.value.cause is Cause.INVALID


def test_options_are_read() -> None:
    given: dict[str, Parameter] = {"timeout": 5, "priority": 9, "least_exit": "e", "sequence_id": 0, "own": True}
    assert read_options(given) == Options(5, 9, "e")
    assert read_options({"timeout": 0, "sequence_id": ""}) == Options()


@pytest.mark.parametrize(
    ("parameters", "cause"),
    [
        ({"timeout": LONGEST_US + 1}, Cause.INVALID),
        ({"timeout": -1}, Cause.INVALID),
        ({"timeout": 1.5}, Cause.INVALID),
        ({"timeout": "5"}, Cause.INVALID),
        ({"timeout": True}, Cause.INVALID),
        ({"priority": 10}, Cause.INVALID),
        ({"least_exit": 3}, Cause.INVALID),
        ({"sequence_id": 1}, Cause.UNSUPPORTED),
        ({"sequence_id": "a"}, Cause.UNSUPPORTED),
    ],
)
def test_options_out_of_range_are_refused(parameters: dict[str, Any], cause: Cause) -> None:
    with pytest.raises(OipError) as caught:
        read_options(parameters)
    assert caught.value.cause is cause


def test_every_status_without_an_answer_has_a_cause() -> None:
    from runtime.execute.request import Status

    assert CAUSES.keys() == set(Status) - {Status.OK}
