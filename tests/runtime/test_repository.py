from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from devices.errors import PackageError
from runtime.execute.errors import ModelNotFoundError
from runtime.repository import ModelRepository, version_key
from tests.models import model, write_exit_package


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    root = tmp_path_factory.mktemp("repository")
    for version in ("2", "10", "1.5"):
        write_exit_package(root / "toy" / version, version=version)
    write_exit_package(root / "copied" / "1")
    (root / "empty").mkdir()
    (root / ".trash" / "1").mkdir(parents=True)
    (root / "README.txt").write_text("models")
    return ModelRepository(root)


def test_names_and_versions_newest_last(repository: ModelRepository) -> None:
    assert repository.names() == ("copied", "toy")
    assert repository.versions("toy") == ("1.5", "2", "10")


def test_the_newest_version_is_loaded_unless_one_is_named(repository: ModelRepository) -> None:
    assert repository.load("toy").version == "10"
    assert repository.load("toy", "2").version == "2"


@pytest.mark.parametrize("name", ["tow", "empty", "", ".", "..", "../toy", "toy/2", "\0"])
def test_unknown_models_are_answered_with_the_known_ones(repository: ModelRepository, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"there are \['copied', 'toy'\]"):
        repository.load(name)


def test_unknown_versions_are_answered_with_the_known_ones(repository: ModelRepository) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no version '3': there are \['1.5', '2', '10'\]"):
        repository.load("toy", "3")


def test_a_package_under_a_false_name_is_refused(repository: ModelRepository) -> None:
    with pytest.raises(PackageError, match="calls itself toy 1: must be copied 1"):
        repository.load("copied")


def test_a_plain_onnx_file_is_named_by_its_folders(tmp_path: Path) -> None:
    folder = tmp_path / "plain" / "3"
    folder.mkdir(parents=True)
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    onnx.save(model(nodes, [("x", (2, 3))], [("y", (2, 3))]), folder / "model.onnx")
    package = ModelRepository(tmp_path).load("plain")
    assert (package.name, package.version) == ("plain", "3")
    assert [spec.shape for spec in package.inputs] == [(2, 3)]


def test_a_plain_file_must_lie_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "plain" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").symlink_to("/etc/hostname")
    with pytest.raises(PackageError, match="must lie inside the package"):
        ModelRepository(tmp_path).load("plain")


def test_a_repository_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="is no folder"):
        ModelRepository(tmp_path / "nowhere")


@given(st.lists(st.integers(0, 999), min_size=1, max_size=3), st.lists(st.integers(0, 999), min_size=1, max_size=3))
def test_numbered_versions_are_ordered_by_value(left: list[int], right: list[int]) -> None:
    names = [".".join(map(str, numbers)) for numbers in (left, right)]
    assert (version_key(names[0]) < version_key(names[1])) == (left < right)


@given(st.text(), st.text())
def test_any_two_versions_can_be_ordered(left: str, right: str) -> None:
    assert isinstance(version_key(left) < version_key(right), bool)
