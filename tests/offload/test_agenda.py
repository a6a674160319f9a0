"""What an edge server has open: against a plain list of it, and the pace at which it is worked off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.server.agenda import Agenda
from offload.server.job import Job
from offload.server.pace import Pace
from offload.wire import Request


def job(number: int, deadline: int, client: bytes, cost_us: int) -> Job:
    request = Request(id=number, model="m", time_left_us=0)
    return Job(client, request, {}, 10 * number, 0.0, float(deadline), expected_us=cost_us)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 6), st.sampled_from([b"a", b"b"]), st.integers(0, 9)),
        st.tuples(st.just("remove"), st.integers(0, 50)),
        st.tuples(st.just("fallen"), st.integers(0, 6)),
    ),
    max_size=40,
)


@given(steps)
def test_it_says_what_a_plain_list_says(script: list[tuple[object, ...]]) -> None:
    agenda = Agenda()
    jobs: list[Job] = []
    due: list[Job] = []  # those whose deadline has not been told
    for number, (what, *rest) in enumerate(script, 1):
        if what == "add":
            made = job(number, *rest)  # type: ignore[arg-type]
            agenda.add(made)
            jobs.append(made)
            due.append(made)
        elif what == "remove" and jobs:
            gone = jobs.pop(int(rest[0]) % len(jobs))  # type: ignore[call-overload]
            agenda.remove(gone)
            due = [item for item in due if item is not gone]
            assert gone not in agenda
            assert agenda.find(gone.client, gone.request.id) is None
        elif what == "fallen":
            fallen = [item for item in due if item.deadline_s <= rest[0]]  # type: ignore[operator]
            assert agenda.fallen(float(rest[0])) == sorted(  # type: ignore[arg-type]
                fallen, key=lambda item: (item.deadline_s, item.request.id)
            )
            due = [item for item in due if item not in fallen]
        for time_s in range(7):
            before = [item.expected_us for item in due if item.deadline_s <= time_s]
            assert agenda.work_until_us(float(time_s)) == sum(before)
        assert len(agenda) == len(jobs)
        assert set(agenda.jobs) == set(jobs)
        assert agenda.load_us == sum(item.expected_us for item in jobs)
        assert agenda.size == sum(item.size for item in jobs)
        assert agenda.next_s == min((item.deadline_s for item in due), default=None)
        assert [agenda.open_of(client) for client in (b"a", b"b")] == [
            sum(item.client == client for item in jobs) for client in (b"a", b"b")
        ]


def test_the_pace_is_what_a_busy_worker_takes_over_what_was_expected() -> None:
    pace = Pace()
    pace.ended(0, 10.0, 1000, more=True)
    assert pace.ratio == 1.0  # it had waited for this one
    pace.ended(0, 10.003, 2000, more=True)
    assert pace.ratio == pytest.approx(1.5)
    pace.ended(1, 10.004, 1000, more=False)  # another worker
    pace.ended(0, 10.005, 0, more=False)  # stopped: not to be counted
    pace.ended(0, 99.0, 1000, more=False)  # nothing waited before this one
    assert pace.ratio == pytest.approx(1.5)


def test_the_pace_forgets() -> None:
    pace = Pace()
    for number in range(300):
        pace.ended(0, 0.001 * number, 1000, more=True)
    assert pace.ratio == pytest.approx(1.0)
    for number in range(300, 500):
        pace.ended(0, 0.299 + 0.002 * (number - 299), 1000, more=True)
    assert pace.ratio == pytest.approx(2.0, rel=0.01)
