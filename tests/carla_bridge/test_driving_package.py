"""The shipped driving package: its shape, its figures, and what it says of frames it has never seen."""

import numpy as np
import pytest

from carla_bridge.answers import ANSWER_NAMES, true_answers
from carla_bridge.camera import Camera
from carla_bridge.obstacles import Obstacle
from carla_bridge.route import Floats, Route, Section
from carla_bridge.scenery import draw_scenery
from carla_bridge.virtual import DRIVING, driving_chain
from devices.package import load_package

PACKAGE = load_package(DRIVING)


def _held_out(count: int) -> tuple[Floats, dict[str, Floats]]:
    """Return true answers (count, 6) and, for each exit, confidence and answers (count, 7)."""
    rng = np.random.default_rng(991)
    camera, chain = Camera(), driving_chain()
    truth, found = [], {item.id: [] for item in PACKAGE.exits}  # type: ignore[var-annotated]
    for _ in range(count):
        route = Route.from_sections([Section(20.0, rng.uniform(-0.03, 0.03)), Section(80.0, rng.uniform(-0.03, 0.03))])
        s_m, offset = rng.uniform(0.0, 40.0), rng.uniform(-7.0, 7.0)
        x_m, y_m = route.at(s_m, offset)
        pose = (x_m, y_m, route.heading_at(s_m) + rng.uniform(-0.3, 0.3))
        drums = [Obstacle(*route.at(s_m + rng.uniform(10.0, 60.0), rng.uniform(-2.0, 2.0)), tint=rng.random())]
        frame = camera.render(route, pose, drums, draw_scenery(rng, 100.0), s_m=s_m, time_s=0.0, number=1)
        truth.append(true_answers(route, pose, drums, camera.mount))
        result = chain.run({"frame": frame[None]}, on_exit=lambda answer: _keep(found, answer))
        assert result.exit is not None
    return np.array(truth), {name: np.array(rows) for name, rows in found.items()}


def _keep(found: dict[str, list[Floats]], answer: object) -> bool:
    found[answer.exit_id].append(np.array([answer.confidence, *answer.answer[0]]))  # type: ignore[attr-defined]
    return False


@pytest.fixture(scope="module")
def held_out() -> tuple[Floats, dict[str, Floats]]:
    return _held_out(60)


def test_it_has_three_exits_that_answer_what_the_controller_reads() -> None:
    assert [item.id for item in PACKAGE.exits] == ["exit1", "exit2", "exit3"]
    assert tuple(PACKAGE.answer_names) == ANSWER_NAMES
    (frame,) = PACKAGE.inputs
    assert (frame.name, frame.dtype, tuple(frame.shape)) == ("frame", "uint8", ("N", 80, 160, 3))


def test_the_first_exit_costs_about_a_quarter() -> None:
    macs = {segment.id: segment.macs for segment in PACKAGE.segments}
    assert 0.2 < (macs["trunk1"] + macs["exit1"]) / sum(macs.values()) < 0.3


def test_it_stays_below_ten_megabytes() -> None:
    assert sum(segment.path.stat().st_size for segment in PACKAGE.segments) < 10_000_000


@pytest.mark.parametrize("exit_id", ["exit1", "exit2", "exit3"])
def test_every_exit_is_far_better_than_the_mean(held_out: tuple[Floats, dict[str, Floats]], exit_id: str) -> None:
    truth, found = held_out
    answers = found[exit_id][:, 1:]
    present = truth[:, 3] > 0.5
    for column in (0, 1, 2):
        error = np.abs(answers[:, column] - truth[:, column]).mean()
        assert error < 0.3 * np.abs(truth[:, column] - truth[:, column].mean()).mean()
    for column in (4, 5):
        error = np.abs(answers[present, column] - truth[present, column]).mean()
        assert error < 0.2 * np.abs(truth[present, column] - truth[present, column].mean()).mean()
    assert np.mean((answers[:, 3] > 0.5) == present) > 0.9


def test_confidences_are_probabilities_that_tell_frames_apart(held_out: tuple[Floats, dict[str, Floats]]) -> None:
    for rows in held_out[1].values():
        assert np.all((rows[:, 0] >= 0.0) & (rows[:, 0] <= 1.0))
        assert rows[:, 0].std() > 0.02


def test_the_card_has_every_exit_beside_the_mean() -> None:
    card = PACKAGE.card
    for name in ("lane_offset_m", "heading_error_rad", "curvature_1pm", "obstacle_bearing_rad", "obstacle_range_m"):
        errors = [card[row][name] for row in ("exit3", "exit2", "exit1", "mean")]
        assert errors == sorted(errors)
        assert errors[2] < 0.25 * errors[3]
