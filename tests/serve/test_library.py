"""The models of a daemon within a memory budget, in one process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.open import open_device
from devices.package import load_package
from runtime.execute.executor import Executor
from runtime.execute.worker import Device
from runtime.repository import ModelRepository
from runtime.serve import library
from runtime.serve.library import Library, MemoryBudgetError, ModelInUseError, files_bytes
from tests.serve.api.test_local_socket import SIZE, write_model


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_model(tmp_path, "light", "1", 2.0)
    write_model(tmp_path, "light", "2", 2.0, SIZE)
    write_model(tmp_path, "heavy", "1", 3.0, SIZE)
    monkeypatch.setattr(library, "resident_bytes", lambda: 0)  # what a process grows by differs from run to run
    return tmp_path


@pytest.fixture
def executor(root: Path) -> Iterator[Executor]:
    opened = open_device("cpu", load_package(root / "light" / "1"))
    with Executor([Device(opened.backend, opened.cores)]) as made:
        yield made


def served(executor: Executor) -> set[tuple[str, str]]:
    return {(model.package.name, model.package.version) for model in executor.models}


def test_what_does_not_fit_is_refused_with_the_numbers_and_what_was_served_still_is(
    root: Path, executor: Executor
) -> None:
    light = load_package(root / "light" / "1")
    budget = files_bytes(light) + files_bytes(load_package(root / "light" / "2")) - 1.0
    models = Library(executor, [light], repository=ModelRepository(root), budget_bytes=budget)
    models.begin()
    with pytest.raises(MemoryBudgetError, match=r"heavy 1 takes 0.1 MB by its files: 0.1 MB .* beside light 1 0.0 MB"):
        models.load("heavy")
    with pytest.raises(MemoryBudgetError, match="light 2"):
        models.load("light")
    assert served(executor) == {("light", "1")}
    assert {(each.name, each.version): each.reason for each in models.index() if not each.ready}.keys() == {
        ("heavy", "1"),
        ("light", "2"),
    }
    models.unload("light")
    models.load("heavy")
    assert served(executor) == {("heavy", "1")}


def test_a_model_that_grows_beyond_the_budget_is_taken_back(
    root: Path, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter((0, 0, 0, 10_000_000))
    monkeypatch.setattr(library, "resident_bytes", lambda: next(readings))
    light = load_package(root / "light" / "1")
    models = Library(executor, [light], repository=ModelRepository(root), budget_bytes=1e6)
    models.begin()
    with pytest.raises(MemoryBudgetError, match=r"heavy 1 takes 10.0 MB once loaded"):
        models.load("heavy")
    assert served(executor) == {("light", "1")}


def test_the_pinned_model_is_replaced_by_what_looks_the_same_and_stays_while_a_vehicle_is_driven(
    root: Path, executor: Executor
) -> None:
    light = load_package(root / "light" / "1")
    driving = [True]
    models = Library(executor, [light], repository=ModelRepository(root), pinned="light", driving=lambda: driving[0])
    models.begin()
    models.load("light", "2")
    with pytest.raises(ModelInUseError, match="drives the vehicle"):
        models.unload("light")
    assert served(executor) == {("light", "2")}
    driving[0] = False
    models.unload("light")
    assert served(executor) == set()
    models.load("light", "1")
    assert served(executor) == {("light", "1")}
