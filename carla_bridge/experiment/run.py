"""Runs episodes on all cores and keeps each one's outcome in a file of its own, so that a stopped run goes on.

A file's name is the hash of the episode and of what it rests on: sources, scenarios, vehicles and models as they are,
and the versions of the libraries that draw and infer. So an outcome is taken again only where driving the episode anew
would give the same bytes. Files appear whole or not at all.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path

import cv2

from carla_bridge.errors import BridgeError
from carla_bridge.experiment.episode import Episode, Outcome, run_episode
from shield.vehicle import load_vehicle

RESTS_ON = (
    "carla_bridge/*.py",
    "carla_bridge/experiment/[aelos]*.py",
    "carla_bridge/models/driving/1/*",
    "carla_bridge/scenarios/*",
    "devices/*.py",
    "devices/backends/onnxruntime.py",
    "devices/package/*.py",
    "devices/profiles/drive_px2.toml",
    "headway.py",
    "offload/energy.py",
    "offload/estimate.py",
    "offload/link/*.py",
    "offload/policy/*.py",
    "offload/radio.py",
    "offload/profiles/radio.toml",
    "runtime/serve/controller.py",
    "runtime/serve/road.py",
    "runtime/serve/tracks.py",
    "shield/**/*.py",
)
"""What decides an episode, from the folder that the packages lie in."""

_LIBRARIES = ("numpy", "onnxruntime", "opencv-python-headless")


class FolderError(BridgeError):
    """The folder of the outcomes cannot be written."""

    exit_code = 78


class RunError(BridgeError):
    """An episode could not be driven, or its outcome not be kept."""

    exit_code = 1


def run_all(
    episodes: Sequence[Episode], folder: Path, jobs: int, done: Callable[[int], None] = lambda count: None
) -> list[Outcome]:
    """Return the outcome of every episode, in order; those whose file is there are not driven again.

    Args:
        episodes: What to drive.
        folder: Holds the files; made if need be.
        jobs: Processes; 1 drives in this one.
        done: Told how many more outcomes are there, also of those found.
    Raises:
        RunError: a process died.
        FolderError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"cannot make the folder {folder}: {error.strerror}") from error
    paths = {episode: folder / f"{key_of(episode)}.json" for episode in episodes}
    found = {episode: outcome for episode, path in paths.items() if (outcome := read_outcome(path)) is not None}
    done(len(found))
    missing = [episode for episode in paths if episode not in found]
    if jobs == 1 or len(missing) <= 1:
        for episode in missing:
            found[episode] = _drive(episode, paths[episode])
            done(1)
    else:
        found |= _on_processes({episode: paths[episode] for episode in missing}, jobs, done)
    return [found[episode] for episode in episodes]


def key_of(episode: Episode) -> str:
    """Return the name of an episode's file: a hash of the episode and of all it rests on."""
    parts = {
        "episode": asdict(episode),
        "vehicle": load_vehicle(episode.vehicle).fingerprint(),
        "scenario": _scenario_digest(episode.scenario),
        "sources": sources_digest(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def read_outcome(path: Path) -> Outcome | None:
    """Return the outcome in a file; None where there is none, or none that can be used."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))["outcome"]
        return Outcome(**{**table, **{name: tuple(table[name]) for name in ("bin_windows", "bin_energy_j")}})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_outcome(path: Path, episode: Episode, outcome: Outcome) -> None:
    """Write an outcome beside its episode; the file appears whole or not at all."""
    text = json.dumps({"episode": asdict(episode), "outcome": asdict(outcome)}, indent=1) + "\n"
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise FolderError(f"cannot write {path}: {error.strerror}") from error


@cache
def sources_digest() -> str:
    """Return a hash of every file and library that decides an episode."""
    root = Path(str(files("carla_bridge"))).parent
    digest = hashlib.sha256("".join(f"{name} {version(name)}\n" for name in _LIBRARIES).encode())
    paths = {path for pattern in RESTS_ON for path in root.glob(pattern) if path.is_file()}
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _scenario_digest(scenario: str) -> str:
    """Return a hash of a scenario file and the tables beside it; a shipped one is part of the sources."""
    path = Path(scenario)
    if not path.is_file():
        return ""
    beside = sorted(path.parent.glob("*.csv"))
    return hashlib.sha256(b"\0".join(item.read_bytes() for item in (path, *beside))).hexdigest()


def _drive(episode: Episode, path: Path) -> Outcome:
    outcome = run_episode(episode)
    write_outcome(path, episode, outcome)
    return outcome


def _begin() -> None:
    cv2.setNumThreads(1)


def _on_processes(
    paths: dict[Episode, Path], jobs: int, done: Callable[[int], None]
) -> Iterable[tuple[Episode, Outcome]]:
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin) as pool:
        futures = {pool.submit(_drive, episode, path): episode for episode, path in paths.items()}
        for future in futures:
            future.add_done_callback(lambda one: done(0 if one.cancelled() or one.exception() else 1))
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            return [(futures[future], future.result()) for future in futures if not future.cancelled()]
        except BrokenProcessPool as error:
            raise RunError("a process died: too little memory, or killed; run again to go on from there") from error
        finally:
            pool.shutdown(cancel_futures=True)
