"""The independent check refuses every way in which a schedule can be wrong."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.plan.baselines import heft
from runtime.plan.build import place
from runtime.plan.check import check_schedule
from runtime.plan.errors import ScheduleError
from runtime.plan.instance import Instance, make_instance
from runtime.plan.problem import Memory, Problem
from runtime.plan.schedule import Schedule
from runtime.plan.timing import orders_of, retime
from tests.plan.problems import problem, small_problems

DIAMOND = (("a", ("b", "c")), ("b", ("d",)), ("c", ("d",)))
COSTS = {"a": (2.0, 3.0), "b": (4.0, 4.0), "c": (4.0, 4.0), "d": (1.0, 1.0)}


def diamond(**more: object) -> tuple[Instance, Schedule]:
    """Return a sound schedule with b and c on two devices."""
    instance = make_instance(problem(COSTS, DIAMOND, way_ms=1.0, **more))  # type: ignore[arg-type]
    schedule = place(instance, [0, 0, 1, 0], [0, 0], [3.0, 2.0, 2.0, 1.0])
    assert schedule is not None
    check_schedule(instance, schedule)
    return instance, schedule


def shifted(schedule: Schedule, task: int, by_s: float) -> Schedule:
    starts, ends = list(schedule.starts_s), list(schedule.ends_s)
    starts[task] += by_s
    ends[task] += by_s
    return replace(schedule, starts_s=tuple(starts), ends_s=tuple(ends))


@pytest.mark.parametrize(("task", "why"), [(1, "starts"), (2, "is there at"), (3, "starts")])
def test_a_task_that_starts_too_early(task: int, why: str) -> None:
    instance, schedule = diamond()
    with pytest.raises(ScheduleError, match=why):
        check_schedule(instance, shifted(schedule, task, -0.5e-3))


def test_a_task_that_is_done_too_soon() -> None:
    instance, schedule = diamond()
    ends = list(schedule.ends_s)
    ends[3] -= 0.5e-3
    with pytest.raises(ScheduleError, match=r"does 0\.0005\d* s of work"):
        check_schedule(instance, replace(schedule, ends_s=tuple(ends)))


def test_work_beside_others_takes_longer() -> None:
    instance, schedule = diamond(factor=1.2)
    free = make_instance(problem(COSTS, DIAMOND, way_ms=1.0))
    too_fast = place(free, schedule.assignment.devices, (0, 0), [3.0, 2.0, 2.0, 1.0])
    assert too_fast is not None
    with pytest.raises(ScheduleError, match="of work"):
        check_schedule(instance, too_fast)


def test_a_tensor_that_never_moved() -> None:
    instance, schedule = diamond()
    with pytest.raises(ScheduleError, match="there at inf"):
        check_schedule(instance, replace(schedule, moves=schedule.moves[1:]))


def test_a_tensor_that_moves_faster_than_its_link() -> None:
    instance, schedule = diamond()
    hurried = replace(schedule.moves[0], end_s=schedule.moves[0].end_s - 0.5e-3)
    with pytest.raises(ScheduleError, match="its way takes longer"):
        check_schedule(instance, replace(schedule, moves=(hurried, *schedule.moves[1:])))


def test_a_tensor_that_leaves_before_it_is_made() -> None:
    instance, schedule = diamond()
    move = schedule.moves[0]
    early = replace(move, start_s=move.start_s - 1e-3, end_s=move.end_s - 1e-3)
    with pytest.raises(ScheduleError, match="before it is made"):
        check_schedule(instance, replace(schedule, moves=(early, *schedule.moves[1:])))


def test_two_at_once_on_a_channel() -> None:
    costs = {"x": (1.0, None), "y": (1.0, None), "p": (None, 1.0), "q": (None, 1.0)}
    edges = (("x", ("p",)), ("y", ("q",)))
    free = make_instance(problem(costs, edges, way_ms=5.0))
    wired = make_instance(problem(costs, edges, way_ms=5.0, channel="bus"))
    schedule = place(free, [0, 0, 1, 1], [0, 0], [2.0, 1.0, 0.0, 0.0])
    waits = place(wired, [0, 0, 1, 1], [0, 0], [2.0, 1.0, 0.0, 0.0])
    assert schedule is not None
    assert waits is not None
    check_schedule(wired, waits)
    assert max(waits.ends_s) == pytest.approx(12e-3)
    with pytest.raises(ScheduleError, match="channel 'bus'"):
        check_schedule(wired, schedule)


def test_a_segment_where_it_cannot_run() -> None:
    instance = make_instance(problem({"x": (1.0, None)}))
    schedule = heft(instance)
    assert schedule is not None
    wrong = replace(schedule, assignment=replace(schedule.assignment, devices=(1,)))
    with pytest.raises(ScheduleError, match="cannot run on 'b'"):
        check_schedule(instance, wrong)


def test_a_memory_that_overflows() -> None:
    instance, schedule = diamond()
    full = Memory("pool", 1500.0, ("a", "b"), "transfers")
    crowded = make_instance(_with(instance.problem, full))
    with pytest.raises(ScheduleError, match="'pool' holds 2000 bytes: it has 1500"):
        check_schedule(crowded, schedule)


def _with(given: Problem, memory: Memory) -> Problem:
    import msgspec

    return msgspec.structs.replace(given, memories=(memory,))


@given(small_problems(factor=True), st.randoms(use_true_random=False))
def test_any_placement_timed_in_any_order_is_sound_and_times_the_same_again(given: Problem, random: object) -> None:
    instance = make_instance(given)
    devices = [random.choice(unit.choices) for unit in instance.units]  # type: ignore[attr-defined]
    priority = [random.random() for _ in instance.tasks]  # type: ignore[attr-defined]
    schedule = place(instance, devices, [0] * len(instance.devices), priority)
    assert schedule is not None
    check_schedule(instance, schedule)
    again = retime(instance, schedule.assignment, orders_of(instance, schedule))
    assert again.ends_s == pytest.approx(schedule.ends_s, rel=1e-9)
