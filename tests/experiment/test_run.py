"""Outcomes kept in files: a stopped run goes on, whole files alone count, and other episodes have other names."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from carla_bridge.experiment import run
from carla_bridge.experiment.episode import Episode, Outcome, numbered, run_episode
from carla_bridge.experiment.run import FolderError, key_of, read_outcome, run_all

BASE = Episode(policy="uniform", limit_s=0.1)


def test_what_was_driven_is_not_driven_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = numbered(BASE, 3)
    counts: list[int] = []
    first = run_all(episodes[:2], tmp_path, 1, counts.append)
    assert counts == [0, 1, 1]
    driven = []

    def note(episode: Episode) -> Outcome:
        driven.append(episode)
        return run_episode(episode)

    monkeypatch.setattr("carla_bridge.experiment.run.run_episode", note)
    second = run_all(episodes, tmp_path, 1)
    assert driven == episodes[2:]
    assert second[:2] == first
    assert not list(tmp_path.glob("*.part"))


def test_processes_give_the_same_outcomes(tmp_path: Path) -> None:
    episodes = numbered(BASE, 2)
    assert run_all(episodes, tmp_path / "one", 1) == run_all(episodes, tmp_path / "two", 2)


def test_a_file_that_is_no_outcome_is_driven_anew(tmp_path: Path) -> None:
    outcome = run_all([BASE], tmp_path, 1)
    path = tmp_path / f"{key_of(BASE)}.json"
    whole = path.read_text()
    for damaged in (whole[:40], "[]", json.dumps({"outcome": {"windows": 3}})):
        path.write_text(damaged)
        assert read_outcome(path) is None
        assert run_all([BASE], tmp_path, 1) == outcome
        assert path.read_text() == whole


def test_names_tell_episodes_apart(tmp_path: Path) -> None:
    others = [
        replace(BASE, number=1),
        replace(BASE, seed=2),
        replace(BASE, shield=False),
        replace(BASE, link="5mbps"),
        replace(BASE, vehicle="demo"),
        replace(BASE, pass_m=6.0),
    ]
    assert len({key_of(episode) for episode in (BASE, *others)}) == 7
    assert key_of(BASE) == key_of(replace(BASE))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot make the folder"):
        run_all([BASE], tmp_path / "file" / "folder", 1)


def test_every_pattern_of_what_episodes_rest_on_finds_a_file() -> None:
    root = Path(run.__file__).parents[2]
    assert [pattern for pattern in run.RESTS_ON if not any(root.glob(pattern))] == []
