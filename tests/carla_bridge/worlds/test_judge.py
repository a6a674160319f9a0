"""Contacts: moving or at rest, who ran into whom, and whether the declared bounds held."""

import pytest

from carla_bridge.route import Place, Route, Section
from carla_bridge.world import EventKind
from carla_bridge.worlds.bodies import Box, Drum
from carla_bridge.worlds.judge import Judge, Thing

ROAD = Route.from_sections([Section(100.0, 0.0)])
CAR = Box(10.0, 0.0, 0.0, 4.0, 2.0)


def judge(*broken: str) -> Judge:
    return Judge(ROAD, 5.0, Place(0.0, 0.0, 0.0, 0.0), lambda: broken)


@pytest.mark.parametrize(
    ("ours", "theirs", "by"),
    [
        ((5.0, 0.0), (0.0, 0.0), "ego"),
        ((0.0, 0.0), (-3.0, 0.0), "other"),
        ((5.0, 0.0), (-5.0, 0.0), "both"),
        ((2.0, 0.0), (-9.0, 0.0), "other"),
        ((9.0, 0.0), (3.0, 0.0), "ego"),
    ],
)
def test_who_ran_into_whom(ours: tuple[float, float], theirs: tuple[float, float], by: str) -> None:
    seat = judge()
    seat.look(CAR, ours, [Thing("lead", Box(13.5, 0.0, 0.0, 4.0, 2.0), *theirs)])
    assert [contact.by for contact in seat.collisions] == [by]


def test_a_contact_while_moving_ends_the_episode_and_one_at_rest_does_not() -> None:
    seat = judge()
    seat.look(CAR, (0.0, 0.0), [Thing("rear", Box(6.5, 0.0, 0.0, 4.0, 2.0), 3.0, 0.0)])
    assert not seat.done
    assert [event.kind for event in seat.events] == [EventKind.STRUCK]
    assert seat.collisions[0].cause == "struck at rest by rear"
    seat.look(CAR, (1.0, 0.0), [Thing("lead", Drum(12.5, 0.0, 1.0))])
    assert seat.done
    assert seat.collisions[1].cause == "moving, bounds held"


def test_what_stands_strikes_nobody_even_where_it_stopped_ours() -> None:
    seat = judge()
    seat.step(0.02, CAR, (6.0, 0.0), (10.0, 0.0))
    seat.step(0.02, CAR, (0.0, 0.0), (10.0, 0.0))
    seat.look(CAR, (0.0, 0.0), [Thing("drum", Drum(12.5, 0.0, 1.0))])
    assert (seat.collisions[0].moving, seat.collisions[0].by) == (True, "ego")
    assert seat.collisions[0].speed_mps == 6.0


def test_one_contact_is_counted_once_until_it_has_parted() -> None:
    seat, near, far = judge(), Thing("rear", Drum(7.5, 0.0, 1.0)), Thing("rear", Drum(3.0, 0.0, 1.0))
    for thing in (near, near, far, near):
        seat.look(CAR, (0.0, 0.0), [thing])
    assert len(seat.collisions) == 2
    assert seat.report().min_clearance_m == 0.0


def test_causes_name_broken_bounds_and_a_start_without_a_certified_control() -> None:
    broken = judge("obstacle_speed")
    broken.look(CAR, (4.0, 0.0), [Thing("lead", Drum(12.5, 0.0, 1.0))])
    assert broken.collisions[0].cause == "moving, bounds broken: obstacle_speed"
    assert not broken.collisions[0].bounds_held
    early = judge()
    early.certified = False  # it started moving
    early.look(CAR, (4.0, 0.0), [Thing("lead", Drum(12.5, 0.0, 1.0))])
    assert early.collisions[0].cause == "moving, no certified control in force"


def test_the_report_measures_the_way_the_road_and_the_least_gap() -> None:
    seat = judge()
    for index in range(50):
        box = Box(0.2 * (index + 1), 0.5, 0.0, 4.0, 2.0)
        seat.step(0.02, box, (10.0, 0.0), (box.x_m, box.y_m))
        seat.look(box, (10.0, 0.0), [Thing("drum", Drum(16.0, 0.5, 1.0))])
    report = seat.report()
    assert report.progress_m == pytest.approx(10.0)
    assert report.deviation_m == pytest.approx(0.5)
    assert report.mean_speed_mps == pytest.approx(10.0)
    assert report.min_clearance_m == pytest.approx(3.0)
    assert report.min_distance_m == pytest.approx(6.0)
    assert (report.collisions, report.off_track, report.done) == (0, False, False)


def test_the_end_of_the_road_and_its_edges_end_the_episode() -> None:
    seat = judge()
    seat.step(0.02, CAR, (1.0, 0.0), (10.0, 6.0))
    assert [event.kind for event in seat.events] == [EventKind.KERB, EventKind.OFF_TRACK]
    assert seat.done
    last = judge()
    last.place = Place(95.0, 0.0, 0.0, 0.0)
    last.step(0.02, CAR, (1.0, 0.0), (100.5, 0.0))
    assert [event.kind for event in last.events] == [EventKind.FINISHED]
